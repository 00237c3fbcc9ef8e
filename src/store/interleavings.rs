//! Two parts of the store for themselves, each beside one that leaves out what keeps its promise: the cache, which is filled while
//! jobs are committed, and those who look for a job while jobs come.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use shuttle::future::{block_on, spawn};

use super::{
    cache::{Cache, Snapshot},
    claims::Claims,
};
use crate::{
    engine::{Place, Stored},
    job::{
        Job, JobId, JobKey, Kind, Labels, Limits, Lines, NewJob, Retention, Seconds, Spec, Tenant, Timestamp, Version,
    },
    sync::{
        point,
        schedules::{holds, is_found_out},
    },
};

fn key() -> JobKey {
    JobKey { tenant: Tenant(0), id: JobId::try_from("a").unwrap() }
}

fn kind() -> Kind {
    Kind::try_from("k").unwrap()
}

/// The job at a version.
fn stored(version: Version) -> Stored {
    let spec = Spec::plain(key(), kind());
    let (labels, lines) = (Labels::default(), Lines::default());
    let new = NewJob { spec, input: None, labels, processing: false, stage: None, lines };
    let limits = Limits {
        line_bytes_max: 0,
        job_lines_max: 0,
        job_log_bytes_max: 0,
        late_log_seconds: Seconds(0),
        result_bytes_max: 0,
        error_bytes_max: 0,
        writers_max: 0,
        cancel_grace_seconds: Seconds(0),
        retention: Retention::FOR_EVER,
    };
    let job = Job { version, ..Job::create(&new, &limits, Timestamp(0)).next };
    Stored { job: Arc::new(job), place: Place::default() }
}

/// What keeps jobs in memory.
enum Keeper {
    Cache(Cache),
    /// A map that takes whatever was read.
    Careless(Mutex<HashMap<JobKey, Stored>>),
}

impl Keeper {
    fn get(&self) -> Option<Version> {
        match self {
            Self::Cache(cache) => Some(cache.get(&key())?.version()),
            Self::Careless(jobs) => Some(jobs.lock().unwrap().get(&key())?.job.version),
        }
    }

    fn put(&self, version: Version) {
        match self {
            Self::Cache(cache) => drop(cache.put(key(), stored(version))),
            Self::Careless(jobs) => drop(jobs.lock().unwrap().insert(key(), stored(version))),
        }
    }

    /// Takes what is durable, if it has nothing.
    async fn fill(&self, durable: &AtomicU64) {
        if self.get().is_some() {
            return;
        }
        let read = async {
            point();
            let version = durable.load(Ordering::SeqCst);
            // Read, and on its way.
            point();
            stored(version)
        };
        match self {
            Self::Cache(cache) => {
                let load = async { Ok(Some(Snapshot::new(read.await))) };
                drop(cache.get_or_load(&key(), load).await.unwrap());
            }
            Self::Careless(jobs) => {
                let read = read.await;
                jobs.lock().unwrap().insert(key(), read);
            }
        }
    }
}

const LAST: Version = 3;

/// Jobs are read into memory while they are committed.
fn filled(keeper: fn() -> Keeper) {
    block_on(async move {
        let (keeper, durable) = (Arc::new(keeper()), Arc::new(AtomicU64::new(1)));
        let reader = || {
            let (keeper, durable) = (keeper.clone(), durable.clone());
            spawn(async move { keeper.fill(&durable).await })
        };
        let readers = [reader(), reader()];
        for version in 2..=LAST {
            point();
            durable.store(version, Ordering::SeqCst);
            point();
            keeper.put(version);
        }
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(keeper.get(), Some(LAST), "an older job is kept");
    });
}

#[test]
fn what_is_read_never_takes_the_place_of_what_was_committed_since() {
    holds(|| filled(|| Keeper::Cache(Cache::new(1 << 20))));
}

#[test]
fn without_a_guard_an_older_job_is_kept() {
    assert!(is_found_out(|| filled(|| Keeper::Careless(Mutex::default()))));
}

/// Two workers look for a job, and wait while there is none; two jobs come.
fn looked_for(register_first: bool) {
    block_on(async move {
        let (claims, jobs) = (Arc::new(Claims::default()), Arc::new(AtomicU64::new(0)));
        let worker = || {
            let (claims, jobs) = (claims.clone(), jobs.clone());
            let look = move || {
                point();
                jobs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |jobs| jobs.checked_sub(1)).is_ok()
            };
            spawn(async move {
                if !register_first && look() {
                    return;
                }
                let mut claimant = claims.register(Tenant(0), &[kind()]);
                if !register_first {
                    claimant.called().await;
                }
                while !look() {
                    claimant.looked(None);
                    claimant.called().await;
                }
                claimant.looked(Some(&kind()));
            })
        };
        let workers = [worker(), worker()];
        for _ in 0..2 {
            point();
            jobs.fetch_add(1, Ordering::SeqCst);
            claims.has_come(Tenant(0), &kind());
        }
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!(jobs.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn whoever_registers_first_finds_its_job() {
    holds(|| looked_for(true));
}

#[test]
fn whoever_looks_first_may_wait_for_a_job_that_is_there() {
    assert!(is_found_out(|| looked_for(false)));
}
