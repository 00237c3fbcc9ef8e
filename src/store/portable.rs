//! The portable form of a store: newline-delimited JSON that leaves nothing out, for moving jobs to another store or
//! another version. `docs/format.md` describes it.
//!
//! Promises: an export that is imported and exported again is the same but for its first line; a file that was cut, or
//! whose lines do not fit together, is refused with the number of the line.
//! Knows nothing of who reads or writes the text.

mod decode;
mod encode;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod import;
mod record;
mod sound;
mod timeline;

pub use self::{
    decode::{Complete, Decoder, Incomplete, Invalid, Misfit},
    encode::{Encoder, stream},
    import::{ImportError, Imported, Importer, Refusal},
};

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;

#[cfg(test)]
mod tests;
