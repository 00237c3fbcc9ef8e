//! Open files: each connection takes one, and shells and service managers start programs with few.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// What the store, the log and the runtime open beside connections, generously.
const OWN: u64 = 256;

/// Lets this process open as many files as the system allows it, and says so when that is too few for as many
/// connections.
pub fn raise(connections_max: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut allowed = current;
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        allowed = maximum;
        info!(from = current, to = maximum, "raised the number of files that may be open");
    }
    let wanted = connections_max as u64 + OWN;
    if allowed.is_some_and(|allowed| allowed < wanted) {
        warn!(
            allowed,
            wanted, "http.connections_max is more than this process may open: connections beyond wait until others end"
        );
    }
}
