//! What requests are parsed by: the bounds that configuration sets, and nothing of the service behind them.

use std::sync::Arc;

use super::settings::Settings;
use crate::job::Limits;

/// See the module.
#[derive(Debug)]
pub(super) struct Bounds {
    settings: Arc<Settings>,
    limits: Limits,
}

impl Bounds {
    pub(super) fn new(settings: Arc<Settings>, limits: Limits) -> Self {
        Self { settings, limits }
    }

    /// Bounds of the HTTP side.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Bounds of the domain.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }
}
