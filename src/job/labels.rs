//! Labels: what lists and feeds filter by.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer};

use super::{
    id::{Malformed, is_name},
    state::is_short_text,
};

/// Name of a label: 1-64 characters of a-z 0-9 . _ -.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct LabelKey(Arc<str>);

/// Value of a label: up to 256 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct LabelValue(Arc<str>);

/// The labels of a job, at most [`Labels::MAX`]. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Option<Arc<BTreeMap<LabelKey, LabelValue>>>);

impl Labels {
    /// How many labels a job may have.
    pub const MAX: usize = 16;

    /// In the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&LabelKey, &LabelValue)> {
        self.0.iter().flat_map(|labels| labels.iter())
    }

    /// Whether the job has this very label.
    pub fn has(&self, key: &LabelKey, value: &LabelValue) -> bool {
        self.0.as_ref().is_some_and(|labels| labels.get(key) == Some(value))
    }

    /// The labels as a map of their own.
    pub(super) fn to_map(&self) -> BTreeMap<LabelKey, LabelValue> {
        self.0.as_deref().cloned().unwrap_or_default()
    }
}

impl TryFrom<BTreeMap<LabelKey, LabelValue>> for Labels {
    type Error = Malformed;

    fn try_from(labels: BTreeMap<LabelKey, LabelValue>) -> Result<Self, Malformed> {
        match labels.len() {
            0 => Ok(Self(None)),
            1..=Self::MAX => Ok(Self(Some(Arc::new(labels)))),
            _ => Err(Malformed("at most 16 labels")),
        }
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl LabelKey {
    /// The key as clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for LabelKey {
    type Error = Malformed;

    fn try_from(text: &str) -> Result<Self, Malformed> {
        if is_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed("an object whose keys are 1 to 64 characters of a-z 0-9 . _ -"))
        }
    }
}

impl LabelValue {
    /// The value as clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for LabelValue {
    type Error = Malformed;

    fn try_from(text: &str) -> Result<Self, Malformed> {
        if is_short_text(text) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed("at most 256 bytes of text without control characters"))
        }
    }
}
