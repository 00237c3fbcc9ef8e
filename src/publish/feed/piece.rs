//! What a page tells those who have the same filter, as text.

use std::sync::Arc;

use super::{
    FeedFilter,
    pages::{Chunk, Page},
};
use crate::{
    engine::{Fed, FeedPlace, Moved},
    job::{Document, Job, JobId},
    publish::frame::{Encoder, Format, Frame, FrameFormat, Named, Said},
};

/// A piece of a page.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) said: Said,
    /// The first job of the next piece, if the page has more.
    pub(super) next: Option<usize>,
}

/// What there is to tell of a job.
enum Told {
    Fits(Arc<Job>),
    Left(JobId),
    Deleted(JobId),
}

impl Piece {
    /// Tells of the jobs of a page from this one on, until there is enough to send or the chunk that it is in ends, so
    /// that others have their turn; that may be nothing. The last frame of a page has its end as id, all others its
    /// beginning: whoever is cut off in between comes back to where it was.
    pub(super) fn make(page: &Page, begin: usize, chunk: &Chunk, filter: &FeedFilter, bytes: usize) -> Self {
        let mut encoder = Encoder::new(Format::Frames(FrameFormat::EventStream));
        // Told when it is known whether it is the last.
        let mut last = None;
        let mut at = begin;
        for (moved, now) in chunk.jobs(page, begin) {
            if encoder.len() >= bytes {
                break;
            }
            if let Some(told) = tell(moved, now, filter)
                && let Some(earlier) = last.replace(told)
            {
                push(&mut encoder, page.from, &earlier);
            }
            at += 1;
        }
        let next = (at < page.moved.len()).then_some(at);
        if let Some(last) = last {
            push(&mut encoder, if next.is_none() { page.to } else { page.from }, &last);
        }
        Self { said: Said::of(encoder), next }
    }
}

/// What a reader with this filter is told of a job that has moved.
fn tell(moved: &Moved, now: Option<&Fed>, filter: &FeedFilter) -> Option<Told> {
    match (now, &moved.gone) {
        (Some(Fed::Job(job)), _) if filter.fits(job) => Some(Told::Fits(job.clone())),
        (Some(Fed::Job(job)), _) => {
            let has_fitted = filter.has_fitted(&job.spec.kind, &moved.past, Some(&job.labels));
            has_fitted.then(|| Told::Left(job.key().id.clone()))
        }
        // What it was in between is told further on in the feed; whether it was told of is not known here.
        (Some(Fed::Gone(gone)), _) => filter.takes(&gone.kind).then(|| Told::Deleted(gone.id.clone())),
        (None, Some(gone)) => filter.has_fitted(&gone.kind, &moved.past, None).then(|| Told::Deleted(gone.id.clone())),
        (None, None) => None,
    }
}

fn push(encoder: &mut Encoder, id: FeedPlace, told: &Told) {
    match told {
        Told::Fits(job) => encoder.push(id, &Frame::Job(&Document::new(job).without_result())),
        Told::Left(id_of_job) => encoder.push(id, &Frame::Left(Named { id: id_of_job })),
        Told::Deleted(id_of_job) => encoder.push(id, &Frame::Deleted(Named { id: id_of_job })),
    }
}
