//! How much memory a server takes.

use std::fs;

use crate::campaign::process::Server;

pub(super) const MIB: u64 = 1 << 20;

/// What the kernel says of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// What is resident now.
    pub(super) resident: u64,
    /// The most that ever was.
    pub(super) peak: u64,
}

impl Memory {
    pub(super) fn of(server: &Server) -> Self {
        let path = format!("/proc/{}/status", server.id());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let bytes = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says it");
            let kib: u64 = value.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
            kib << 10
        };
        Self { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
    }
}
