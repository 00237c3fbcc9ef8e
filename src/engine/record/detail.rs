//! The cold part of a job.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::{
    engine::EngineError,
    job::{Job, JobId, JobKey, Json, Kind, LabelKey, LabelValue, Labels, Malformed, Seconds, Spec, Tenant, Timestamp},
};

/// The cold part of a job: what it was created with, and what changes a few times in its life.
#[derive(Serialize, Deserialize)]
pub(in crate::engine) struct Detail<'a> {
    id: Cow<'a, str>,
    kind: Cow<'a, str>,
    priority: i32,
    max_attempts: u32,
    lease_seconds: Option<u32>,
    timeout_seconds: Option<u32>,
    queue_ttl_seconds: Option<u32>,
    cancel_grace_seconds: Option<u32>,
    retain_seconds: Option<u32>,
    created_at: u64,
    labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    error: Option<Cow<'a, str>>,
}

impl<'a> Detail<'a> {
    pub(in crate::engine) fn of(job: &'a Job) -> Self {
        let spec = &job.spec;
        let seconds = |span: Option<Seconds>| span.map(|span| span.0);
        Self {
            id: spec.key.id.as_str().into(),
            kind: spec.kind.as_str().into(),
            priority: spec.priority,
            max_attempts: spec.max_attempts,
            lease_seconds: seconds(spec.lease_seconds),
            timeout_seconds: seconds(spec.timeout_seconds),
            queue_ttl_seconds: seconds(spec.queue_ttl_seconds),
            cancel_grace_seconds: seconds(spec.cancel_grace_seconds),
            retain_seconds: seconds(spec.retain_seconds),
            created_at: spec.created_at.0,
            labels: job.labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
            error: job.error.as_ref().map(|error| error.as_str().into()),
        }
    }

    pub(super) fn parts(self, number: u64, tenant: Tenant) -> Result<(Spec, Labels, Option<Json>), EngineError> {
        let damaged = |what: &str| EngineError::Corrupt(format!("details {number}: {what}"));
        let seconds = |span: Option<u32>| span.map(Seconds);
        let id = JobId::try_from(&*self.id).map_err(|_| damaged("id"))?;
        let labels = labels(&self.labels);
        let error = self.error.map(|text| Json::from_text(text.into_owned())).transpose();
        let spec = Spec {
            key: JobKey { tenant, id },
            kind: Kind::try_from(&*self.kind).map_err(|_| damaged("kind"))?,
            priority: self.priority,
            max_attempts: self.max_attempts,
            lease_seconds: seconds(self.lease_seconds),
            timeout_seconds: seconds(self.timeout_seconds),
            queue_ttl_seconds: seconds(self.queue_ttl_seconds),
            cancel_grace_seconds: seconds(self.cancel_grace_seconds),
            retain_seconds: seconds(self.retain_seconds),
            created_at: Timestamp(self.created_at),
        };
        Ok((spec, labels.map_err(|_| damaged("labels"))?, error.map_err(|_| damaged("error"))?))
    }
}

/// Labels from their texts.
pub(in crate::engine) fn labels<T: AsRef<str>>(texts: &[(T, T)]) -> Result<Labels, Malformed> {
    let label = |(key, value): &(T, T)| Ok((LabelKey::try_from(key.as_ref())?, LabelValue::try_from(value.as_ref())?));
    texts.iter().map(label).collect::<Result<BTreeMap<_, _>, _>>().and_then(Labels::try_from)
}
