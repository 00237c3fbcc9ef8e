//! Being told instead of asking: who waits for which job, and what they are sent.
//!
//! Promises: whoever follows a job registers first and reads after, so that no change falls in between; what is sent is
//! read from the store, so that lag delays and never loses; nothing is kept for a reader that does not read.
//! Knows nothing of HTTP and nothing of how jobs are kept.

mod cursor;
mod follow;
mod frame;
mod hub;
mod reader;
mod step;
mod steps;
mod streams;
#[cfg(test)]
mod tests;

pub use self::{
    cursor::Cursor,
    follow::{Follower, Interrupted},
    frame::{FrameFormat, LogFormat},
    hub::{Hub, Pace, Publisher},
    reader::Reader,
    step::Step,
    streams::{Settings, Since, Streams},
};
