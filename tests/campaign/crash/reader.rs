//! Clients that look at jobs all the time, and the one that reads everything back.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::{
    client::Client,
    commons::Commons,
    history::{Event, Id, Seen, Sight, Tick},
    wire::{self, Reply},
};
use crate::random::Random;

/// Polls jobs as a frontend does, and lists.
pub(super) struct Reader {
    random: Random,
    client: Client,
    commons: Arc<Commons>,
    /// The last version and line seen of each job.
    seen: HashMap<Id, (u64, u64)>,
}

impl Reader {
    pub(super) fn new(random: Random, client: Client, commons: Arc<Commons>) -> Self {
        Self { random, client, commons, seen: HashMap::new() }
    }

    pub(super) async fn run(mut self) {
        while !self.client.stopped() {
            match self.commons.recent(&mut self.random) {
                Some(job) if self.random.percent(85) => self.poll(&job).await,
                _ => self.list().await,
            }
        }
    }

    async fn poll(&mut self, job: &Id) {
        let (version, lines) = self.seen.get(job).copied().unwrap_or_default();
        let (path, tag) = match self.random.below(4) {
            0 => (format!("/jobs/{job}"), None),
            1 => (format!("/jobs/{job}"), Some(version)),
            _ => (format!("/jobs/{job}?logs_after={lines}"), None),
        };
        let Some((since, reply)) = self.client.get(&path, tag).await else { return };
        match look(&self.client, since, job, &reply) {
            Some(seen) => {
                self.seen.insert(job.clone(), (seen.version, seen.facts.log_count.unwrap_or(0)));
            }
            None if reply.status == 304 => self.client.saw(since, Sight::Still(job.clone(), version)),
            None => {}
        }
    }

    async fn list(&mut self) {
        let paths =
            ["/jobs?limit=20", "/jobs?status=processing", "/jobs?status=completed&limit=5", "/jobs?kind=render"];
        let path = self.random.pick(&paths).copied().unwrap_or_default();
        if let Some((since, reply)) = self.client.get(path, None).await {
            rows(&self.client, since, &reply);
        }
    }
}

/// Reads everything back, but for jobs that have been read often enough after their end.
pub(super) struct ReadBack {
    client: Client,
    commons: Arc<Commons>,
    random: Random,
    /// How often a job has been read since it was done.
    read_done: HashMap<Id, u32>,
}

impl ReadBack {
    pub(super) fn new(random: Random, client: Client, commons: Arc<Commons>) -> Self {
        Self { client, commons, random, read_done: HashMap::new() }
    }

    /// Lists all jobs and reads each of them with its whole log; `None` when the server died meanwhile.
    pub(super) async fn read(&mut self, everything: bool) -> Option<usize> {
        const OFTEN: u32 = 2;
        let jobs = self.list_all().await?;
        for (job, done) in &jobs {
            let read = self.read_done.entry(job.clone()).or_default();
            if *read < OFTEN || everything || self.random.percent(2) {
                *read += u32::from(*done);
                self.read_one(job).await?;
            }
        }
        for job in self.commons.deleted() {
            self.read_one(&job).await?;
        }
        Some(jobs.len())
    }

    async fn list_all(&mut self) -> Option<Vec<(Id, bool)>> {
        let begun = self.client.history().now();
        let mut jobs = Vec::new();
        let mut cursor = String::new();
        loop {
            let (since, reply) = self.client.get_now(&format!("/jobs?limit=500{cursor}")).await?;
            jobs.extend(rows(&self.client, since, &reply));
            match reply.body["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let ids = jobs.iter().map(|(job, _)| job.clone()).collect();
        self.client.history().push(Event::Listed { since: begun, jobs: ids });
        Some(jobs)
    }

    async fn read_one(&mut self, job: &Id) -> Option<()> {
        let (since, reply) = self.client.get_now(&format!("/jobs/{job}?logs=all")).await?;
        look(&self.client, since, job, &reply);
        Some(())
    }
}

/// Records what a read of one job has shown.
fn look(client: &Client, since: Tick, job: &Id, reply: &Reply) -> Option<Box<Seen>> {
    match (reply.status, wire::seen(&reply.body)) {
        (200, Some(seen)) if seen.job == *job => {
            let seen = Box::new(seen);
            client.saw(since, Sight::Job(seen.clone()));
            Some(seen)
        }
        (304, _) => None,
        (404, _) => {
            client.saw(since, Sight::Gone(job.clone()));
            None
        }
        _ => {
            client.found_strange(format!("GET of {job} was answered with {reply:?}"));
            None
        }
    }
}

/// Records what the rows of a list have shown, and returns the jobs and whether they are done.
fn rows(client: &Client, since: Tick, reply: &Reply) -> Vec<(Id, bool)> {
    let Some(rows) = reply.body["jobs"].as_array() else {
        client.found_strange(format!("a list was answered with {reply:?}"));
        return Vec::new();
    };
    let row = |row: &Value| {
        let seen = wire::seen(row).unwrap_or_else(|| panic!("a list has a row {row}"));
        let entry = (seen.job.clone(), seen.facts.is_done());
        client.saw(since, Sight::Job(Box::new(seen)));
        entry
    };
    rows.iter().map(row).collect()
}
