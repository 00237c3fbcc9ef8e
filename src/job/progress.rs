//! How far an attempt has come.

use serde::{Serialize, Serializer};

use super::id::Malformed;

/// Progress in percent, 0 to 100, kept in hundredths; written as an integer when it is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress(u16);

impl Progress {
    /// Nothing done yet.
    pub const ZERO: Self = Self(0);
    /// All done.
    pub const FULL: Self = Self(100 * 100);

    /// Whole percents reached, rounded down.
    pub fn whole_percent(self) -> u16 {
        self.0 / 100
    }

    /// Progress in hundredths of a percent, 0 to 10,000.
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// Progress from hundredths of a percent.
    ///
    /// # Errors
    /// Over 10,000.
    pub fn from_hundredths(hundredths: u16) -> Result<Self, Malformed> {
        if hundredths <= Self::FULL.0 { Ok(Self(hundredths)) } else { Err(Malformed("at most 10,000 hundredths")) }
    }
}

impl TryFrom<f64> for Progress {
    type Error = Malformed;

    /// Rounds to two decimals; refuses what lies outside 0..=100, NaN included.
    fn try_from(percent: f64) -> Result<Self, Malformed> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(Malformed("a number from 0 to 100"));
        }
        // In range, so the cast neither wraps nor cuts a sign.
        Ok(Self((percent * 100.0).round() as u16))
    }
}

impl Serialize for Progress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u16(self.0 / 100)
        } else {
            serializer.serialize_f64(f64::from(self.0) / 100.0)
        }
    }
}
