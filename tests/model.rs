//! The domain against a plain model of it, and what it promises, one property at a time; and the store of every engine against
//! the same model.
//!
//! `make model CASES=100000` makes a long campaign of it. Seeds of failures are kept in `model/regressions.txt` and
//! `model/store/regressions.txt`, and tried first ever after.
#![cfg(test)]

#[path = "it/harness/postgres.rs"]
#[expect(dead_code, reason = "these tests take down no database")]
mod postgres;
#[path = "it/harness/script.rs"]
#[expect(dead_code, reason = "as above")]
mod script;

mod model {
    mod done;
    mod journal;
    mod leases;
    mod merging;
    mod order;
    mod plain;
    mod requeue;
    mod steps;
    mod store;
    mod story;
    mod text;
    mod timeline;
    mod values;
    mod versions;
    mod wire;
    mod words;
}
