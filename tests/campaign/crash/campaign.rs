//! A campaign: clients that never stop, a server that is killed again and again, and in the end the reckoning.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet, time};

use super::{
    checker::{Kind, Violation, check},
    client::{Address, Client},
    commons::Commons,
    history::{Event, Run},
    inspect,
    reader::{ReadBack, Reader},
    writer::Writer,
};
use crate::{
    campaign::process::{Killed, Launch, PATIENCE, Server},
    random::Random,
};

const WRITERS: u32 = 16;
const READERS: u32 = 3;
const REPLICAS: usize = 3;

/// What a campaign does.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kills: u32,
    pub(super) mood: Mood,
    /// The record is checked after so many kills, and at the end.
    pub(super) check_every: u32,
    /// Whether the store forgets what it was told, which must not go unnoticed.
    pub(super) forgetful: bool,
    /// The URL of an empty store of PostgreSQL, which three replicas serve and die on together; or one server serves an embedded one.
    pub(super) database: Option<String>,
}

/// When a server is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mood {
    /// After at most so many acknowledgements.
    Acknowledgements(u64),
    /// After a time between 50 ms and this.
    Time(Duration),
}

/// What came of a campaign.
pub(super) struct Report {
    pub(super) kills: u32,
    /// Of these, before the server served.
    pub(super) kills_in_recovery: u32,
    pub(super) acknowledgements: u64,
    pub(super) events: usize,
    pub(super) jobs: usize,
    /// From the start of the server to its first line, at most.
    pub(super) recovery_max: Duration,
    pub(super) recovery_mean: Duration,
    pub(super) took: Duration,
    pub(super) violations: Vec<Violation>,
    /// Keeps the store for a look when something is wrong.
    pub(super) kept: Option<PathBuf>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} kills, {} of them before the server served; {} acknowledgements, {} events, {} jobs at the end; \
             from start to listening {:?} at most, {:?} on average; {} violations; took {:?}",
            self.kills,
            self.kills_in_recovery,
            self.acknowledgements,
            self.events,
            self.jobs,
            self.recovery_max,
            self.recovery_mean,
            self.violations.len(),
            self.took,
        )?;
        let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
        self.violations.iter().for_each(|violation| *kinds.entry(violation.kind).or_default() += 1);
        if !kinds.is_empty() {
            writeln!(f, "  {kinds:?}")?;
        }
        for violation in self.violations.iter().take(10) {
            writeln!(f, "  {violation:.1000}")?;
        }
        self.kept.iter().try_for_each(|kept| writeln!(f, "the store and the server's log are in {}", kept.display()))
    }
}

struct Campaign {
    plan: Plan,
    random: Random,
    directory: TempDir,
    client: Client,
    address: watch::Sender<Address>,
    run: Run,
    recoveries: Vec<Duration>,
    kills_in_recovery: u32,
}

impl Plan {
    pub(super) async fn carry_out(self) -> Report {
        let begun = Instant::now();
        let (address, at) = watch::channel(None);
        let mut campaign = Campaign {
            random: Random::new(self.seed),
            plan: self,
            directory: tempfile::Builder::new().prefix("milepost-crash-").tempdir().expect("a directory"),
            client: Client::new(at),
            address,
            run: 0,
            recoveries: Vec::new(),
            kills_in_recovery: 0,
        };
        let report = campaign.carry_out().await;
        let kept = if report.violations.is_empty() { None } else { Some(campaign.directory.keep()) };
        Report { took: begun.elapsed(), kept, ..report }
    }
}

impl Campaign {
    async fn carry_out(&mut self) -> Report {
        let commons: Arc<Commons> = Arc::default();
        let mut read_back = ReadBack::new(self.random.fork(), self.client.clone(), commons.clone());
        let mut clients = JoinSet::new();
        for number in 0..WRITERS {
            let writer = Writer::new(number, self.random.fork(), self.client.clone(), commons.clone());
            clients.spawn(writer.run());
        }
        for _ in 0..READERS {
            clients.spawn(Reader::new(self.random.fork(), self.client.clone(), commons.clone()).run());
        }
        let mut violations = Vec::new();
        for kill in 1..=self.plan.kills {
            read_back = self.live_and_die(read_back).await;
            if kill % self.plan.check_every == 0 {
                violations = check(&self.client.history());
            }
            if !violations.is_empty() {
                break;
            }
        }
        let servers = self.recover().await;
        self.client.stop();
        while let Some(ended) = time::timeout(PATIENCE, clients.join_next()).await.expect("clients end") {
            ended.expect("no client panics");
        }
        let jobs = read_back.read(true).await.expect("nobody kills the server any more");
        for server in servers {
            assert!(server.stop().await.success(), "a clean stop");
        }
        self.died();
        inspect::export(&self.store(), &self.client).await;
        if self.plan.database.is_none() {
            inspect::integrity(&self.store());
        }
        if violations.is_empty() {
            violations = check(&self.client.history());
        }
        let recoveries = u32::try_from(self.recoveries.len()).unwrap_or(u32::MAX);
        Report {
            kills: self.run - 1,
            kills_in_recovery: self.kills_in_recovery,
            acknowledgements: *self.client.acknowledgements().borrow(),
            events: self.client.history().now(),
            jobs,
            recovery_max: self.recoveries.iter().max().copied().unwrap_or_default(),
            recovery_mean: self.recoveries.iter().sum::<Duration>() / recoveries.max(1),
            took: Duration::ZERO,
            violations,
            kept: None,
        }
    }

    /// One life of the server.
    async fn live_and_die(&mut self, mut read_back: ReadBack) -> ReadBack {
        if self.run > 0 && self.random.percent(15) {
            let moment = Duration::from_micros(self.random.below(40_000));
            self.launch().start().kill_after(moment).await;
            self.kills_in_recovery += 1;
            self.died();
            return read_back;
        }
        let servers = self.recover().await;
        let first = self.random.percent(70);
        let reading = tokio::spawn(async move {
            read_back.read(false).await;
            read_back
        });
        // Mostly the server lives long enough to show all it has.
        let read_back = if first { Ok(reading.await.expect("it reads")) } else { Err(reading) };
        self.enjoy_life().await;
        let killed: Vec<_> = servers.into_iter().map(Server::kill).collect();
        self.address.send_replace(None);
        killed.into_iter().for_each(Killed::dead);
        self.died();
        if self.plan.forgetful {
            forget(&self.store());
        }
        match read_back {
            Ok(read_back) => read_back,
            Err(reading) => time::timeout(PATIENCE, reading).await.expect("it notices the death").expect("it reads"),
        }
    }

    /// Lets clients work until the server has lived long enough.
    async fn enjoy_life(&mut self) {
        match self.plan.mood {
            Mood::Acknowledgements(most) => {
                let mut acknowledgements = self.client.acknowledgements();
                let enough = *acknowledgements.borrow() + self.random.below(most);
                let waited = time::timeout(PATIENCE, acknowledgements.wait_for(|count| *count >= enough)).await;
                waited.expect("clients get answers").expect("clients live");
            }
            // The moment of death is what this is about, and it is nobody's event.
            Mood::Time(longest) => {
                let spread = longest.saturating_sub(Duration::from_millis(50)).as_micros() as u64;
                time::sleep(Duration::from_millis(50) + Duration::from_micros(self.random.below(spread))).await;
            }
        }
    }

    async fn recover(&mut self) -> Vec<Server> {
        let replicas = if self.plan.database.is_some() { REPLICAS } else { 1 };
        let starting: Vec<_> = (0..replicas).map(|_| self.launch().start()).collect();
        let mut servers = Vec::new();
        for starting in starting {
            let server =
                starting.listening().await.unwrap_or_else(|(status, log)| panic!("it ended with {status}: {log}"));
            self.recoveries.push(server.start_time);
            servers.push(server);
        }
        self.address.send_replace(Some((self.run, servers.iter().map(|server| server.url.clone()).collect())));
        servers
    }

    /// Small caches and short logs now and then, so that all paths are taken.
    fn launch(&mut self) -> Launch {
        let launch = Launch::serve(&self.store(), &self.directory.path().join("server.log"));
        let launch = match self.random.below(3) {
            _ if self.plan.forgetful => launch,
            0 => launch.env("MILEPOST_SQLITE_CHECKPOINT_PAGES", 100 + self.random.below(400)),
            1 => launch.env("MILEPOST_SQLITE_CHECKPOINT_PAGES", 1_000 + self.random.below(3_000)),
            _ => launch,
        };
        match self.random.below(3) {
            0 => launch.env("MILEPOST_STORE_CACHE_BYTES_MAX", 65_536),
            1 => launch.env("MILEPOST_STORE_COMMIT_CHANGES_MAX", 1 + self.random.below(20)),
            _ => launch,
        }
    }

    fn died(&mut self) {
        self.client.history().push(Event::Died { run: self.run });
        self.run += 1;
    }

    fn store(&self) -> PathBuf {
        self.plan.database.as_ref().map_or_else(|| self.directory.path().join("store"), PathBuf::from)
    }
}

/// Takes away the last third of what was written and synced: what a store does that syncs too late.
fn forget(store: &Path) {
    let Ok(log) = File::options().write(true).open(store.join("milepost.db-wal")) else { return };
    let length = log.metadata().expect("its length").len();
    log.set_len(length * 2 / 3).expect("it can be cut");
}
