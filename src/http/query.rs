//! Query parameters, with complaints like those about members of a body.
//!
//! Promises: a parameter that is unknown, malformed or given twice is refused by name and never silently ignored.

use std::borrow::Cow;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{bounds::Bounds, context::Context, error::ApiError};
use crate::job::{Attempt, Malformed, digits};

/// What can be made of query parameters.
pub(super) trait FromParams: Sized {
    /// Takes what it knows and leaves the rest.
    fn from_params(params: &mut Params<'_>, bounds: &Bounds) -> Result<Self, ApiError>;
}

/// The parameters of a route, parsed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: FromParams> FromRequestParts<Context> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        parse(parts.uri.query().unwrap_or_default(), context.bounds()).map(Self)
    }
}

/// What is made of the text that follows the question mark.
pub(super) fn parse<T: FromParams>(query: &str, bounds: &Bounds) -> Result<T, ApiError> {
    let mut params = Params::parse(query)?;
    let value = T::from_params(&mut params, bounds)?;
    params.finish()?;
    Ok(value)
}

/// No parameters at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nothing;

impl FromParams for Nothing {
    fn from_params(_: &mut Params<'_>, _: &Bounds) -> Result<Self, ApiError> {
        Ok(Self)
    }
}

/// The parameters that are not taken yet.
#[derive(Debug)]
pub(super) struct Params<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Params<'a> {
    /// Reads what follows the question mark.
    pub(super) fn parse(query: &'a str) -> Result<Self, ApiError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let refused = || ApiError::field(String::from_utf8_lossy(name.as_bytes()), "percent-encoded UTF-8");
            Ok::<_, ApiError>((decode(name).ok_or_else(refused)?, decode(value).ok_or_else(refused)?))
        });
        Ok(Self { pairs: pairs.collect::<Result<_, _>>()? })
    }

    /// Takes every value of a parameter.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<Cow<'a, str>> {
        self.pairs.extract_if(.., |(parameter, _)| parameter == name).map(|(_, value)| value).collect()
    }

    /// Takes a parameter that may be given once.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, ApiError> {
        let Some(place) = self.pairs.iter().position(|(parameter, _)| parameter == name) else { return Ok(None) };
        let (_, value) = self.pairs.swap_remove(place);
        if self.pairs.iter().any(|(parameter, _)| parameter == name) {
            return Err(ApiError::field(name, "given once"));
        }
        Ok(Some(value))
    }

    /// Takes what a parameter stands for.
    pub(super) fn parse_one<T>(&mut self, name: &str) -> Result<Option<T>, ApiError>
    where
        T: for<'t> TryFrom<&'t str, Error = Malformed>,
    {
        let parsed = self.take(name)?.map(|text| T::try_from(&text));
        parsed.transpose().map_err(|Malformed(rule)| ApiError::field(name, rule))
    }

    /// Takes a whole number, written in digits, that is no less than the first bound and no more than the second.
    pub(super) fn number(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let number = digits(&text).filter(|number| (least..=most).contains(number));
        let rule = || ApiError::field(name, format_args!("a whole number from {least} to {most}"));
        number.map(Some).ok_or_else(rule)
    }

    /// Takes the fencing token.
    pub(super) fn attempt(&mut self) -> Result<Option<Attempt>, ApiError> {
        let number = self.number("attempt", 1, u32::MAX.into())?;
        Ok(number.and_then(|number| u32::try_from(number).ok()).map(Attempt))
    }

    /// Refuses whatever was not taken.
    fn finish(self) -> Result<(), ApiError> {
        match self.pairs.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let detail =
                    format!("There is no parameter `{name}` here; take it out, or see /docs for those there are.");
                Err(ApiError::Field { field: name.into_owned(), detail })
            }
        }
    }
}

/// Undoes the encoding of forms: plus signs are spaces, and `%` begins two hexadecimal digits.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(text.into());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            _ => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_strictly() {
        assert_eq!(decode("a%2Fb+c").as_deref(), Some("a/b c"));
        assert_eq!(decode("%c3%A4").as_deref(), Some("ä"));
        for broken in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn numbers_are_digits_within_their_bounds() {
        let number = |query| Params::parse(query).unwrap().number("limit", 1, 500).ok().flatten();
        assert_eq!(number("limit=500"), Some(500));
        for unfit in ["limit=0", "limit=501", "limit=1e9", "limit=-1", "limit=+1", "limit=", "limit", "limit=1&limit=1"]
        {
            assert_eq!(number(unfit), None, "{unfit}");
        }
    }

    #[test]
    fn what_nobody_takes_is_named() {
        let mut params = Params::parse("a=1&&b").unwrap();
        params.take("a").unwrap();
        assert_eq!(params.finish().unwrap_err().problem().field.as_deref(), Some("b"));
    }
}
