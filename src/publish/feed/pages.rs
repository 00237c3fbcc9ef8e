//! The last pages and pieces that were made, and the jobs read for them: whoever stands where another reader stood gets
//! the same ones, and whoever has another filter the same jobs.
//!
//! Promises: bounded by bytes. A page is for those who come within a moment: a later reader gets a new one, which ends
//! where the feed does, so that it is told once of a job that has moved many times since. One may outlive the place it
//! begins at in the store by that moment; whoever gets it has missed nothing.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use thiserror::Error;
use tokio::time::Instant;

use super::{FeedFilter, piece::Piece};
use crate::{
    engine::{EngineError, Fed, FeedPlace, FeedQuery, Moved},
    publish::streams::{FeedSettings, Settings},
    store::{self, Caller, JobStore, StoreError},
};

/// Part of a feed.
#[derive(Debug)]
pub(in crate::publish) struct Page {
    pub(super) caller: Caller,
    pub(super) from: FeedPlace,
    pub(super) moved: Vec<Moved>,
    pub(super) to: FeedPlace,
    made_at: Instant,
}

/// What the jobs of a part of a page have become.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The first job.
    begin: usize,
    /// `None` for those that are gone by the page itself.
    now: Vec<Option<Fed>>,
}

/// Jobs in a chunk: so many are read at once.
const CHUNK_JOBS: usize = 200;

impl Chunk {
    /// The jobs of the chunk from this one on.
    pub(super) fn jobs<'a>(
        &'a self,
        page: &'a Page,
        from: usize,
    ) -> impl Iterator<Item = (&'a Moved, Option<&'a Fed>)> {
        let all = page.moved.iter().skip(self.begin).zip(&self.now).map(|(moved, now)| (moved, now.as_ref()));
        all.skip(from - self.begin)
    }

    async fn read(store: &JobStore, page: &Page, begin: usize) -> Result<Self, Lack> {
        let moved = &page.moved[begin..page.moved.len().min(begin + CHUNK_JOBS)];
        let is_here = |moved: &&Moved| moved.gone.is_none();
        let numbers = moved.iter().filter(is_here).map(|moved| moved.number).collect();
        let mut fed = store.fed(numbers).await?.ok_or(Lack::Forgotten)?.into_iter();
        let now = moved.iter().map(|moved| if is_here(&moved) { fed.next() } else { None }).collect();
        Ok(Self { begin, now })
    }

    /// What holding it costs in memory, about.
    fn weight(&self) -> u64 {
        let now = |now: &Option<Fed>| match now {
            Some(Fed::Job(job)) => store::weight(job, None),
            Some(Fed::Gone(_)) | None => size_of::<Fed>() as u64,
        };
        self.now.iter().map(now).sum()
    }
}

/// Why there is no page or piece.
#[derive(Clone, Debug, Error)]
pub(super) enum Lack {
    /// The place is none of the feed, or was too long ago, or what follows is damaged.
    #[error("the place in the feed is not known")]
    Forgotten,
    /// It cannot be read for now.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for Lack {
    /// What is damaged stays so: whoever is to be told of it would come back for it again and again.
    fn from(error: StoreError) -> Self {
        if let StoreError::Engine(EngineError::Corrupt(damage)) = &error {
            tracing::error!(%damage, "part of a feed cannot be read; its readers are told to read the list anew");
            return Self::Forgotten;
        }
        Self::Store(error)
    }
}

/// Pages and pieces.
pub(in crate::publish) struct Pages {
    store: JobStore,
    settings: Settings,
    pages: Cache<(Caller, FeedPlace), Arc<Page>, Weight>,
    chunks: Cache<ChunkKey, Arc<Chunk>, Weight>,
    pieces: Cache<PieceKey, Arc<Piece>, Weight>,
}

/// Which jobs are in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ChunkKey {
    caller: Caller,
    from: FeedPlace,
    to: FeedPlace,
    begin: usize,
}

/// What a piece depends on, but for what the jobs have become meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PieceKey {
    caller: Caller,
    from: FeedPlace,
    to: FeedPlace,
    /// The first job.
    begin: usize,
    filter: Arc<FeedFilter>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<(Caller, FeedPlace), Arc<Page>> for Weight {
    fn weight(&self, _: &(Caller, FeedPlace), page: &Arc<Page>) -> u64 {
        (size_of::<Page>() + page.moved.iter().map(Moved::weight).sum::<usize>()) as u64
    }
}

impl Weighter<ChunkKey, Arc<Chunk>> for Weight {
    fn weight(&self, _: &ChunkKey, chunk: &Arc<Chunk>) -> u64 {
        size_of::<ChunkKey>() as u64 + chunk.weight()
    }
}

impl Weighter<PieceKey, Arc<Piece>> for Weight {
    fn weight(&self, key: &PieceKey, piece: &Arc<Piece>) -> u64 {
        (size_of::<PieceKey>() + key.filter.weight() + size_of::<Piece>() + piece.said.text.len()) as u64
    }
}

impl Pages {
    pub(in crate::publish) fn new(store: JobStore, settings: Settings) -> Self {
        /// Only sizes the hash tables at first; the weight is what bounds them.
        const ITEMS_EXPECTED: usize = 100;
        let bytes_max = settings.feed.cache_bytes_max / 3;
        let pages = Cache::with_weighter(ITEMS_EXPECTED, bytes_max, Weight);
        let chunks = Cache::with_weighter(ITEMS_EXPECTED, bytes_max, Weight);
        let pieces = Cache::with_weighter(ITEMS_EXPECTED, bytes_max, Weight);
        Self { store, settings, pages, chunks, pieces }
    }

    /// A page after a place: made once for all who ask meanwhile.
    pub(super) async fn page(&self, caller: Caller, from: FeedPlace) -> Result<Arc<Page>, Lack> {
        let key = (caller, from);
        self.pages.remove_if(&key, |page| page.made_at.elapsed() > self.settings.calm);
        let make = async {
            let FeedSettings { jobs_max, entries_max, .. } = self.settings.feed;
            let query = FeedQuery { tenant: caller.tenant, after: from, jobs_max, entries_max };
            // Asked for only where there is more; a page that leads nowhere would be read again and again.
            let page = self.store.feed(query).await?.filter(|page| page.to > from).ok_or(Lack::Forgotten)?;
            Ok(Arc::new(Page { caller, from, moved: page.moved, to: page.to, made_at: Instant::now() }))
        };
        self.pages.get_or_insert_async(&key, make).await
    }

    /// What a page tells those with this filter, from this job on: made once for all who ask meanwhile.
    pub(super) async fn piece(&self, page: &Page, begin: usize, filter: &Arc<FeedFilter>) -> Result<Arc<Piece>, Lack> {
        let Page { caller, from, to, .. } = *page;
        let key = PieceKey { caller, from, to, begin, filter: filter.clone() };
        let make = async {
            let chunk = self.chunk(page, begin - begin % CHUNK_JOBS).await?;
            Ok(Arc::new(Piece::make(page, begin, &chunk, filter, self.settings.step_bytes)))
        };
        self.pieces.get_or_insert_async(&key, make).await
    }

    /// What the jobs of a chunk have become: read once for all filters.
    async fn chunk(&self, page: &Page, begin: usize) -> Result<Arc<Chunk>, Lack> {
        let Page { caller, from, to, .. } = *page;
        let read = async { Ok(Arc::new(Chunk::read(&self.store, page, begin).await?)) };
        self.chunks.get_or_insert_async(&ChunkKey { caller, from, to, begin }, read).await
    }
}
