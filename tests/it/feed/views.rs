//! Clients that keep a list up to date from the feed, while others change the jobs and their connections break.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{resumed, up_to_ready};
use crate::{
    harness::{On, Server, only},
    random::Random,
    stream::{Event, Events},
};

const JOBS: u64 = 12;
const WRITERS: u64 = 4;
const CHANGES: u64 = 120;
/// What each client asks for, of the feed and of lists.
const QUERIES: [&str; 5] =
    ["", "status=processing", "kind=even&status=queued,completed", "label=user:1", "label=user:0&status=failed"];

/// What the feed tells of a job; its log aside.
const MEMBERS: [&str; 7] = ["kind", "status", "progress_pct", "stage", "labels", "attempt", "created_at"];

struct Client {
    server: Arc<Server>,
    query: &'static str,
    view: BTreeMap<String, Value>,
    id: String,
}

impl Client {
    /// Reads the list, and then hears what has moved since.
    async fn begin(server: Arc<Server>, query: &'static str) -> (Self, Events) {
        let mut events = Events::open(server.get(&format!("/events?{query}"))).await;
        let (told, id) = up_to_ready(&mut events).await;
        assert!(told.is_empty());
        let view = list(&server, query).await;
        (Self { server, query, view, id }, events)
    }

    fn take(&mut self, event: Event) {
        let job = event.data["id"].as_str().unwrap().to_owned();
        match event.name.as_str() {
            "job" => drop(self.view.insert(job, only(&event.data, &MEMBERS))),
            "left" | "deleted" => drop(self.view.remove(&job)),
            other => panic!("{other}"),
        }
        self.id = event.id;
    }

    async fn resumed(&self) -> Events {
        resumed(&self.server, &format!("?{}", self.query), &self.id).await
    }

    /// Follows until the writers are done, and then up to the end.
    async fn follow(mut self, mut events: Events, mut random: Random, done: Arc<tokio::sync::Notify>) {
        let mut done = std::pin::pin!(done.notified());
        let mut left = random.below(20);
        loop {
            tokio::select! {
                () = &mut done => break,
                event = events.next() => match event.unwrap() {
                    ready if ready.name == "ready" => self.id = ready.id,
                    event => self.take(event),
                },
            }
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => {
                    events = self.resumed().await;
                    random.below(20)
                }
            };
        }
        let (told, _) = up_to_ready(&mut self.resumed().await).await;
        told.into_iter().for_each(|event| self.take(event));
        assert_eq!(self.view, list(&self.server, self.query).await, "{:?}", self.query);
    }
}

async fn list(server: &Server, query: &str) -> BTreeMap<String, Value> {
    let page = server.get(&format!("/jobs?{query}")).await.is(200).json();
    assert_eq!(page["next"], Value::Null);
    let row = |job: &Value| (job["id"].as_str().unwrap().to_owned(), only(job, &MEMBERS));
    page["jobs"].as_array().unwrap().iter().map(row).collect()
}

async fn write(server: Arc<Server>, mut random: Random) {
    let statuses = ["queued", "processing", "completed", "failed", "cancelled"];
    for change in 0..CHANGES {
        let number = random.below(JOBS);
        let (id, user) = (format!("job-{number}"), random.below(2).to_string());
        let path = format!("/jobs/{id}");
        let answer = match random.below(10) {
            0..=2 => {
                let kind = if number.is_multiple_of(2) { "even" } else { "odd" };
                server.put(&path, json!({"kind": kind, "labels": {"user": user}})).await
            }
            3..=5 => server.patch(&id, json!({"status": random.pick(&statuses), "stage": change.to_string()})).await,
            6 => server.patch(&id, json!({"labels": {"user": user}})).await,
            7 => server.patch(&id, json!({"progress_pct": random.below(100)})).await,
            8 => server.post(&format!("{path}/logs"), json!({"line": "x"})).await,
            _ => {
                // An id is free again only a moment later.
                server.pass(std::time::Duration::from_millis(1));
                server.delete(&path).await
            }
        };
        // 503: the id was made anew between two looks of a deletion.
        assert!(matches!(answer.status, 200 | 201 | 204 | 404 | 409 | 503), "{answer:?}");
    }
}

async fn views_end_as_lists(server: Arc<Server>, seed: u64) {
    let mut random = Random::new(seed);
    let done = Arc::new(tokio::sync::Notify::new());
    let mut readers = JoinSet::new();
    for query in QUERIES {
        for _ in 0..2 {
            let (client, events) = Client::begin(server.clone(), query).await;
            readers.spawn(client.follow(events, random.fork(), done.clone()));
        }
    }
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        writers.spawn(write(server.clone(), random.fork()));
    }
    writers.join_all().await;
    done.notify_waiters();
    readers.join_all().await;
}

/// On a service that remembers, and on one whose every read goes to the disk, in pieces of a few jobs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_keeps_a_list_from_the_feed_has_the_list_at_the_end() {
    for (on, seed) in [(On::Sqlite, 1), (On::SqliteWithoutMemory, 2), (On::Postgres, 3)] {
        let server = Server::start(on, |config| {
            config.jobs.deleted_retain_seconds = 0;
            config.push.calm_milliseconds = 5;
            config.push.step_bytes = 2000;
            config.push.feed_jobs_max = 5;
        });
        let server = Arc::new(server.await);
        views_end_as_lists(server.clone(), seed).await;
        server.stop().await;
    }
}
