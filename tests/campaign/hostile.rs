//! Clients that mean harm, or might as well: slow, endless, malformed, deaf, or many.
//!
//! They are let loose on a server in a process of its own, beside a client that behaves, whose every request must be
//! answered as it should be, and which is told of every change. The server may take only so much memory for them, refuses
//! them as docs/api.md says, and serves the next.

mod floods;
mod ground;
mod memory;
mod polite;
mod requests;
mod slow;
mod slowhttptest;
mod streams;
mod talker;
