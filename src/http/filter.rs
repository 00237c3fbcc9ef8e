//! Which jobs somebody asks for, in the words that lists and feeds have in common.

use utoipa::{
    IntoParams,
    openapi::{
        Ref,
        path::{Parameter, ParameterIn},
    },
};

use super::{
    error::ApiError,
    openapi::{several, string},
    query::Params,
};
use crate::job::{Kind, LabelKey, LabelValue, Malformed, Status};

/// Which jobs; what is empty lets all through.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub(super) status: Vec<Status>,
    pub(super) kind: Vec<Kind>,
    pub(super) label: Vec<(LabelKey, LabelValue)>,
}

impl IntoParams for Filter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let status = "Only jobs in one of these statuses; repeated or separated by commas.";
        let kind = "Only jobs of one of these kinds; repeated or separated by commas.";
        let label = "Only jobs with this label, as `key:value`; repeated: with all of them.";
        vec![
            several("status", status, Ref::from_schema_name("Status")),
            several("kind", kind, string("^[a-z0-9._-]{1,64}$")),
            several("label", label, string("^[a-z0-9._-]{1,64}:[^\\u0000-\\u001f\\u007f-\\u009f]{0,256}$")),
        ]
    }
}

impl Filter {
    /// Takes what a query says of them.
    pub(super) fn take(params: &mut Params<'_>) -> Result<Self, ApiError> {
        let (status, kind) = (once(words(params, "status")?), once(words(params, "kind")?));
        let label = params.take_all("label").iter().map(|text| label(text)).collect::<Result<_, _>>()?;
        Ok(Self { status, kind, label })
    }

    /// Whether it lets all through.
    pub(super) fn is_empty(&self) -> bool {
        self.status.is_empty() && self.kind.is_empty() && self.label.is_empty()
    }
}

/// Takes the words of a parameter that is repeated, or has commas between them.
pub(super) fn words<T>(params: &mut Params<'_>, name: &str) -> Result<Vec<T>, ApiError>
where
    T: for<'t> TryFrom<&'t str, Error = Malformed>,
{
    let values = params.take_all(name);
    let words = values.iter().flat_map(|value| value.split(','));
    words.map(|word| T::try_from(word).map_err(|Malformed(rule)| ApiError::field(name, rule))).collect()
}

/// Each word once: whoever says one twice, or in two ways, means the same jobs.
fn once<T: Ord>(mut words: Vec<T>) -> Vec<T> {
    words.sort_unstable();
    words.dedup();
    words
}

fn label(text: &str) -> Result<(LabelKey, LabelValue), ApiError> {
    let refused = || ApiError::field("label", "a key and a value of a label, as `key:value`");
    let (key, value) = text.split_once(':').ok_or_else(refused)?;
    let key = LabelKey::try_from(key).map_err(|_| refused())?;
    Ok((key, LabelValue::try_from(value).map_err(|_| refused())?))
}
