//! Random lives of whole stores: many jobs, restarts, and requests that come together.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::Value;

use crate::model::{
    steps::{self, Seen, Step},
    wire::Birth,
    words::Rules,
};

/// The kinds of jobs that there are. Only of the first the rules say how long it is kept.
pub(super) const KINDS: [&str; 2] = ["restyle", "encode"];

/// A store's whole life.
#[derive(Clone, Debug)]
pub(super) struct Saga {
    pub(super) rules: Rules,
    /// Changes in one commit at the most.
    pub(super) commit_changes_max: usize,
    /// Bytes of text in one page of a log.
    pub(super) page_bytes: usize,
    pub(super) scenes: Vec<Scene>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// Milliseconds since what happened before.
    pub(super) wait: u64,
    /// Which replica is asked, if there are more than one.
    pub(super) replica: usize,
    pub(super) deed: Deed,
}

#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// A job is to exist under one of a few ids.
    Ensure(u8, Box<Offer>),
    /// A job is to be made once under a key, with this fingerprint.
    Create(Box<Offer>, (u8, u8)),
    /// Of one job, or of some at once.
    Ask(Vec<Part>),
    /// Some workers want a job at once.
    Claim(Vec<Wish>),
    /// A worker wants a job under a key.
    ClaimOnce(Wish, (u8, u8)),
    /// A worker waits for a job that is not there yet.
    Wait(Wish),
    Sweep,
    /// The service stops and starts; its engine, too, or not.
    Restart {
        engine: bool,
    },
    /// Everything is read, in pages of so many.
    Look(usize),
}

/// One of some requests that come at once. Numbers choose a job of those that have been.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Make(Box<Offer>),
    Change(usize, Box<Step>),
    Delete(usize, Seen),
}

/// A job that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) kind: &'static str,
    pub(super) priority: i32,
    pub(super) birth: Birth,
    pub(super) input: Option<Value>,
    /// Only what a job has of its own is taken of these.
    own: Rules,
}

/// What a worker wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) kinds: Vec<&'static str>,
    pub(super) worker: &'static str,
    pub(super) lease_seconds: u32,
}

impl Offer {
    /// The rules that the job lives under in a store of these.
    pub(super) fn rules(&self, store: &Rules) -> Rules {
        let Rules {
            max_attempts,
            lease_seconds,
            timeout_seconds,
            queue_ttl_seconds,
            cancel_grace_seconds,
            retain_seconds,
            ..
        } = self.own;
        Rules {
            max_attempts,
            lease_seconds,
            timeout_seconds,
            queue_ttl_seconds,
            cancel_grace_seconds,
            retain_seconds,
            kind_retain_seconds: store.kind_retain_seconds.filter(|_| self.kind == KINDS[0]),
            ..store.clone()
        }
    }
}

prop_compose! {
    /// A life of a few jobs.
    pub(super) fn saga()(
        rules in steps::rules(),
        commit_changes_max in 1..8_usize,
        page_bytes in 1..200_usize,
        scenes in vec(scene(), 1..=16),
    ) -> Saga {
        Saga { rules, commit_changes_max, page_bytes, scenes }
    }
}

prop_compose! {
    fn scene()(wait in wait(), replica in 0..2_usize, deed in deed()) -> Scene {
        Scene { wait, replica, deed }
    }
}

fn wait() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 8 => 1..5_000_u64, 3 => 1..70_000_u64]
}

fn deed() -> BoxedStrategy<Deed> {
    let key = || (0..2_u8, 0..2_u8);
    prop_oneof![
        5 => (0..3_u8, offer()).prop_map(|(id, offer)| Deed::Ensure(id, offer)),
        2 => (offer(), key()).prop_map(|(offer, key)| Deed::Create(offer, key)),
        10 => part().prop_map(|part| Deed::Ask(vec![part])),
        6 => vec(part(), 2..8).prop_map(Deed::Ask),
        4 => vec(wish(), 1..4).prop_map(Deed::Claim),
        2 => (wish(), key()).prop_map(|(wish, key)| Deed::ClaimOnce(wish, key)),
        2 => wish().prop_map(Deed::Wait),
        5 => Just(Deed::Sweep),
        2 => any::<bool>().prop_map(|engine| Deed::Restart { engine }),
        1 => (1..4_usize).prop_map(Deed::Look),
    ]
    .boxed()
}

fn part() -> BoxedStrategy<Part> {
    prop_oneof![
        1 => offer().prop_map(Part::Make),
        16 => (any::<usize>(), steps::request()).prop_map(|(job, step)| Part::Change(job, Box::new(step))),
        3 => (any::<usize>(), steps::seen()).prop_map(|(job, seen)| Part::Delete(job, seen)),
    ]
    .boxed()
}

prop_compose! {
    fn offer()(
        kind in select(&KINDS[..]),
        priority in -1..2_i32,
        birth in steps::birth(),
        input in option::weighted(0.3, steps::value()),
        own in steps::rules(),
    ) -> Box<Offer> {
        // Who claims it is not said when it is made.
        let birth = Birth { worker: None, ..birth };
        Box::new(Offer { kind, priority, birth, input, own })
    }
}

prop_compose! {
    fn wish()(
        kinds in subsequence(KINDS.to_vec(), 1..=KINDS.len()),
        worker in select(vec!["w-1", "w-2"]),
        lease_seconds in 1..60_u32,
    ) -> Wish {
        Wish { kinds, worker, lease_seconds }
    }
}
