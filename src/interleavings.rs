//! The store, its committer and the hub together, step by step: whatever order their tasks take their steps in, nobody misses
//! what has become of a job, and nobody sees what is not so.
//!
//! Each use of a lock, a flag or a bell of `crate::sync` is such a step, and so is each call of the engine, which here is a map.
//! Who goes on is Shuttle's choice: `make interleave` has 100,000 schedules for each scenario, `make test` a few.

mod lists;
mod memory;
mod readers;
mod replicas;
mod stage;
mod workers;
mod writers;
