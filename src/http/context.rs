//! What the routes are built from, and how each handler gets just the part it needs.

use std::sync::Arc;

use axum::extract::FromRef;

use super::{bounds::Bounds, docs::Pages, readiness::Readiness, settings::Settings};
use crate::{
    metrics::{Metrics, PushMetrics},
    publish::Streams,
    store::JobStore,
};

/// Everything the HTTP side stands on.
#[derive(Clone)]
pub struct Api {
    /// The jobs.
    pub store: JobStore,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// Bounds and habits.
    pub settings: Arc<Settings>,
    /// Whether new work is wanted.
    pub readiness: Readiness,
    /// Being told of changes.
    pub streams: Streams,
}

/// The state of the router. One reference count for each request, however much there is in it.
#[derive(Clone)]
pub(super) struct Context(Arc<Shared>);

struct Shared {
    api: Api,
    bounds: Bounds,
    pages: Pages,
}

impl Context {
    pub(super) fn new(api: Api) -> Self {
        let bounds = Bounds::new(api.settings.clone(), api.store.settings().limits.clone());
        Self(Arc::new(Shared { api, bounds, pages: Pages::render() }))
    }

    /// The jobs.
    pub(super) fn store(&self) -> &JobStore {
        &self.0.api.store
    }

    /// Bounds of the HTTP side.
    pub(super) fn settings(&self) -> &Settings {
        &self.0.api.settings
    }

    /// Being told of changes.
    pub(super) fn streams(&self) -> &Streams {
        &self.0.api.streams
    }

    /// What is measured of those who wait.
    pub(super) fn push_metrics(&self) -> &PushMetrics {
        &self.0.api.metrics.push
    }

    /// What requests are parsed by.
    pub(super) fn bounds(&self) -> &Bounds {
        &self.0.bounds
    }

    /// The pages that never change.
    pub(super) fn pages(&self) -> &Pages {
        &self.0.pages
    }
}

impl FromRef<Context> for JobStore {
    fn from_ref(context: &Context) -> Self {
        context.0.api.store.clone()
    }
}

impl FromRef<Context> for Arc<Metrics> {
    fn from_ref(context: &Context) -> Self {
        context.0.api.metrics.clone()
    }
}

impl FromRef<Context> for Arc<Settings> {
    fn from_ref(context: &Context) -> Self {
        context.0.api.settings.clone()
    }
}

impl FromRef<Context> for Readiness {
    fn from_ref(context: &Context) -> Self {
        context.0.api.readiness.clone()
    }
}
