//! Which jobs somebody asks for, in the words that lists and feeds have in common.

use utoipa::openapi::schema::{Array, ArrayBuilder, ObjectBuilder, Type};

use super::{error::ApiError, query::Params};
use crate::job::{Kind, LabelKey, LabelValue, Malformed, Status};

/// Takes the statuses; none: all.
pub(super) fn statuses(params: &mut Params<'_>) -> Result<Vec<Status>, ApiError> {
    words(params, "status")
}

/// Takes the kinds; none: all.
pub(super) fn kinds(params: &mut Params<'_>) -> Result<Vec<Kind>, ApiError> {
    words(params, "kind")
}

/// Takes the labels, all of which a job must have.
pub(super) fn labels(params: &mut Params<'_>) -> Result<Vec<(LabelKey, LabelValue)>, ApiError> {
    params.take_all("label").iter().map(|text| label(text)).collect()
}

/// How kinds are given.
pub(super) fn kinds_schema() -> Array {
    strings("^[a-z0-9._-]{1,64}$")
}

/// How labels are given.
pub(super) fn labels_schema() -> Array {
    strings("^[a-z0-9._-]{1,64}:[^\\u0000-\\u001f\\u007f-\\u009f]{0,256}$")
}

/// At least one string of this form.
pub(super) fn strings(pattern: &str) -> Array {
    let string = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    ArrayBuilder::new().items(string).min_items(Some(1)).build()
}

fn words<T>(params: &mut Params<'_>, name: &str) -> Result<Vec<T>, ApiError>
where
    T: for<'t> TryFrom<&'t str, Error = Malformed>,
{
    let values = params.take_all(name);
    let words = values.iter().flat_map(|value| value.split(','));
    words.map(|word| T::try_from(word).map_err(|Malformed(rule)| ApiError::field(name, rule))).collect()
}

fn label(text: &str) -> Result<(LabelKey, LabelValue), ApiError> {
    let refused = || ApiError::field("label", "a key and a value of a label, as `key:value`");
    let (key, value) = text.split_once(':').ok_or_else(refused)?;
    let key = LabelKey::try_from(key).map_err(|_| refused())?;
    Ok((key, LabelValue::try_from(value).map_err(|_| refused())?))
}
