//! Entries of a timeline.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Table, damaged, status_of};
use crate::{
    engine::EngineError,
    job::{Actor, Attempt, Stage, TimelineEntry, TimelineEvent, Timestamp},
};

/// Entries in one row: what one commit adds beyond that makes more of them.
pub(in crate::engine) const ROW_ENTRIES: usize = 64;

/// An entry as it is stored.
#[derive(Serialize, Deserialize)]
pub(in crate::engine) struct EntryRow<'a> {
    at: u64,
    /// Its place in `TimelineEvent::ALL`.
    event: u8,
    attempt: u32,
    status: u8,
    #[serde(borrow)]
    stage: Option<Cow<'a, str>>,
    #[serde(borrow)]
    actor: ActorRow<'a>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
enum ActorRow<'a> {
    Client,
    Worker(#[serde(borrow)] Option<Cow<'a, str>>),
    Service,
}

impl<'a> EntryRow<'a> {
    pub(in crate::engine) fn of(entry: &'a TimelineEntry) -> Self {
        let TimelineEntry { at, event, attempt, status, stage, actor, reason } = entry;
        let text = |stage: &'a Option<Stage>| stage.as_ref().map(|stage| stage.as_str().into());
        Self {
            at: at.0,
            event: TimelineEvent::ALL.iter().position(|known| known == event).unwrap_or_default() as u8,
            attempt: attempt.0,
            status: *status as u8,
            stage: text(stage),
            actor: match actor {
                Actor::Client => ActorRow::Client,
                Actor::Worker(name) => ActorRow::Worker(name.as_deref().map(Cow::from)),
                Actor::Service => ActorRow::Service,
            },
            reason: text(reason),
        }
    }

    pub(in crate::engine) fn entry(self, row: u64) -> Result<TimelineEntry, EngineError> {
        let damaged = |what: &str| damaged(Table::TimelineRows, row, what);
        let text = |text: Option<Cow<'_, str>>| text.as_deref().map(Stage::try_from).transpose();
        Ok(TimelineEntry {
            at: Timestamp(self.at),
            event: *TimelineEvent::ALL.get(usize::from(self.event)).ok_or_else(|| damaged("event"))?,
            attempt: Attempt(self.attempt),
            status: status_of(self.status.into()).ok_or_else(|| damaged("status"))?,
            stage: text(self.stage).map_err(|_| damaged("stage"))?,
            actor: match self.actor {
                ActorRow::Client => Actor::Client,
                ActorRow::Worker(name) => Actor::Worker(name.map(Into::into)),
                ActorRow::Service => Actor::Service,
            },
            reason: text(self.reason).map_err(|_| damaged("reason"))?,
        })
    }
}
