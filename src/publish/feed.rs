//! Reading the feed of a tenant: what has moved since the reader last looked, page by page, from the store.
//!
//! Promises: whoever follows a feed, or comes back to a place of it, is told what every job that moved has become, or
//! that it has left or gone; once for many moves. A reader holds a page of numbers and a text at the most; both are shared
//! with all others who stand at the same place.

mod filter;
mod pages;
mod piece;

use std::sync::Arc;

pub use self::filter::FeedFilter;
pub(super) use self::pages::Pages;
use self::{
    pages::{Lack, Page},
    piece::Piece,
};
use super::{
    follow::Interrupted,
    frame::{Encoder, Format, Frame, FrameFormat, Said},
    hub::{Hub, Pace, Subject, Watch},
};
use crate::{
    engine::FeedPlace,
    store::{Caller, JobStore, StoreError},
};

/// What a reader of a feed has when its stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedSince {
    /// It wants to hear of what comes.
    Now,
    /// It was told everything up to here. `None`: it says so in words that mean no place.
    Place(Option<FeedPlace>),
}

/// A reader of a feed. Registered as long as it lives.
pub struct FeedReader {
    watch: Watch,
    store: JobStore,
    caller: Caller,
    pages: Arc<Pages>,
    filter: Arc<FeedFilter>,
    place: Place,
    /// Up to where it may read before it waits again.
    goal: FeedPlace,
    /// Whether there may be more than that.
    is_behind: bool,
    beginning: Beginning,
    /// The place that it was last told.
    said: FeedPlace,
}

/// Where a reader stands.
#[derive(Clone, Debug)]
enum Place {
    /// It has everything up to here.
    At(FeedPlace),
    /// It has everything up to the page, and the first jobs of that.
    Within(Arc<Page>, usize),
}

/// What it is still to be told before it waits for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// That it has everything now.
    Ready,
    /// That it has missed something, before that.
    Reset,
    /// Nothing.
    Over,
}

impl FeedReader {
    /// Registers, and reads after.
    ///
    /// # Errors
    /// As [`JobStore::feed_end`].
    pub(super) async fn open(
        hub: &Arc<Hub>,
        store: JobStore,
        pages: Arc<Pages>,
        caller: Caller,
        filter: FeedFilter,
        since: FeedSince,
    ) -> Result<Self, StoreError> {
        let watch = hub.watch(Subject::Feed(caller.tenant), Pace::Calm);
        let end = store.feed_end(caller).await?;
        let (place, beginning) = match since {
            FeedSince::Now => (end, Beginning::Ready),
            // Whether it is a place at all is found out when what follows is read.
            FeedSince::Place(Some(place)) if place <= end => (place, Beginning::Ready),
            FeedSince::Place(_) => (end, Beginning::Reset),
        };
        let (filter, is_behind) = (Arc::new(filter), false);
        let at = Place::At(place);
        Ok(Self { watch, store, caller, pages, filter, place: at, goal: end, is_behind, beginning, said: place })
    }

    /// The next piece, once there is one; it never ends. May be given up and called again: nothing is lost.
    ///
    /// # Errors
    /// After one, the reader may come back with the place it has.
    pub async fn next(&mut self) -> Result<Said, Interrupted> {
        loop {
            if self.watch.is_closed() {
                return Err(Interrupted::Closing);
            }
            if self.is_behind {
                self.goal = self.store.feed_end(self.caller).await?;
                self.is_behind = false;
            }
            match &self.place {
                Place::Within(page, next) => match self.pages.piece(page, *next, &self.filter).await {
                    Ok(piece) => {
                        let page = page.clone();
                        if let Some(said) = self.go_on(&page, &piece) {
                            return Ok(said);
                        }
                    }
                    Err(lack) => self.begin_anew(lack).await?,
                },
                Place::At(place) if *place < self.goal => match self.pages.page(self.caller, *place).await {
                    Ok(page) => self.place = Place::Within(page, 0),
                    Err(lack) => self.begin_anew(lack).await?,
                },
                Place::At(place) if self.beginning != Beginning::Over => return Ok(self.begin(*place)),
                Place::At(_) => {
                    self.watch.moved().await;
                    // Noted before anything is waited for, since that may be given up.
                    self.is_behind = true;
                }
            }
        }
    }

    /// The place of a reader who was told of nothing since it got there: without it, it would come back to one that may be
    /// forgotten by then.
    pub fn unsaid_place(&mut self) -> Option<FeedPlace> {
        match self.place {
            Place::At(place) if place != self.said => {
                self.said = place;
                Some(place)
            }
            Place::At(_) | Place::Within(..) => None,
        }
    }

    fn go_on(&mut self, page: &Arc<Page>, piece: &Piece) -> Option<Said> {
        self.place = match piece.next {
            Some(next) => Place::Within(page.clone(), next),
            None => Place::At(page.to),
        };
        if piece.said.frames == 0 {
            return None;
        }
        self.said = if piece.next.is_none() { page.to } else { page.from };
        Some(piece.said.clone())
    }

    fn begin(&mut self, place: FeedPlace) -> Said {
        let mut encoder = Encoder::new(Format::Frames(FrameFormat::EventStream));
        if self.beginning == Beginning::Reset {
            encoder.push(place, &Frame::Reset);
        }
        encoder.push(place, &Frame::Ready);
        self.beginning = Beginning::Over;
        self.said = place;
        Said::of(encoder)
    }

    /// Lets a reader begin with now, who has missed what is forgotten.
    async fn begin_anew(&mut self, lack: Lack) -> Result<(), Interrupted> {
        match lack {
            Lack::Store(error) => Err(error.into()),
            Lack::Forgotten => {
                self.goal = self.store.feed_end(self.caller).await?;
                self.place = Place::At(self.goal);
                self.beginning = Beginning::Reset;
                Ok(())
            }
        }
    }
}
