//! The members of a JSON object, taken one by one, so that every complaint names its member.
//!
//! Promises: what is taken has the type asked for; a member that nobody takes, that comes twice, or that comes together
//! with another name of the same thing is refused by name. Values are borrowed and each is parsed once.
//! Knows nothing of jobs but the rule that breaks a value of theirs.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::error::ApiError;
use crate::job::{Json, Malformed};

/// More than any route knows, so that a hostile object of many members is refused before they are compared.
const MEMBERS_MAX: usize = 64;

/// The members of an object that are not taken yet.
#[derive(Debug)]
pub(super) struct Members<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// A member that was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    /// Its name, as the client wrote it.
    pub(super) name: &'static str,
    value: &'a RawValue,
}

impl<'a> Members<'a> {
    /// Reads the object in a text.
    ///
    /// # Errors
    /// [`ApiError::Json`] when the text is no JSON, [`ApiError::Field`] when it is no object or has a member twice.
    pub(super) fn parse(text: &'a str) -> Result<Self, ApiError> {
        let object: Object<'a> = match serde_json::from_str(text) {
            Ok(object) => object,
            Err(error) if error.is_data() => {
                // The first mistake need not be the only one, and what is no JSON is told so first.
                serde_json::from_str::<&RawValue>(text).map_err(no_json)?;
                return Err(ApiError::Shape("Send a JSON object."));
            }
            Err(error) => return Err(no_json(error)),
        };
        match object.refused {
            None => Ok(Self { members: object.members }),
            Some(name) if object.members.len() >= MEMBERS_MAX => {
                let detail = format!("An object here has at most {MEMBERS_MAX} members; `{name}` is one too many.");
                Err(ApiError::Field { field: name, detail })
            }
            Some(name) => Err(twice(name)),
        }
    }

    /// Takes the one member that has any of these names; null is given, too.
    ///
    /// # Errors
    /// [`ApiError::Field`] when there are two.
    pub(super) fn take(&mut self, names: &[&'static str]) -> Result<Option<Given<'a>>, ApiError> {
        let mut found: Option<Given<'a>> = None;
        for &name in names {
            let Some(place) = self.members.iter().position(|(member, _)| member == name) else { continue };
            let (_, value) = self.members.swap_remove(place);
            if let Some(other) = found {
                let detail = format!("`{}` and `{name}` are the same thing; send one of them.", other.name);
                return Err(ApiError::Field { field: name.to_owned(), detail });
            }
            found = Some(Given { name, value });
        }
        Ok(found)
    }

    /// As [`Members::take`], where null says the same as nothing.
    pub(super) fn take_some(&mut self, names: &[&'static str]) -> Result<Option<Given<'a>>, ApiError> {
        Ok(self.take(names)?.filter(|given| !given.is_null()))
    }

    /// Takes a member that must be there.
    pub(super) fn require(&mut self, name: &'static str) -> Result<Given<'a>, ApiError> {
        self.take(&[name])?
            .ok_or_else(|| ApiError::Field { field: name.to_owned(), detail: format!("`{name}` is missing.") })
    }

    /// Refuses the members that another route sets, with a pointer to it.
    pub(super) fn refuse(&self, elsewhere: &[(&str, &str)]) -> Result<(), ApiError> {
        for (member, _) in &self.members {
            if let Some((name, hint)) = elsewhere.iter().find(|(name, _)| member == name) {
                return Err(ApiError::Field { field: (*name).to_owned(), detail: format!("`{name}` {hint}") });
            }
        }
        Ok(())
    }

    /// Refuses whatever was not taken.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.members.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let detail =
                    format!("There is no member `{name}` here; take it out, or see /docs for those there are.");
                Err(ApiError::Field { field: name.into_owned(), detail })
            }
        }
    }

    /// Takes all that is left, each with its name.
    pub(super) fn into_rest(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        self.members.into_iter()
    }
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

    /// The string it is.
    pub(super) fn string(self) -> Result<Cow<'a, str>, ApiError> {
        if !self.text().starts_with('"') {
            return Err(self.refused("a string"));
        }
        Ok(serde_json::from_str::<Text<'a>>(self.text()).map_err(no_json)?.0)
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
        serde_json::from_str(self.text()).map_err(no_json)
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
        serde_json::from_str(self.text()).map_err(no_json)
    }

    /// Any JSON, in compact form.
    pub(super) fn json(self) -> Result<Json, ApiError> {
        Json::try_from(&self.value()?).map_err(no_json)
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
                    Err(error) => Err(no_json(error)),
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

/// What serde says of a text that is no JSON, or of a value that JSON numbers or strings cannot mean.
pub(super) fn no_json(error: serde_json::Error) -> ApiError {
    ApiError::Json(format!("The body is no JSON: {error}.").into())
}

fn twice(name: String) -> ApiError {
    let detail = format!("`{name}` is there twice; send it once.");
    ApiError::Field { field: name, detail }
}

/// A number without a fraction as an integer, if a double can tell it from its neighbours.
fn exactly(number: f64) -> Option<i64> {
    const LAST: f64 = 9_007_199_254_740_991.0;
    (number.abs() <= LAST).then_some(number as i64)
}

/// A string, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object as it was sent, and the first member that may not be there.
struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    refused: Option<String>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut object = Object { members: Vec::with_capacity(8), refused: None };
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if object.refused.is_some() {
                        continue;
                    }
                    let again = object.members.iter().any(|(member, _)| *member == name);
                    if again || object.members.len() >= MEMBERS_MAX {
                        object.refused = Some(name.into_owned());
                    } else {
                        object.members.push((name, value));
                    }
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: ApiError) -> (String, u16) {
        let problem = error.problem();
        (problem.field.unwrap_or_default(), problem.code.status().as_u16())
    }

    #[test]
    fn members_are_taken_by_any_of_their_names_but_one() {
        let mut members = Members::parse(r#"{"progress": 12.5, "b": 1}"#).unwrap();
        let progress = members.take(&["progress_pct", "progress"]).unwrap().unwrap();
        assert_eq!(progress.number().unwrap(), 12.5);
        assert_eq!(refused(members.finish().unwrap_err()), ("b".into(), 422));
        let mut both = Members::parse(r#"{"progress": 1, "progress_pct": 1}"#).unwrap();
        let error = both.take(&["progress_pct", "progress"]).unwrap_err();
        assert!(error.problem().detail.contains("`progress_pct` and `progress`"));
    }

    #[test]
    fn a_member_that_comes_twice_is_refused_by_name_however_it_is_spelt() {
        assert_eq!(refused(Members::parse(r#"{"status":1,"st\u0061tus":2}"#).unwrap_err()), ("status".into(), 422));
        let many: Vec<_> = (0..100).map(|n| format!(r#""m{n}":0"#)).collect();
        assert_eq!(refused(Members::parse(&format!("{{{}}}", many.join(","))).unwrap_err()), ("m64".into(), 422));
    }

    #[test]
    fn what_is_no_json_is_told_from_what_is_no_object() {
        assert_eq!(refused(Members::parse("[1]").unwrap_err()).1, 422);
        assert_eq!(refused(Members::parse("\"text\"").unwrap_err()).1, 422);
        assert_eq!(refused(Members::parse("[1").unwrap_err()).1, 400);
        assert_eq!(refused(Members::parse("{\"a\":NaN}").unwrap_err()).1, 400);
        assert_eq!(refused(Members::parse("{} x").unwrap_err()).1, 400);
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
