//! A job in the ledger: its model, and what the model leaves out.

use serde_json::{Value, json};

use super::past::Past;
use crate::model::{
    plain::{Model, counted},
    words::Request,
};

/// A job that stands.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) model: Model,
    pub(super) past: Past,
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) priority: i32,
    pub(super) input: Option<Value>,
    /// The how many-th job it is of all that were made.
    pub(super) nth: usize,
    pub(super) last_patch: Option<Request>,
}

impl Entry {
    /// The document of the job, without log lines.
    pub(super) fn document(&self) -> Value {
        let mut document = self.model.document();
        document["id"] = json!(self.id);
        document["kind"] = json!(self.kind);
        document["priority"] = json!(self.priority);
        document
    }

    /// What tells more than it did if it is another.
    pub(super) fn news(&self) -> Value {
        let mut news = counted(self.document());
        news["log_count"] = Value::Null;
        news
    }

    /// Whether something is due of it by now, as its document and the terms that it was made with have it.
    pub(super) fn is_due(&self, now: u64) -> bool {
        let after = |at: u64, span: Option<u32>| span.map(|span| at + u64::from(span) * 1000);
        let model = &self.model;
        let moments = match model.status {
            "queued" => [after(model.queued_at, model.rules.queue_ttl_seconds), None, None],
            "processing" => {
                let slow = model.started_at.and_then(|at| after(at, model.rules.timeout_seconds));
                [model.lease_expires_at, model.cancel_by, slow]
            }
            _ => [model.expires_at, None, None],
        };
        moments.into_iter().flatten().any(|at| at <= now)
    }
}
