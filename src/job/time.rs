//! Moments and spans as the domain counts them.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize, Serializer};

use super::id::Malformed;

/// A moment in milliseconds since the Unix epoch; written as RFC 3339 in UTC with three decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment this many seconds later.
    pub fn after(self, span: Seconds) -> Self {
        Self(self.0.saturating_add(u64::from(span.0).saturating_mul(1000)))
    }

    fn system_time(self) -> SystemTime {
        // The year 9999 is as far as RFC 3339 goes.
        const LAST: u64 = 253_402_300_799_999;
        UNIX_EPOCH + Duration::from_millis(self.0.min(LAST))
    }
}

impl TryFrom<&str> for Timestamp {
    type Error = Malformed;

    fn try_from(text: &str) -> Result<Self, Malformed> {
        let rule = Malformed("a moment like 2026-11-23T08:00:00.123Z, not before 1970");
        let moment = humantime::parse_rfc3339(text).map_err(|_| rule.clone())?;
        let since = moment.duration_since(UNIX_EPOCH).map_err(|_| rule.clone())?;
        Ok(Self(u64::try_from(since.as_millis()).map_err(|_| rule)?))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.system_time()).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A span in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub u32);
