//! An engine that breaks one promise and keeps the others: that the sagas can find what they look for.

use std::sync::Arc;

use async_trait::async_trait;
use milepost::{
    engine::{
        Caution, Count, Elsewhere, Engine, EngineError, Exported, Fed, FeedPage, FeedPlace, FeedQuery, Found,
        ListQuery, LogSlice, Once, Outcome, Page, Put, QueueQuery, Stored, Tally, Write,
    },
    job::{JobKey, Json, Kind, LogLine, PastAttempt, Progress, Seconds, Tenant, TimelineEntry, Timestamp},
};
use tokio::sync::mpsc;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    DropsLines,
    DropsTheTimeline,
    DropsAttempts,
    DropsInputs,
    DropsKeys,
    DropsReservations,
    AcknowledgesWithoutCommitting,
    ServesTheLastFirst,
    NeverComesUp,
    ReadsWithoutProgress,
    SkipsALine,
    ListsOneLess,
    ListsInTheOtherOrder,
    CountsOneMore,
    FeedsOneLess,
    ExportsNoLines,
}

impl Fault {
    pub(super) const ALL: [Self; 16] = [
        Self::DropsLines,
        Self::DropsTheTimeline,
        Self::DropsAttempts,
        Self::DropsInputs,
        Self::DropsKeys,
        Self::DropsReservations,
        Self::AcknowledgesWithoutCommitting,
        Self::ServesTheLastFirst,
        Self::NeverComesUp,
        Self::ReadsWithoutProgress,
        Self::SkipsALine,
        Self::ListsOneLess,
        Self::ListsInTheOtherOrder,
        Self::CountsOneMore,
        Self::FeedsOneLess,
        Self::ExportsNoLines,
    ];
}

/// See the module.
pub(super) struct Faulty {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) fault: Fault,
}

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

#[async_trait]
impl Engine for Faulty {
    async fn commit(&self, mut batch: Vec<Write>) -> Result<Vec<Outcome>, EngineError> {
        if self.has(Fault::AcknowledgesWithoutCommitting) && batch.iter().all(|write| write.before.is_some()) {
            let places = batch.iter().filter_map(|write| write.before.as_ref()).map(|stored| stored.place);
            return Ok(places.map(Outcome::Committed).collect());
        }
        for write in &mut batch {
            match (self.fault, &mut write.put) {
                (Fault::DropsLines, _) => write.lines.clear(),
                (Fault::DropsTheTimeline, _) => write.history.timeline.clear(),
                (Fault::DropsAttempts, _) => write.history.attempts.clear(),
                (Fault::DropsKeys, _) => write.once = None,
                (Fault::DropsInputs, Put::New { input, .. }) => *input = None,
                (Fault::DropsReservations, Put::Deleted { reserved_until }) => *reserved_until = Timestamp(0),
                _ => {}
            }
        }
        self.engine.commit(batch).await
    }

    fn is_remote(&self) -> bool {
        self.engine.is_remote()
    }

    async fn maintain(&self, is_idle: bool) -> bool {
        self.engine.maintain(is_idle).await
    }

    async fn find_many(&self, keys: &[JobKey]) -> Vec<Result<Found, EngineError>> {
        self.engine.find_many(keys).await
    }

    async fn queued(&self, query: &QueueQuery) -> Result<Vec<Stored>, EngineError> {
        let mut jobs = self.engine.queued(query).await?;
        if self.has(Fault::ServesTheLastFirst) {
            jobs.reverse();
        }
        Ok(jobs)
    }

    async fn due(&self, now: Timestamp, jobs_max: usize) -> Result<Vec<JobKey>, EngineError> {
        if self.has(Fault::NeverComesUp) { Ok(Vec::new()) } else { self.engine.due(now, jobs_max).await }
    }

    async fn find(&self, key: &JobKey) -> Result<Found, EngineError> {
        let mut found = self.engine.find(key).await?;
        if let (true, Found::Job(stored)) = (self.has(Fault::ReadsWithoutProgress), &mut found) {
            Arc::make_mut(&mut stored.job).progress = Progress::ZERO;
        }
        Ok(found)
    }

    async fn moved(&self, known: &Stored) -> Result<Option<Found>, EngineError> {
        self.engine.moved(known).await
    }

    async fn moved_since(&self, known: &[&Stored]) -> Result<Vec<(usize, Found)>, EngineError> {
        self.engine.moved_since(known).await
    }

    async fn input(&self, stored: &Stored) -> Result<Option<Json>, EngineError> {
        self.engine.input(stored).await
    }

    async fn attempts(&self, stored: &Stored) -> Result<Vec<PastAttempt>, EngineError> {
        self.engine.attempts(stored).await
    }

    async fn timeline(&self, stored: &Stored) -> Result<Option<Vec<TimelineEntry>>, EngineError> {
        self.engine.timeline(stored).await
    }

    async fn log(&self, stored: &Stored, slice: LogSlice) -> Result<Option<Vec<LogLine>>, EngineError> {
        let mut lines = self.engine.log(stored, slice).await?;
        if let (true, Some(lines)) = (self.has(Fault::SkipsALine), &mut lines) {
            lines.drain(1.min(lines.len())..2.min(lines.len()));
        }
        Ok(lines)
    }

    async fn once(&self, tenant: Tenant, key: &str, now: Timestamp) -> Result<Option<Once>, EngineError> {
        self.engine.once(tenant, key, now).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, EngineError> {
        let mut page = self.engine.list(query).await?;
        if self.has(Fault::ListsOneLess) {
            page.jobs.pop();
        }
        if self.has(Fault::ListsInTheOtherOrder) {
            page.jobs.reverse();
        }
        Ok(page)
    }

    async fn feed_end(&self, tenant: Tenant) -> Result<FeedPlace, EngineError> {
        self.engine.feed_end(tenant).await
    }

    async fn feed(&self, query: FeedQuery) -> Result<Option<FeedPage>, EngineError> {
        let mut page = self.engine.feed(query).await?;
        if let (true, Some(page)) = (self.has(Fault::FeedsOneLess), &mut page) {
            page.moved.pop();
        }
        Ok(page)
    }

    async fn fed(&self, numbers: Vec<u64>) -> Result<Option<Vec<Fed>>, EngineError> {
        self.engine.fed(numbers).await
    }

    async fn counts(&self) -> Result<Vec<Count>, EngineError> {
        self.engine.counts().await
    }

    async fn figures(&self, tenant: Tenant) -> Result<(Vec<Count>, Vec<(Kind, Tally)>), EngineError> {
        let (mut counts, tallies) = self.engine.figures(tenant).await?;
        if let (true, Some(count)) = (self.has(Fault::CountsOneMore), counts.first_mut()) {
            count.jobs += 1;
        }
        Ok((counts, tallies))
    }

    fn usual_seconds(&self, tenant: Tenant, kind: &Kind) -> Option<Seconds> {
        self.engine.usual_seconds(tenant, kind)
    }

    async fn export(&self) -> Result<mpsc::Receiver<Result<Exported, EngineError>>, EngineError> {
        let mut whole = self.engine.export().await?;
        if !self.has(Fault::ExportsNoLines) {
            return Ok(whole);
        }
        let mut pieces = Vec::new();
        while let Some(piece) = whole.recv().await {
            pieces.push(piece);
        }
        let (sender, part) = mpsc::channel(pieces.len().max(1));
        for piece in pieces.into_iter().filter(|piece| !matches!(piece, Ok(Exported::Lines(_)))) {
            sender.try_send(piece).unwrap();
        }
        Ok(part)
    }

    async fn attend(&self, tell: &(dyn Fn(Elsewhere) + Send + Sync)) {
        self.engine.attend(tell).await;
    }

    fn cautions(&self) -> Vec<Caution> {
        self.engine.cautions()
    }

    fn open_since(&self) -> Timestamp {
        self.engine.open_since()
    }

    fn health(&self) -> Result<(), EngineError> {
        self.engine.health()
    }

    async fn close(&self) -> Result<(), EngineError> {
        self.engine.close().await
    }
}
