//! The members of a JSON object, taken one by one, so that every complaint names its member.
//!
//! Promises: a member that nobody takes, that comes twice, or that comes together with another name of the same thing
//! is refused by name. Names and values are borrowed from the text.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    error::ApiError,
    given::{Given, Text},
};

/// More than any route knows, so that a hostile object of many members is refused before they are compared.
const MEMBERS_MAX: usize = 64;

/// The members of an object that are not taken yet.
#[derive(Debug)]
pub(super) struct Members<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Members<'a> {
    /// Reads the object in a text.
    ///
    /// # Errors
    /// [`ApiError::Json`] when the text is no JSON, [`ApiError::Field`] when it is no object or has a member twice.
    pub(super) fn parse(text: &'a str) -> Result<Self, ApiError> {
        let object: Object<'a> = match serde_json::from_str(text) {
            Ok(object) => object,
            Err(error) => return Err(misfit(text, error, "Send a JSON object.")),
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
            found = Some(Given::new(name, value));
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

/// Tells a text that is no JSON from one of another shape; the sentence says which it must have.
pub(super) fn misfit(text: &str, error: serde_json::Error, sentence: &'static str) -> ApiError {
    // The first mistake need not be the only one, and what is no JSON is told so first.
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) if error.is_data() => ApiError::Shape(sentence),
        Ok(_) => no_json(error),
        Err(error) => no_json(error),
    }
}

/// What serde says of a text that is no JSON.
pub(super) fn no_json(error: serde_json::Error) -> ApiError {
    ApiError::Json(format!("The body is no JSON: {error}.").into())
}

fn twice(name: String) -> ApiError {
    let detail = format!("`{name}` is there twice; send it once.");
    ApiError::Field { field: name, detail }
}

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
}
