//! What every command that asks a service has on its command line.

use std::env;

use clap::Args;

use super::{BadServer, Base};

/// Where the service is.
#[derive(Debug, Args)]
pub struct ServerOptions {
    /// URL of the service [or MILEPOST_URL; default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

impl ServerOptions {
    /// The environment variable that says so, too.
    const VARIABLE: &str = "MILEPOST_URL";
    const DEFAULT: &str = "http://127.0.0.1:8080";

    /// The service that they name.
    ///
    /// # Errors
    /// What is wrong with its URL.
    pub fn base(&self) -> Result<Base, BadServer> {
        let url = self.server.clone().or_else(|| env::var(Self::VARIABLE).ok());
        url.as_deref().unwrap_or(Self::DEFAULT).parse()
    }
}
