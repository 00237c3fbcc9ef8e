//! One member of a JSON object, and what can be made of its value.
//!
//! Promises: a value is parsed once, as the type that is asked for; every complaint names the member.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{error::ApiError, members::Members};
use crate::job::{Json, Malformed};

/// A member that was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    /// Its name, as the client wrote it.
    pub(super) name: &'static str,
    value: &'a RawValue,
}

impl<'a> Given<'a> {
    /// A member found by other means.
    pub(super) fn new(name: &'static str, value: &'a RawValue) -> Self {
        Self { name, value }
    }

    /// Its JSON text.
    pub(super) fn text(self) -> &'a str {
        self.value.get()
    }

    /// Whether it is null.
    pub(super) fn is_null(self) -> bool {
        self.text() == "null"
    }

    /// A complaint about it; the rule completes "must be ...".
    pub(super) fn refused(self, rule: impl fmt::Display) -> ApiError {
        ApiError::field(self.name, rule)
    }

    /// What serde says of a value that JSON numbers or strings cannot mean.
    pub(super) fn no_json(self, error: &serde_json::Error) -> ApiError {
        // Its place is within the value, and would mislead.
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        ApiError::Json(format!("The value of `{}` is no JSON: {reason}.", self.name).into())
    }

    /// The string it is.
    pub(super) fn string(self) -> Result<Cow<'a, str>, ApiError> {
        if !self.text().starts_with('"') {
            return Err(self.refused("a string"));
        }
        Ok(serde_json::from_str::<Text<'a>>(self.text()).map_err(|error| self.no_json(&error))?.0)
    }

    /// What its string stands for.
    pub(super) fn parse<T>(self) -> Result<T, ApiError>
    where
        T: for<'t> TryFrom<&'t str, Error = Malformed>,
    {
        T::try_from(&self.string()?).map_err(|Malformed(rule)| self.refused(rule))
    }

    /// The number it is.
    pub(super) fn number(self) -> Result<f64, ApiError> {
        if !self.text().starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Err(self.refused("a number"));
        }
        serde_json::from_str(self.text()).map_err(|error| self.no_json(&error))
    }

    /// The whole number it is, in whatever way it is written, within these bounds.
    pub(super) fn integer<T>(self, range: RangeInclusive<T>) -> Result<T, ApiError>
    where
        T: Copy + fmt::Display + PartialOrd + TryFrom<i64>,
    {
        let number = match serde_json::from_str::<i64>(self.text()) {
            Ok(number) => Some(number),
            Err(_) => Some(self.number()?).filter(|number| number.fract() == 0.0).and_then(exactly),
        };
        let number = number.and_then(|number| T::try_from(number).ok()).filter(|number| range.contains(number));
        let rule = || format!("a whole number from {} to {}", range.start(), range.end());
        number.ok_or_else(|| self.refused(rule()))
    }

    /// Any JSON, as a tree.
    pub(super) fn value(self) -> Result<Value, ApiError> {
        serde_json::from_str(self.text()).map_err(|error| self.no_json(&error))
    }

    /// Any JSON, in compact form.
    pub(super) fn json(self) -> Result<Json, ApiError> {
        Json::try_from(&self.value()?).map_err(|error| self.no_json(&error))
    }

    /// The strings it is: one, or an array of them.
    pub(super) fn strings(self) -> Result<Vec<Cow<'a, str>>, ApiError> {
        match self.text().as_bytes().first() {
            Some(b'"') => Ok(vec![self.string()?]),
            Some(b'[') => {
                let strings: Result<Vec<Text<'a>>, _> = serde_json::from_str(self.text());
                match strings {
                    Ok(strings) => Ok(strings.into_iter().map(|Text(text)| text).collect()),
                    Err(error) if error.is_data() => Err(self.refused("an array of strings")),
                    Err(error) => Err(self.no_json(&error)),
                }
            }
            Some(_) | None => Err(self.refused("a string or an array of strings")),
        }
    }

    /// The members of the object it is.
    pub(super) fn object(self) -> Result<Members<'a>, ApiError> {
        if !self.text().starts_with('{') {
            return Err(self.refused("an object"));
        }
        Members::parse(self.text())
    }
}

/// A number without a fraction as an integer, if a double can tell it from its neighbours.
fn exactly(number: f64) -> Option<i64> {
    const LAST: f64 = 9_007_199_254_740_991.0;
    (number.abs() <= LAST).then_some(number as i64)
}

/// A string, borrowed if it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: ApiError) -> (String, u16) {
        let problem = error.problem();
        (problem.field.unwrap_or_default(), problem.code.status().as_u16())
    }

    #[test]
    fn numbers_must_be_in_range_of_their_type_and_their_bounds() {
        let integer = |text: &str| {
            let text = format!(r#"{{"n":{text}}}"#);
            Members::parse(&text).unwrap().require("n").unwrap().integer(1_u32..=86_400).map_err(refused)
        };
        assert_eq!(integer("60"), Ok(60));
        assert_eq!(integer("60.0"), Ok(60));
        assert_eq!(integer("6e1"), Ok(60));
        for unfit in ["0", "-1", "86401", "60.5", "1e300", "99999999999999999999", "\"60\"", "true", "null", "[]"] {
            assert_eq!(integer(unfit), Err(("n".into(), 422)), "{unfit}");
        }
        assert_eq!(integer("1e400").unwrap_err().1, 400);
    }

    #[test]
    fn values_keep_their_meaning_and_lose_their_spaces() {
        let mut members = Members::parse(r#"{"v": {"b": [1, 2.50],  "a": "\u0000"}, "big": [1e400]}"#).unwrap();
        assert_eq!(members.require("v").unwrap().json().unwrap().as_str(), r#"{"b":[1,2.5],"a":"\u0000"}"#);
        assert_eq!(refused(members.require("big").unwrap().json().unwrap_err()).1, 400);
    }
}
