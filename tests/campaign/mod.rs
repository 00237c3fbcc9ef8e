//! What tries to break each promise of docs/proof.md, on the real server in a process of its own.
//!
//! Each chapter has a short form, which is an ordinary test, and a long one, which is ignored and has a target in the
//! Makefile.

mod clocks;
mod contract;
pub(crate) mod crash;
mod faults;
mod hostile;
mod power;
pub(crate) mod process;
mod soak;
