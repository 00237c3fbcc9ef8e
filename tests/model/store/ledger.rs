//! A whole store kept the plain way: a model for each job, and what no job knows of itself: which ids are free, what a key
//! stands for, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet};

use milepost::store::StoreError;
use serde_json::Value;

use super::{
    entry::Entry,
    past::Past,
    saga::{Offer, Wish},
};
use crate::model::{
    plain::Model,
    words::{Answer, Ask, Refusal, Request, Rules},
};

/// How long the id of a deleted job is reserved.
pub(super) const RESERVED_SECONDS: u32 = 40;
/// How long a key is remembered.
pub(super) const REMEMBERED_SECONDS: u32 = 60;

/// The jobs of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) rules: Rules,
    pub(super) jobs: BTreeMap<String, Entry>,
    /// Ids of deleted jobs, with the moment from which they are free.
    reserved: BTreeMap<String, u64>,
    keys: BTreeMap<u8, Key>,
    pub(super) tallies: BTreeMap<&'static str, Tally>,
    /// Jobs that a reader could see a change of since that was last asked for.
    pub(super) moved: BTreeSet<String>,
    pub(super) fed: Fed,
    made: usize,
}

/// What a key stands for.
#[derive(Clone, Debug)]
struct Key {
    fingerprint: u8,
    id: String,
    attempt: u32,
    expires_at: u64,
}

/// What is counted of the jobs of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) created: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    /// Ends of jobs that a worker was at, and of these the good ones.
    pub(super) begun: u32,
    pub(super) timed: u32,
}

/// What a reader of the feed is to be told who was last told everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Fed {
    /// Jobs that have told anything new since, by their numbers, with what they told then.
    pub(super) moved: BTreeMap<usize, Value>,
    /// Jobs that were deleted, with id and kind.
    pub(super) gone: BTreeMap<usize, (String, &'static str)>,
}

/// Why the store did nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Why {
    NotFound,
    Exists(String),
    Deleted(u64),
    Refused(Refusal),
    OtherRequest,
    /// What is no answer to anything here.
    Fault(String),
}

/// A job that was given to somebody, and whether an earlier request had got it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) entry: Entry,
    pub(super) is_replayed: bool,
}

impl From<&StoreError> for Why {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::NotFound,
            StoreError::JobExists { kind } => Self::Exists(kind.as_str().to_owned()),
            StoreError::JobDeleted { until } => Self::Deleted(until.0),
            StoreError::Rejected(rejection) => Self::Refused(rejection.into()),
            StoreError::IdempotencyMismatch => Self::OtherRequest,
            StoreError::TooManyKinds
            | StoreError::IdempotencyInProgress
            | StoreError::Contended
            | StoreError::Overloaded
            | StoreError::TooManyExports
            | StoreError::Draining
            | StoreError::Engine(_) => Self::Fault(error.to_string()),
        }
    }
}

impl Ledger {
    pub(super) fn new(rules: &Rules) -> Self {
        Self {
            rules: rules.clone(),
            jobs: BTreeMap::new(),
            reserved: BTreeMap::new(),
            keys: BTreeMap::new(),
            tallies: BTreeMap::new(),
            moved: BTreeSet::new(),
            fed: Fed::default(),
            made: 0,
        }
    }

    /// A job is to exist under this id; whether this made it.
    pub(super) fn ensure(&mut self, id: &str, offer: &Offer, now: u64) -> Result<(Entry, bool), Why> {
        match self.jobs.get(id) {
            Some(entry) if entry.kind == offer.kind => Ok((entry.clone(), false)),
            Some(entry) => Err(Why::Exists(entry.kind.to_owned())),
            None => Ok((self.make(id, offer, now)?, true)),
        }
    }

    /// A job is to be made under this id, unless the key was used before.
    pub(super) fn create(
        &mut self,
        id: &str,
        offer: &Offer,
        (key, fingerprint): (u8, u8),
        now: u64,
    ) -> Result<(Entry, bool), Why> {
        if let Some(earlier) = self.keyed(key, fingerprint, now)? {
            return Ok((self.jobs.get(&earlier.id).cloned().ok_or(Why::NotFound)?, false));
        }
        let entry = self.make(id, offer, now)?;
        self.remember(key, fingerprint, &entry, now);
        Ok((entry, true))
    }

    /// A job of a fresh id.
    pub(super) fn make(&mut self, id: &str, offer: &Offer, now: u64) -> Result<Entry, Why> {
        if let Some(until) = self.reserved.get(id).copied().filter(|until| *until > now) {
            return Err(Why::Deleted(until));
        }
        self.reserved.remove(id);
        let model = Model::born(&offer.birth, &offer.rules(&self.rules), now);
        self.made += 1;
        let entry = Entry {
            past: Past::of(&model),
            id: id.to_owned(),
            kind: offer.kind,
            priority: offer.priority,
            input: offer.input.clone(),
            nth: self.made,
            last_patch: None,
            model,
        };
        self.tallies.entry(entry.kind).or_default().created += 1;
        self.moved.insert(id.to_owned());
        self.fed.moved.insert(entry.nth, Value::Null);
        self.jobs.insert(id.to_owned(), entry.clone());
        Ok(entry)
    }

    /// A job is to be changed.
    pub(super) fn change(&mut self, id: &str, request: &Request) -> Result<(Entry, Answer), Why> {
        let entry = self.jobs.get_mut(id).ok_or(Why::NotFound)?;
        if matches!(request.ask, Ask::Patch(_)) {
            entry.last_patch = Some(request.clone());
        }
        let (before, old_news) = (entry.model.clone(), entry.news());
        let answer = entry.model.apply(request).map_err(Why::Refused)?;
        let model = &entry.model;
        entry.past.take(&before, request, model);
        if model.is_done() && !before.is_done() {
            let tally = self.tallies.entry(entry.kind).or_default();
            let has_begun = u32::from(model.started_at.is_some());
            tally.begun += has_begun;
            tally.timed += if model.status == "completed" { has_begun } else { 0 };
            *match model.status {
                "completed" => &mut tally.completed,
                "cancelled" => &mut tally.cancelled,
                _ => &mut tally.failed,
            } += 1;
        }
        if model.version > before.version {
            self.moved.insert(id.to_owned());
        }
        if entry.news() != old_news {
            self.fed.moved.entry(entry.nth).or_insert(old_news);
        }
        Ok((entry.clone(), answer))
    }

    /// A job is to be deleted.
    pub(super) fn delete(&mut self, id: &str, if_match: Option<&[u64]>, now: u64) -> Result<(), Why> {
        let Some(entry) = self.jobs.get(id) else {
            let is_reserved = self.reserved.get(id).is_some_and(|until| *until > now);
            return if is_reserved { Ok(()) } else { Err(Why::NotFound) };
        };
        let version = entry.model.version;
        if if_match.is_some_and(|versions| !versions.contains(&version)) {
            return Err(Why::Refused(Refusal::VersionMismatch(version)));
        }
        self.remove(id, now);
        Ok(())
    }

    /// A worker wants a job.
    pub(super) fn claim(&mut self, wish: &Wish, key: Option<(u8, u8)>, now: u64) -> Result<Option<Given>, Why> {
        if let Some((key, fingerprint)) = key
            && let Some(earlier) = self.keyed(key, fingerprint, now)?
            && let Some(entry) = self.jobs.get(&earlier.id)
            && entry.model.attempt == earlier.attempt
            && entry.model.lease_expires_at.is_some_and(|at| at > now)
        {
            return Ok(Some(Given { entry: entry.clone(), is_replayed: true }));
        }
        let Some(id) = self.next(wish) else { return Ok(None) };
        let ask = Ask::Claim { worker: wish.worker, lease_seconds: wish.lease_seconds };
        let (entry, _) = self.change(&id, &Request { ask, attempt: None, if_match: None, now })?;
        if let Some((key, fingerprint)) = key {
            self.remember(key, fingerprint, &entry, now);
        }
        Ok(Some(Given { entry, is_replayed: false }))
    }

    /// Whose turn it is: the highest priority, and of those the one that has waited longest.
    pub(super) fn next(&self, wish: &Wish) -> Option<String> {
        let waits = |entry: &&Entry| entry.model.status == "queued" && wish.kinds.contains(&entry.kind);
        let place = |entry: &&Entry| (-entry.priority, entry.model.queued_at, entry.nth);
        Some(self.jobs.values().filter(waits).min_by_key(place)?.id.clone())
    }

    /// Everything that is due happens; what came of it, in order.
    pub(super) fn sweep(&mut self, open_since: u64, now: u64) -> Vec<&'static str> {
        let mut swept = Vec::new();
        let due: Vec<_> = self.jobs.values().filter(|entry| entry.is_due(now)).map(|entry| entry.id.clone()).collect();
        for id in due {
            if self.jobs[&id].model.is_done() {
                self.remove(&id, now);
                swept.push("removed");
                continue;
            }
            let version = self.jobs[&id].model.version;
            let request = Request { ask: Ask::Sweep { open_since }, attempt: None, if_match: None, now };
            let (entry, _) = self.change(&id, &request).unwrap();
            if entry.model.version > version {
                swept.push(if entry.model.is_done() { entry.model.status } else { "requeued" });
            }
        }
        swept.sort_unstable();
        swept
    }

    fn remove(&mut self, id: &str, now: u64) {
        let entry = self.jobs.remove(id).unwrap();
        self.reserved.insert(id.to_owned(), now + u64::from(RESERVED_SECONDS) * 1000);
        self.moved.insert(id.to_owned());
        self.fed.moved.remove(&entry.nth);
        self.fed.gone.insert(entry.nth, (entry.id, entry.kind));
    }

    fn keyed(&self, key: u8, fingerprint: u8, now: u64) -> Result<Option<&Key>, Why> {
        match self.keys.get(&key).filter(|key| key.expires_at > now) {
            Some(key) if key.fingerprint != fingerprint => Err(Why::OtherRequest),
            key => Ok(key),
        }
    }

    fn remember(&mut self, key: u8, fingerprint: u8, entry: &Entry, now: u64) {
        let (id, attempt) = (entry.id.clone(), entry.model.attempt);
        let expires_at = now + u64::from(REMEMBERED_SECONDS) * 1000;
        self.keys.insert(key, Key { fingerprint, id, attempt, expires_at });
    }
}
