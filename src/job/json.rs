//! Values that belong to clients: kept as compact text, compared by meaning.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};

/// A JSON value of a client in compact form, cheap to clone and encoded only once.
#[derive(Clone, Debug)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// The compact text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The compact text as a part that other JSON can be built around.
    pub fn as_raw(&self) -> &RawValue {
        &self.0
    }

    /// The value as a tree.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.as_str()).unwrap_or(Value::Null)
    }

    /// Takes text that is known to be JSON, as a store keeps it.
    pub fn from_text(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(|raw| Self(raw.into()))
    }
}

impl TryFrom<&Value> for Json {
    type Error = serde_json::Error;

    fn try_from(value: &Value) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(|raw| Self(raw.into()))
    }
}

impl PartialEq for Json {
    /// Whether both mean the same; the order of members does not matter.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.as_str() == other.as_str() || self.to_value() == other.to_value()
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Applies a JSON merge patch (RFC 7396) to a value.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(object) = target else { return };
    for (name, member) in members {
        if member.is_null() {
            object.shift_remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_what_they_are_however_often_they_are_read() {
        for number in ["9007199254740993199254740073709551615", "4.9406564584124654e-324", "0.1", "-0.0", "1e300"] {
            let value = |text: &str| Json::try_from(&serde_json::from_str(text).unwrap()).unwrap();
            let once = value(number);
            assert_eq!(value(once.as_str()).as_str(), once.as_str(), "{number}");
            assert_eq!(once.as_str().parse::<f64>().unwrap(), number.parse::<f64>().unwrap(), "{number}");
        }
    }
}
