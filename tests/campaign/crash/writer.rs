//! Clients that change jobs all the time, some of them the same jobs, and that send again what got no answer.

use std::{collections::HashMap, sync::Arc};

use super::{
    client::{Client, Outcome},
    commons::Commons,
    history::{Id, Lines, OpId, Patch, Request, Status, What},
};
use crate::random::Random;

/// Jobs of its own that a writer works on at once.
const OWN: usize = 3;
/// Keys that a writer remembers, to use them again.
const KEYS: usize = 32;

pub(super) struct Writer {
    number: u32,
    random: Random,
    client: Client,
    commons: Arc<Commons>,
    own: Vec<Id>,
    /// What it knows of the jobs it has touched and that still take changes.
    desks: HashMap<Id, Desk>,
    keys: Vec<OpId>,
    named: u32,
}

#[derive(Clone, Copy, Default)]
struct Desk {
    /// The last version it has heard of.
    version: u64,
    /// Lines of its own count that are acknowledged.
    written: u64,
    /// How many more the server may have.
    unsure: u64,
}

impl Writer {
    pub(super) fn new(number: u32, random: Random, client: Client, commons: Arc<Commons>) -> Self {
        Self { number, random, client, commons, own: Vec::new(), desks: HashMap::new(), keys: Vec::new(), named: 0 }
    }

    pub(super) async fn run(mut self) {
        while !self.client.stopped() {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        if self.own.len() < OWN && self.random.percent(30) {
            self.make().await;
            return;
        }
        if !self.keys.is_empty() && self.random.percent(1) {
            // Somebody presses the button once more.
            let key = self.random.pick(&self.keys).copied().unwrap_or_default();
            self.client.send(key).await;
            return;
        }
        let shared = self.random.percent(50);
        let own = self.random.pick(&self.own).filter(|_| !shared).cloned();
        let job = own.unwrap_or_else(|| self.commons.shared(&mut self.random));
        if !self.desks.contains_key(&job) {
            self.ensure(&job).await;
            return;
        }
        match self.random.below(100) {
            0..1 => self.delete(&job).await,
            1..3 => self.end(&job).await,
            3..20 => self.batch(&job).await,
            _ => {
                let what = self.change(&job, 0);
                self.change_once(&job, what).await;
            }
        }
    }

    /// Makes a job of its own, whatever it takes.
    async fn make(&mut self) {
        if self.random.percent(40) {
            self.named += 1;
            let job: Id = format!("own-{}-{}", self.number, self.named).into();
            self.own.push(job.clone());
            return self.ensure(&job).await;
        }
        let lines = self.random.below(3) as u32;
        let (op, mut outcome) = self.client.ask(None, What::Create { lines }).await;
        while matches!(outcome, Outcome::Lost | Outcome::Refused) && !self.client.stopped() {
            outcome = self.client.send(op).await;
        }
        if let Outcome::Done { job, .. } = &outcome {
            self.own.push(job.clone());
            self.settle(&job.clone(), What::Create { lines }, &outcome);
            if self.keys.len() < KEYS {
                self.keys.push(op);
            }
        }
    }

    async fn ensure(&mut self, job: &Id) {
        let what = What::Ensure { lines: self.random.below(3) as u32 };
        let (_, outcome) = self.client.ask(Some(job.clone()), what).await;
        self.settle(job, what, &outcome);
    }

    /// Some change, for a job of which `ahead` lines of this writer are under way already.
    fn change(&mut self, job: &Id, ahead: u64) -> What {
        let random = &mut self.random;
        let desk = self.desks.get(job).copied().unwrap_or_default();
        let free = Lines::Free(1 + random.below(4) as u32);
        // What may be there has to be sent again, and more may come with it.
        let again = desk.unsure.saturating_sub(ahead);
        let count = again.max(1) + if random.percent(30) { random.below(4) } else { 0 };
        let counted = Lines::Counted { writer: self.number, first: desk.written + ahead + 1, count };
        let lines = match random.below(10) {
            0..6 => counted,
            6..8 => free,
            _ => Lines::None,
        };
        if random.percent(40) && lines != Lines::None {
            return What::Append(lines);
        }
        What::Patch(Patch {
            status: random.percent(30).then_some(Status::Processing),
            progress: random.percent(70).then(|| random.below(10_000) as u32),
            result: random.percent(30),
            lines,
            expect: (random.percent(25) && ahead == 0).then_some(desk.version).filter(|version| *version > 0),
        })
    }

    async fn change_once(&mut self, job: &Id, what: What) {
        let (_, outcome) = self.client.ask(Some(job.clone()), what).await;
        self.settle(job, what, &outcome);
    }

    /// Ends the job, and does not rest before it knows that it has.
    async fn end(&mut self, job: &Id) {
        let ends = [Status::Completed, Status::Completed, Status::Failed, Status::Cancelled];
        let status = self.random.pick(&ends).copied();
        let lines = if self.random.percent(50) { Lines::Free(2) } else { Lines::None };
        let result = status == Some(Status::Completed);
        let what = What::Patch(Patch { status, result, lines, ..Patch::default() });
        let (op, mut outcome) = self.client.ask(Some(job.clone()), what).await;
        while matches!(outcome, Outcome::Lost) && !self.client.stopped() {
            outcome = self.client.send(op).await;
        }
        self.settle(job, what, &outcome);
        if matches!(outcome, Outcome::Done { .. }) && self.random.percent(50) {
            // Workers flush their logs when they are through.
            let desk = self.desks.get(job).copied().unwrap_or_default();
            let count = desk.unsure.max(1);
            let late = Lines::Counted { writer: self.number, first: desk.written + 1, count };
            self.change_once(job, What::Append(late)).await;
        }
        self.leave(job);
    }

    async fn delete(&mut self, job: &Id) {
        let (_, outcome) = self.client.ask(Some(job.clone()), What::Delete).await;
        self.settle(job, What::Delete, &outcome);
    }

    async fn batch(&mut self, job: &Id) {
        let others: Vec<Id> = self.own.iter().filter(|own| self.desks.contains_key(*own)).cloned().collect();
        let mut requests = Vec::new();
        let mut ahead: HashMap<Id, u64> = HashMap::new();
        for _ in 0..2 + self.random.below(8) {
            let job = if self.random.percent(60) { job } else { self.random.pick(&others).unwrap_or(job) };
            let under_way = ahead.entry(job.clone()).or_default();
            let mut what = self.change(job, *under_way);
            if let What::Patch(patch) = &mut what {
                // A refusal would leave a hole for the next one.
                patch.expect = None;
            }
            if let Lines::Counted { count, .. } = what.lines() {
                *under_way += count;
            }
            requests.push(Request { job: Some(job.clone()), what });
        }
        // What was not heard of one operation was not heard of any.
        for (request, outcome) in self.client.batch(requests).await {
            if let Some(job) = &request.job {
                self.settle(job, request.what, &outcome);
            }
        }
    }

    /// Takes note of what a request has come to.
    fn settle(&mut self, job: &Id, what: What, outcome: &Outcome) {
        let counted = match what.lines() {
            Lines::Counted { first, count, .. } => Some((first, count)),
            Lines::Free(_) | Lines::None => None,
        };
        match outcome {
            Outcome::Done { version, .. } => {
                let desk = self.desks.entry(job.clone()).or_default();
                desk.version = *version;
                if let Some((first, count)) = counted {
                    let written = (first + count - 1).max(desk.written);
                    desk.unsure = desk.unsure.saturating_sub(written - desk.written);
                    desk.written = written;
                }
                self.commons.publish(job, &mut self.random);
            }
            Outcome::Moved(version) => self.desks.entry(job.clone()).or_default().version = *version,
            Outcome::Lost => {
                if let (Some(desk), Some((first, count))) = (self.desks.get_mut(job), counted) {
                    desk.unsure = desk.unsure.max((first + count - 1).saturating_sub(desk.written));
                }
            }
            Outcome::Deleted => {
                self.commons.bury(job, &mut self.random);
                self.leave(job);
            }
            Outcome::Gone | Outcome::Finished => self.leave(job),
            Outcome::Refused => {}
        }
    }

    fn leave(&mut self, job: &Id) {
        self.own.retain(|own| own != job);
        self.desks.remove(job);
        self.commons.retire(job);
    }
}
