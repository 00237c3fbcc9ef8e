//! What tries to break each promise of docs/proof.md, on the real server in a process of its own.
//!
//! Each chapter has a short form, which is an ordinary test, and a long one, which is ignored and has a target in the
//! Makefile.

mod clocks;
mod contract;
pub(crate) mod crash;
pub(crate) mod faults;
mod hostile;
mod power;
pub(crate) mod process;
mod soak;

use std::{env, str::FromStr, time::UNIX_EPOCH};

/// A number that whoever runs a campaign may give in this variable.
pub(crate) fn given<T: FromStr>(variable: &str) -> Option<T> {
    let parsed = |text: String| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}"));
    env::var(variable).ok().map(parsed)
}

/// The seed that is given in this variable, or the time, which is good enough; what the machine does in between is not in our
/// hands anyway. Whoever takes it prints it.
fn seed(variable: &str) -> u64 {
    given(variable).unwrap_or_else(|| UNIX_EPOCH.elapsed().map_or(1, |elapsed| elapsed.as_secs()))
}
