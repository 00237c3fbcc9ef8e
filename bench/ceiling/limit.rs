//! The limit: a change is durable, and nothing else is known of it.
//!
//! A preallocated file, and a thread that appends whatever has come while it was syncing: one write and one fdatasync for
//! all of it, and then the answers. Nothing is parsed, decided, indexed or read again. No store that keeps what it
//! acknowledges can be faster on the same stack; what the service is short of it is the price of being a job store.

use std::{
    fs::File,
    io::{self, Write as _},
    mem,
    os::unix::fs::FileExt as _,
    path::Path as FilePath,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, patch, post},
};
use tokio::sync::oneshot;

use super::{Answer, Routes, ready};

/// Bytes of the file, which begins anew when it is full.
const LOG_BYTES: u64 = 256 * 1024 * 1024;

/// One answer to all that is durable.
#[derive(Clone)]
pub(super) struct Limit {
    pub(super) answer: Arc<Answer>,
    pub(super) log: Log,
}

pub(super) fn routes() -> Routes<Limit, 3> {
    [("/jobs/{id}", patch(answer_synced)), ("/jobs/{id}/logs", post(answer_synced)), ("/readyz", get(ready))]
}

async fn answer_synced(State(Limit { answer, log }): State<Limit>, Path(id): Path<String>, body: Bytes) -> Response {
    match log.append(id, body).await {
        Ok(()) => answer.response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

/// A change that waits for its sync.
struct Waiting {
    key: String,
    body: Bytes,
    durable: oneshot::Sender<io::Result<()>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Vec<Waiting>>,
    filled: Condvar,
}

impl Queue {
    /// All that waits, and waits for it.
    fn take(&self, empty: &mut Vec<Waiting>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.is_empty() {
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(&mut *waiting, empty);
    }
}

/// A bare log.
#[derive(Clone)]
pub(super) struct Log(Arc<Queue>);

impl Log {
    /// Makes the file, and the thread that writes it for as long as the process lives.
    pub(super) fn create(path: &FilePath) -> io::Result<Self> {
        let mut file = File::create(path)?;
        // Written and not only reserved: otherwise each write would change what the file system knows of the file.
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..LOG_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        let queue = Arc::new(Queue::default());
        let log = Self(queue.clone());
        thread::Builder::new().name("log".into()).spawn(move || write_all(&file, &queue))?;
        Ok(log)
    }

    /// Returns once it is on the disk.
    pub(super) async fn append(&self, key: String, body: Bytes) -> io::Result<()> {
        let (durable, synced) = oneshot::channel();
        {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.is_empty() {
                self.0.filled.notify_one();
            }
            waiting.push(Waiting { key, body, durable });
        }
        synced.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

fn write_all(file: &File, queue: &Queue) {
    let (mut batch, mut bytes, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        queue.take(&mut batch);
        bytes.clear();
        for Waiting { key, body, .. } in &batch {
            bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
            bytes.extend_from_slice(key.as_bytes());
            bytes.extend_from_slice(body);
        }
        if at + bytes.len() as u64 > LOG_BYTES {
            at = 0;
        }
        let written = file.write_all_at(&bytes, at).and_then(|()| file.sync_data());
        at += bytes.len() as u64;
        for Waiting { durable, .. } in batch.drain(..) {
            let _gone = durable.send(written.as_ref().map(|_| ()).map_err(|error| error.kind().into()));
        }
    }
}
