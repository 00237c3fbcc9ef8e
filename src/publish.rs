//! Being told instead of asking: who waits for which job, or for all of them, and what they are sent.
//!
//! Promises: whoever follows a job or a feed registers first and reads after, so that no change falls in between; what is sent is
//! read from the store, so that lag delays and never loses; nothing is kept for a reader that does not read.
//! Knows nothing of HTTP and nothing of how jobs are kept.

mod chosen;
mod cursor;
mod feed;
mod follow;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hub;
mod reader;
mod step;
mod steps;
mod streams;
#[cfg(test)]
mod tests;

pub use self::{
    chosen::ChosenReader,
    cursor::Cursor,
    feed::{FeedFilter, FeedReader, FeedSince},
    follow::{Follower, Interrupted},
    frame::{FrameFormat, LogFormat, Said},
    hub::{Hub, Pace, Publisher},
    reader::Reader,
    step::Step,
    streams::{FeedSettings, Settings, Since, Streams},
};
