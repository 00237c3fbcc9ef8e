//! Milepost: the job store every backend with `jobs = {}` in its web process should have had.
//!
//! A change comes in over HTTP, is decided by a pure function on the job, made durable, shown to readers, and only then
//! acknowledged. Nothing flows back up:
//!
//! | where | what |
//! |---|---|
//! | [`http`] | parses requests, calls the store once, shapes the answers; [`http::serve`] keeps the connections |
//! | [`publish`] | who waits for which job, and what streams tell them |
//! | [`store`] | the only door to jobs: group commit, snapshots in memory, [exports](store::portable) |
//! | [`engine`] | where bytes become durable: [`engine::sqlite`] |
//! | [`job`] | what a job is and what may happen to it; pure, and knows none of the others |
//!
//! Beside them stand [`clock`] (time that never runs backwards), [`metrics`], [`tasks`] (background work with a name and
//! an end), [`telemetry`] (the service's own log), [`descriptors`] (open files), `sync` (where tasks meet) and [`config`]. [`app`]
//! puts the service together from these, and [`cli`] is the command line around it.
//!
//! [`run`] and [`people`] are commands that speak to a service from outside, through [`client`]; they know nothing of the above.
//!
//! To read the code, begin with [`job::Job::apply`], go on with [`store::JobStore`] and [`engine::Engine`], and end with
//! [`http::router`] and [`app::App::start`].

pub mod app;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
#[cfg(test)]
mod interleavings;
pub mod job;
pub mod metrics;
pub mod people;
pub mod publish;
pub mod run;
pub mod store;
pub mod sweep;
mod sync;
pub mod tasks;
pub mod telemetry;
