//! Reads that come together: whoever asks while others are being answered is answered with all who came meanwhile, by one
//! statement.
//!
//! Promises: what is answered was read after it was asked for: nobody joins a statement that is under way. It needs no task:
//! those who ask take turns, and whoever goes away in its turn leaves nobody without an answer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::{
    select,
    sync::{Semaphore, oneshot},
};

use super::connect::Connections;
use crate::engine::EngineError;

/// Statements of a kind under way at once.
const TURNS: usize = 2;

/// What can be asked for many in one statement.
pub(super) trait Question: Clone + Sync {
    /// What is answered to one.
    type Answer: Send;
    /// As many are asked for at once, at the most.
    const MOST: usize;

    /// The answers, in the order of the questions.
    fn answers(connections: &Connections, asked: &[&Self]) -> impl Future<Output = Answers<Self::Answer>> + Send;
}

/// An answer to each question, or why there is none to any.
pub(super) type Answers<A> = Result<Vec<Result<A, EngineError>>, EngineError>;

struct Asked<Q: Question> {
    question: Q,
    answer: oneshot::Sender<Result<Q::Answer, EngineError>>,
}

/// Those who ask.
pub(super) struct Gather<Q: Question> {
    asked: Mutex<Vec<Asked<Q>>>,
    turns: Semaphore,
}

impl<Q: Question> Gather<Q> {
    pub(super) fn new() -> Self {
        Self { asked: Mutex::default(), turns: Semaphore::new(TURNS) }
    }

    /// The answer to a question, as of after it was asked.
    pub(super) async fn ask(&self, connections: &Connections, question: Q) -> Result<Q::Answer, EngineError> {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.lock().push(Asked { question: question.clone(), answer });
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
            let count = waiting.len().min(Q::MOST);
            waiting.drain(..count).collect::<Vec<_>>()
        };
        if asked.is_empty() {
            return;
        }
        let questions: Vec<_> = asked.iter().map(|asked| &asked.question).collect();
        match Q::answers(connections, &questions).await {
            Ok(answers) => {
                for (asked, answer) in asked.into_iter().zip(answers) {
                    // Whoever asked may have gone away.
                    let _gone = asked.answer.send(answer);
                }
            }
            Err(error) => {
                for asked in asked {
                    let _gone = asked.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Asked<Q>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
