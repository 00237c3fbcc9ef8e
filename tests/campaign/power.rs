//! Machines that lose their power: a disk that forgets what it was not told to keep, in the system's tree.

mod disk;
mod mount;

pub(super) use self::{disk::Disk, mount::Mount};
