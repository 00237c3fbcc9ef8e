//! Reads that come together: whoever asks while others are being answered is answered with all who came meanwhile, by one
//! statement.
//!
//! Promises: what is answered was read after it was asked for: nobody joins a statement that is under way. It needs no task:
//! those who ask take turns, and whoever goes away in its turn leaves nobody without an answer.

use std::sync::{Mutex, PoisonError};

use tokio::{
    select,
    sync::{Semaphore, oneshot},
};

use super::{connect::Connections, read::look_up};
use crate::{
    engine::{EngineError, Found},
    job::JobKey,
};

/// Statements under way at once.
const TURNS: usize = 2;
/// Jobs asked for in one statement.
const JOBS_MAX: usize = 500;

type Answer = Result<Option<Found>, EngineError>;

struct Asked {
    key: JobKey,
    /// The number and revision of the job that is known already.
    known: Option<(u64, u64)>,
    answer: oneshot::Sender<Answer>,
}

/// Those who ask.
pub(super) struct Gather {
    asked: Mutex<Vec<Asked>>,
    turns: Semaphore,
}

impl Gather {
    pub(super) fn new() -> Self {
        Self { asked: Mutex::default(), turns: Semaphore::new(TURNS) }
    }

    /// What an id leads to; `None`: to the job that is known.
    pub(super) async fn look_up(&self, connections: &Connections, key: &JobKey, known: Option<(u64, u64)>) -> Answer {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.lock().push(Asked { key: key.clone(), known, answer });
            loop {
                select! {
                    biased;
                    came = &mut answered => match came {
                        Ok(answer) => return answer,
                        // It was in the turn of somebody who has gone away.
                        Err(_) => break,
                    },
                    // Perhaps without it: others may have come before, or be at it.
                    _turn = self.turns.acquire() => self.answer_some(connections).await,
                }
            }
        }
    }

    /// Answers those who have come first.
    async fn answer_some(&self, connections: &Connections) {
        let asked = {
            let mut waiting = self.lock();
            // Some have gone away.
            waiting.retain(|asked| !asked.answer.is_closed());
            let count = waiting.len().min(JOBS_MAX);
            waiting.drain(..count).collect::<Vec<_>>()
        };
        if asked.is_empty() {
            return;
        }
        let keys: Vec<_> = asked.iter().map(|asked| (&asked.key, asked.known)).collect();
        match look_up(connections, &keys).await {
            Ok(found) => {
                for (asked, found) in asked.into_iter().zip(found) {
                    // Whoever asked may have gone away.
                    let _gone = asked.answer.send(found);
                }
            }
            Err(error) => {
                for asked in asked {
                    let _gone = asked.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
