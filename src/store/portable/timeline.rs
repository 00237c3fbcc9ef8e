//! The timeline of a job in the record of an export.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::record::{BadMember, Moment, worker};
use crate::job::{Actor, Attempt, Stage, Status, TimelineEnd, TimelineEntry, TimelineEvent};

/// What happened to a job.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimelineRecord<'a> {
    dropped: u64,
    #[serde(default)]
    stages: u32,
    #[serde(default)]
    stage_at: Option<Moment>,
    #[serde(default)]
    is_behind: bool,
    #[serde(borrow)]
    entries: Vec<EntryRecord<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryRecord<'a> {
    at: Moment,
    #[serde(borrow)]
    event: Cow<'a, str>,
    attempt: Attempt,
    status: Status,
    #[serde(borrow)]
    stage: Option<Cow<'a, str>>,
    #[serde(borrow)]
    by: Cow<'a, str>,
    #[serde(borrow)]
    worker: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

impl<'a> TimelineRecord<'a> {
    pub(super) fn new(end: TimelineEnd, entries: &'a [TimelineEntry]) -> Self {
        let TimelineEnd { count, stages, stage_at, is_behind } = end;
        let dropped = count.saturating_sub(entries.len() as u64);
        let entries = entries.iter().map(EntryRecord::new).collect();
        Self { dropped, stages, stage_at: stage_at.map(Moment), is_behind, entries }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dropped == 0 && self.entries.is_empty()
    }

    /// The timeline of a job.
    pub(super) fn into_timeline(self) -> Result<(TimelineEnd, Vec<TimelineEntry>), BadMember> {
        let entries = self.entries.into_iter().map(EntryRecord::into_entry).collect::<Result<Vec<_>, _>>()?;
        let count = self.dropped.checked_add(entries.len() as u64);
        let count = count.ok_or_else(|| BadMember::new("dropped", "a number of entries"))?;
        let Self { stages, is_behind, .. } = self;
        let stage_at = self.stage_at.map(|at| at.0);
        Ok((TimelineEnd { count, stages, stage_at, is_behind }, entries))
    }
}

impl<'a> EntryRecord<'a> {
    fn new(entry: &'a TimelineEntry) -> Self {
        let TimelineEntry { at, event, attempt, status, stage, actor, reason } = entry;
        let text = |stage: &'a Option<Stage>| stage.as_ref().map(|stage| stage.as_str().into());
        Self {
            at: Moment(*at),
            event: event.as_str().into(),
            attempt: *attempt,
            status: *status,
            stage: text(stage),
            by: actor.as_str().into(),
            worker: actor.worker().map(Into::into),
            reason: text(reason),
        }
    }

    fn into_entry(self) -> Result<TimelineEntry, BadMember> {
        let event = TimelineEvent::ALL.into_iter().find(|event| event.as_str() == self.event);
        let actor = match (&*self.by, self.worker) {
            ("client", None) => Actor::Client,
            ("worker", name) => Actor::Worker(worker(name)?),
            ("service", None) => Actor::Service,
            _ => return Err(BadMember::new("by", "one of client, worker, service")),
        };
        let text = |text: Option<Cow<'_, str>>| text.as_deref().map(Stage::try_from).transpose();
        Ok(TimelineEntry {
            at: self.at.0,
            event: event.ok_or_else(|| BadMember::new("event", "one of a timeline"))?,
            attempt: self.attempt,
            status: self.status,
            stage: text(self.stage).map_err(BadMember::of("stage"))?,
            actor,
            reason: text(self.reason).map_err(BadMember::of("reason"))?,
        })
    }
}
