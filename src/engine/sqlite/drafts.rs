//! Drafts: the heads of jobs that are changed again and again, newer than those in the tables.
//!
//! Promises: whoever takes the drafts of a moment, and looks at the tables after that, finds the newest head of each job in one of the
//! two: of both the one with the higher revision. What was taken stays as it is, at no cost but that of what changes meanwhile.
//! Knows nothing of how drafts are kept on the disk, which is for [`super::journal`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::timeline::Rest;
use crate::engine::TimelinePlace;

/// Bits of a job's number that choose one of the slots of a level; jobs are numbered one after the other, and fill them evenly.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// What stands of a job in the journal and not in the tables.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) revision: u64,
    /// Sealed.
    pub(super) head: Box<[u8]>,
    /// Where the rows of its timeline end, as the head says.
    pub(super) timeline: TimelinePlace,
    /// What of its timeline is in no row.
    pub(super) rest: Rest,
    /// Which part of the journal has it, see [`super::journal`].
    pub(super) generation: u32,
}

type Leaf = Arc<Vec<(u64, Arc<Draft>)>>;
type Branch = Arc<[Leaf; SLOTS]>;

/// The drafts of one moment. A clone shares all of them with it, and each may go on by itself: what is changed is copied if it is
/// still shared, a leaf and the two levels above it.
#[derive(Clone, Debug)]
pub(super) struct Drafts(Arc<[Branch; SLOTS]>);

impl Default for Drafts {
    fn default() -> Self {
        let leaf = Leaf::default();
        let branch: Branch = Arc::new(std::array::from_fn(|_| leaf.clone()));
        Self(Arc::new(std::array::from_fn(|_| branch.clone())))
    }
}

impl Drafts {
    /// The draft of the job of a number.
    pub(super) fn get(&self, number: u64) -> Option<&Arc<Draft>> {
        let (branch, leaf) = slots(number);
        self.0[branch][leaf].iter().find(|(job, _)| *job == number).map(|(_, draft)| draft)
    }

    /// Puts one in the place of the one there is, or with `None` takes that out.
    pub(super) fn set(&mut self, number: u64, draft: Option<Arc<Draft>>) {
        let (branch, leaf) = slots(number);
        let branch = Arc::make_mut(&mut Arc::make_mut(&mut self.0)[branch]);
        let leaf = Arc::make_mut(&mut branch[leaf]);
        let found = leaf.iter().position(|(job, _)| *job == number);
        match (found, draft) {
            (Some(at), Some(draft)) => leaf[at].1 = draft,
            (Some(at), None) => drop(leaf.swap_remove(at)),
            (None, Some(draft)) => leaf.push((number, draft)),
            (None, None) => {}
        }
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Arc<Draft>)> {
        self.0.iter().flat_map(|branch| branch.iter()).flat_map(|leaf| leaf.iter().map(|(job, draft)| (*job, draft)))
    }
}

fn slots(number: u64) -> (usize, usize) {
    let slot = |bits: u64| bits as usize & (SLOTS - 1);
    (slot(number >> SLOT_BITS), slot(number))
}

/// The drafts that are committed, for the writer and those who read.
#[derive(Clone, Debug, Default)]
pub(super) struct Committed(Arc<Mutex<Drafts>>);

impl Committed {
    /// Those of this moment. Whoever wants to know what the tables have beside them looks at those afterwards.
    pub(super) fn now(&self) -> Drafts {
        self.lock().clone()
    }

    /// The one of a job.
    pub(super) fn get(&self, number: u64) -> Option<Arc<Draft>> {
        self.lock().get(number).cloned()
    }

    /// Takes over what a commit has made of some, which the disk has by now.
    pub(super) fn apply(&self, changes: impl Iterator<Item = (u64, Option<Arc<Draft>>)>) {
        let mut drafts = self.lock();
        changes.for_each(|(number, draft)| drafts.set(number, draft));
    }

    fn lock(&self) -> MutexGuard<'_, Drafts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn draft(revision: u64) -> Arc<Draft> {
        let (timeline, rest) = (TimelinePlace::default(), Rest::default());
        Arc::new(Draft { revision, head: Box::default(), timeline, rest, generation: 1 })
    }

    proptest! {
        /// Of any changes the drafts are what a map would be; what was taken before them stays as it was.
        #[test]
        fn drafts_are_a_map_and_what_is_taken_stays(
            changes in vec((0_u64..300, any::<bool>(), any::<bool>()), 0..600)
        ) {
            let (committed, mut plain) = (Committed::default(), HashMap::new());
            let mut taken = Vec::new();
            for (revision, (number, is_there, is_taken)) in (1..).zip(changes) {
                // Numbers of the same leaf are among them.
                let number = number * (SLOTS as u64);
                committed.apply([(number, is_there.then(|| draft(revision)))].into_iter());
                if is_there { plain.insert(number, revision); } else { plain.remove(&number); }
                if is_taken {
                    taken.push((committed.now(), plain.clone()));
                }
            }
            for (drafts, plain) in taken {
                let all: HashMap<u64, u64> = drafts.iter().map(|(number, draft)| (number, draft.revision)).collect();
                prop_assert_eq!(&all, &plain);
                prop_assert!((0..300).map(|n| n * SLOTS as u64).all(|n| drafts.get(n).map(|d| d.revision) == plain.get(&n).copied()));
            }
        }
    }
}
