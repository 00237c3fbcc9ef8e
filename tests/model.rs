//! The domain against a plain model of it, and what it promises, one property at a time.
//!
//! `PROPTEST_CASES=20000 cargo test --release --test model` makes a long campaign of it. Seeds of failures are kept in
//! `model/regressions.txt` and tried first ever after.
#![cfg(test)]

mod model {
    mod done;
    mod journal;
    mod leases;
    mod merging;
    mod order;
    mod plain;
    mod requeue;
    mod steps;
    mod story;
    mod text;
    mod timeline;
    mod values;
    mod versions;
    mod wire;
    mod words;
}
