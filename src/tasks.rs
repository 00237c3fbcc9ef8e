//! Background work: every task has a name, a span, a policy for its death and a way to be told to end.
//!
//! Promises: nothing is spawned and forgotten. Tasks end in the reverse order of their start, each within its own time;
//! what is left when the tasks are dropped is aborted.
//! Knows nothing of what a task does.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use thiserror::Error;
use tokio::{
    runtime::{Builder, Handle},
    select,
    sync::{mpsc, oneshot, watch},
    task::{self, JoinHandle},
    time,
};
use tracing::{Instrument, Span, error, error_span, warn};

/// How a task ended that was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything it had begun is done.
    Complete,
    /// It had to give something up.
    CutShort,
}

/// A task has died without which the server cannot serve.
#[derive(Debug, Error)]
#[error("the task `{0}` has died")]
pub struct Death(pub &'static str);

/// Not everything that was under way could be brought to its end.
#[derive(Debug, Error)]
pub enum Unfinished {
    /// A task had to give something up.
    #[error("the task `{0}` could not finish what it had begun")]
    CutShort(&'static str),
    /// A task did not end in its time and was aborted.
    #[error("the task `{0}` did not end in time")]
    Overdue(&'static str),
}

/// What a task is called and how long it may take to end.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name, in spans and errors.
    pub name: &'static str,
    /// How long it may take to end once it is told to.
    pub grace: Duration,
}

/// What tells a thread that something it waits for has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reactor {
    /// That of the other tasks: the cheapest for work that waits for them.
    Shared,
    /// One of its own: what comes over a network then does not wait until the other tasks have had their turns.
    Own,
}

/// The running tasks. Dropping them aborts them.
#[derive(Debug)]
pub struct Tasks {
    running: Vec<Task>,
    deaths: mpsc::UnboundedSender<Death>,
    died: mpsc::UnboundedReceiver<Death>,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        let (deaths, died) = mpsc::unbounded_channel();
        Self { running: Vec::new(), deaths, died }
    }

    /// Starts work that the server cannot be without: its end before it is told to end is a [`Death`].
    pub fn vital<W>(&mut self, about: About, tell: impl FnOnce() + Send + 'static, work: W)
    where
        W: Future<Output = Ended> + Send + 'static,
    {
        let deaths = self.deaths.clone();
        self.spawn(about, tell, |told| async move {
            let ended = survive(work).await;
            if !told.load(Ordering::SeqCst) {
                error!("the task has ended although nobody told it to");
                // Nobody listens any more once the tasks are dropped.
                let _unheard = deaths.send(Death(about.name));
            }
            ended.unwrap_or(Ended::CutShort)
        });
    }

    /// As [`Tasks::vital`], on a thread of its own, which the work may block.
    pub fn vital_thread<W>(&mut self, about: About, tell: impl FnOnce() + Send + 'static, reactor: Reactor, work: W)
    where
        W: Future<Output = Ended> + Send + 'static,
    {
        let runtime = Handle::current();
        let (alive, dropped) = oneshot::channel::<()>();
        self.vital(about, tell, async move {
            // What blocks cannot be aborted from outside: it learns from this that the task is gone.
            let _alive = alive;
            let span = Span::current();
            let work = async move {
                select! {
                    _ = dropped => Ended::CutShort,
                    ended = work => ended,
                }
            };
            let work = work.instrument(span);
            let ended = task::spawn_blocking(move || match reactor {
                Reactor::Shared => runtime.block_on(work),
                Reactor::Own => match Builder::new_current_thread().enable_all().build() {
                    Ok(own) => {
                        let ended = own.block_on(survive(work));
                        // Waits for nothing that it has put on other threads, such as a name that is being looked up.
                        own.shutdown_background();
                        ended.unwrap_or_else(|panic| resume_unwind(panic))
                    }
                    Err(error) => {
                        error!(%error, "the system has no reactor for the task");
                        Ended::CutShort
                    }
                },
            });
            let ended = ended.await;
            ended.unwrap_or_else(|error| match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Ended::CutShort,
            })
        });
    }

    /// Starts work that is begun anew, after a pause, whenever it dies.
    pub fn restarted<W, F>(&mut self, about: About, tell: impl FnOnce() + Send + 'static, mut begin: F)
    where
        F: FnMut() -> W + Send + 'static,
        W: Future<Output = Ended> + Send + 'static,
    {
        const PAUSE: Duration = Duration::from_secs(1);
        self.spawn(about, tell, |told| async move {
            loop {
                let ended = survive(begin()).await;
                if told.load(Ordering::SeqCst) {
                    return ended.unwrap_or(Ended::CutShort);
                }
                warn!("the task has ended although nobody told it to, and is started again");
                time::sleep(PAUSE).await;
                if told.load(Ordering::SeqCst) {
                    return Ended::Complete;
                }
            }
        });
    }

    /// Waits until a vital task dies.
    pub async fn death(&mut self) -> Death {
        match self.died.recv().await {
            Some(death) => death,
            // Cannot be: a sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }

    /// Tells the tasks to end, the last one first, and waits for each.
    ///
    /// # Errors
    /// The first thing that remained undone; the later tasks are ended all the same.
    pub async fn shutdown(mut self) -> Result<(), Unfinished> {
        let mut result = Ok(());
        while let Some(task) = self.running.pop() {
            let name = task.about.name;
            if let Err(unfinished) = task.end().await {
                error!(task = name, "{unfinished}");
                result = result.and(Err(unfinished));
            }
        }
        result
    }

    fn spawn<W>(&mut self, about: About, tell: impl FnOnce() + Send + 'static, work: impl FnOnce(Arc<AtomicBool>) -> W)
    where
        W: Future<Output = Ended> + Send + 'static,
    {
        let told = Arc::new(AtomicBool::new(false));
        let span = error_span!("task", task = about.name);
        let handle = tokio::spawn(work(told.clone()).instrument(span));
        self.running.push(Task { about, told, tell: Some(Box::new(tell)), handle });
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

struct Task {
    about: About,
    told: Arc<AtomicBool>,
    tell: Option<Box<dyn FnOnce() + Send>>,
    handle: JoinHandle<Ended>,
}

impl Task {
    async fn end(mut self) -> Result<(), Unfinished> {
        self.told.store(true, Ordering::SeqCst);
        if let Some(tell) = self.tell.take() {
            tell();
        }
        match time::timeout(self.about.grace, &mut self.handle).await {
            Ok(Ok(Ended::Complete)) => Ok(()),
            Ok(Ok(Ended::CutShort) | Err(_)) => Err(Unfinished::CutShort(self.about.name)),
            Err(_) => Err(Unfinished::Overdue(self.about.name)),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("about", &self.about).finish_non_exhaustive()
    }
}

/// What the work comes to, also when it panics; the panic itself is logged by the panic hook.
async fn survive<W: Future<Output = Ended>>(work: W) -> Result<Ended, Box<dyn Any + Send>> {
    AssertUnwindSafe(work).catch_unwind().await
}

/// Tells many that they shall stop.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Learns that it shall stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// A way to tell work to stop, and what the work waits on.
pub fn stop() -> (Stopper, Stop) {
    let (stopper, stop) = watch::channel(false);
    (Stopper(stopper), Stop(stop))
}

impl Stopper {
    /// Tells everyone.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Whether it shall stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it shall stop; also when nobody is left who could say so.
    pub async fn requested(&mut self) {
        let _unable = self.0.wait_for(|stop| *stop).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn about(name: &'static str) -> About {
        About { name, grace: GRACE }
    }

    /// Starts a task that ends well when it is told to, and notes it.
    fn obedient(tasks: &mut Tasks, name: &'static str, ends: &Arc<Mutex<Vec<&'static str>>>) {
        let (stopper, mut stop) = stop();
        let ends = ends.clone();
        tasks.vital(about(name), move || stopper.stop(), async move {
            stop.requested().await;
            ends.lock().unwrap().push(name);
            Ended::Complete
        });
    }

    #[tokio::test]
    async fn tasks_end_in_the_reverse_order_of_their_start() {
        let ends = Arc::default();
        let mut tasks = Tasks::new();
        for name in ["committer", "sweeper", "server"] {
            obedient(&mut tasks, name, &ends);
        }
        tasks.shutdown().await.unwrap();
        assert_eq!(*ends.lock().unwrap(), ["server", "sweeper", "committer"]);
    }

    async fn dies(start: impl FnOnce(&mut Tasks)) {
        let mut tasks = Tasks::new();
        start(&mut tasks);
        assert_eq!(tasks.death().await.0, "committer");
        assert!(matches!(tasks.shutdown().await, Err(Unfinished::CutShort("committer"))));
    }

    #[tokio::test]
    async fn a_panic_of_a_vital_task_is_its_death() {
        dies(|tasks| tasks.vital(about("committer"), || {}, async { panic!("planted") })).await;
    }

    #[tokio::test]
    async fn a_panic_on_a_thread_is_a_death_like_any_other() {
        for reactor in [Reactor::Shared, Reactor::Own] {
            dies(|tasks| tasks.vital_thread(about("committer"), || {}, reactor, async { panic!("planted") })).await;
        }
    }

    #[tokio::test]
    async fn work_on_a_thread_may_block_and_ends_when_the_tasks_are_dropped() {
        for reactor in [Reactor::Shared, Reactor::Own] {
            let mut tasks = Tasks::new();
            let (blocked, has_blocked) = oneshot::channel();
            let (unblock, unblocked) = std::sync::mpsc::channel::<()>();
            let (held, ended) = oneshot::channel::<()>();
            tasks.vital_thread(about("committer"), || {}, reactor, async move {
                let _held = held;
                blocked.send(()).unwrap();
                unblocked.recv().unwrap();
                std::future::pending().await
            });
            has_blocked.await.unwrap();
            drop(tasks);
            unblock.send(()).unwrap();
            time::timeout(GRACE, ended).await.expect("it ends").unwrap_err();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_with_its_own_reactor_waits_for_no_other_task() {
        let mut tasks = Tasks::new();
        let (begun, has_begun) = oneshot::channel();
        let (go_on, may_go_on) = oneshot::channel::<()>();
        let (connected, has_connected) = std::sync::mpsc::channel();
        tasks.vital_thread(about("committer"), || {}, Reactor::Own, async move {
            begun.send(()).unwrap();
            may_go_on.await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
            connected.send((client.unwrap(), server.unwrap())).unwrap();
            std::future::pending().await
        });
        has_begun.await.unwrap();
        let (blocked, is_blocked) = oneshot::channel();
        let (unblock, unblocked) = std::sync::mpsc::channel::<()>();
        let others = tokio::spawn(async move {
            blocked.send(()).unwrap();
            unblocked.recv().unwrap();
        });
        is_blocked.await.unwrap();
        go_on.send(()).unwrap();
        let came = has_connected.recv_timeout(GRACE);
        unblock.send(()).unwrap();
        others.await.unwrap();
        came.expect("its answer comes although the only worker is busy");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarted_task_gets_over_its_death() {
        let mut tasks = Tasks::new();
        let (begun, mut begins) = mpsc::unbounded_channel();
        let begin = move || {
            let begun = begun.clone();
            async move {
                begun.send(()).unwrap();
                panic!("planted")
            }
        };
        tasks.restarted(about("sweeper"), || {}, begin);
        for _ in 0..3 {
            begins.recv().await.unwrap();
        }
        tasks.shutdown().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_named_and_does_not_keep_others_from_ending() {
        let ends = Arc::default();
        let mut tasks = Tasks::new();
        obedient(&mut tasks, "committer", &ends);
        tasks.vital(about("server"), || {}, std::future::pending());
        assert!(matches!(tasks.shutdown().await, Err(Unfinished::Overdue("server"))));
        assert_eq!(*ends.lock().unwrap(), ["committer"]);
    }
}
