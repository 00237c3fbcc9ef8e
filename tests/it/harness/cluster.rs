//! The cluster of `examples/cluster`: processes of their own, which can be killed.

use std::{net::SocketAddr, process::Command, sync::Arc};

use super::{Server, script::Script};

/// Three replicas behind a balancer, on a database with a synchronous standby. All of it is gone when this is.
pub(crate) struct Cluster {
    script: Script,
    port: u16,
}

impl Cluster {
    /// Starts it, at ports that are free.
    pub(crate) fn start() -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cluster/run");
        // Below the ports that the system gives to connections; two tests of one process do not meet, and of others hardly.
        let first = 20_000 + (std::process::id() % 1_000) as u16 * 10;
        for port in (first..first + 2_000).step_by(10) {
            let mut command = Command::new(program);
            command.args(["--port", &port.to_string(), "--milepost", env!("CARGO_BIN_EXE_milepost")]);
            let (script, line) = Script::start(command.env_remove("MILEPOST_FAILOVERS"));
            if line.starts_with("http://") {
                return Self { script, port };
            }
        }
        panic!("the cluster does not start: `make test` installs what it needs; what it says is above");
    }

    /// Clients of its replicas.
    pub(crate) fn replicas(&self) -> Vec<Arc<Server>> {
        (1..=3).map(|number| self.client(number)).collect()
    }

    /// A client of its balancer.
    pub(crate) fn balancer(&self) -> Arc<Server> {
        self.client(0)
    }

    fn client(&self, number: u16) -> Arc<Server> {
        Arc::new(Server::elsewhere(SocketAddr::from(([127, 0, 0, 1], self.port + number))))
    }

    /// Has it do something, see the script.
    pub(crate) fn say(&mut self, command: &str) {
        self.script.say(command);
    }
}
