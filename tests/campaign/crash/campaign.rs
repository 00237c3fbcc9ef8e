//! A campaign: clients that never stop, a server that is killed again and again, and in the end the reckoning.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
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
    campaign::{
        clocks::under,
        power::{Disk, Mount},
        process::{Killed, Launch, PATIENCE, Server},
    },
    random::Random,
};

const WRITERS: u32 = 16;
const READERS: u32 = 3;
const REPLICAS: usize = 3;
/// A start on a store of which nothing is amiss takes about as many operations of the disk that change something: most are of the
/// index of the log, some of the log.
const OPERATIONS_OF_A_START: u64 = 16;
/// Seconds.
const HOUR: u64 = 3600;

/// What a campaign does.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kills: u32,
    /// The record is checked after so many kills, and at the end.
    pub(super) check_every: u32,
    pub(super) fate: Fate,
}

/// What becomes of the servers, and of what they stand on.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// They are killed, after a while.
    Killed(Mood),
    /// They are killed, and each lives under a clock of its own, up to an hour off.
    KilledInTime(Mood),
    /// They are killed, and their store forgets the last that it was told, which must not go unnoticed.
    Forgotten(Mood),
    /// Three of them are replicas on an empty store of PostgreSQL at this URL, and are killed together.
    Together(Mood, String),
    /// Their machine loses its power, at most so many operations of its disk after it came back. The disk syncs, or only
    /// says so, which must not go unnoticed.
    PowerLost { operations: u64, syncs: bool },
    /// One operation of their disk fails, at most so many after they came back, and a moment later they are killed, or the power
    /// is lost.
    DiskFails { operations: u64 },
}

/// How long a server lives before it is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mood {
    /// At most so many acknowledgements.
    Acknowledgements(u64),
    /// A time between 50 ms and this.
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
        self.kept
            .iter()
            .try_for_each(|kept| writeln!(f, "the store, the server's log and the record are in {}", kept.display()))
    }
}

struct Campaign {
    plan: Plan,
    random: Random,
    directory: TempDir,
    /// Of a machine that may lose its power.
    disk: Option<Mount>,
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
        let mut random = Random::new(self.seed);
        let directory = tempfile::Builder::new().prefix("milepost-crash-").tempdir().expect("a directory");
        let syncs = match self.fate {
            Fate::PowerLost { syncs, .. } => Some(syncs),
            Fate::DiskFails { .. } => Some(true),
            Fate::Killed(_) | Fate::KilledInTime(_) | Fate::Forgotten(_) | Fate::Together(..) => None,
        };
        let disk = syncs.map(|syncs| {
            let at = directory.path().join("disk");
            fs::create_dir(&at).expect("a directory");
            Mount::new(Disk::new(syncs), &at, random.fork())
        });
        let mut campaign = Campaign {
            random,
            plan: self,
            directory,
            disk,
            client: Client::new(at),
            address,
            run: 0,
            recoveries: Vec::new(),
            kills_in_recovery: 0,
        };
        let report = campaign.carry_out().await;
        let kept = (!report.violations.is_empty()).then(|| {
            let record = campaign.directory.path().join("record");
            campaign.client.history().write(&record).expect("the record is written");
            campaign.directory.keep()
        });
        Report { took: begun.elapsed(), kept, ..report }
    }
}

impl Campaign {
    async fn carry_out(&mut self) -> Report {
        let commons: Arc<Commons> = Arc::default();
        let mut read_back = Some(ReadBack::new(self.random.fork(), self.client.clone(), commons.clone()));
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
            let Some(reader) = read_back.take() else { break };
            read_back = self.live_and_die(reader).await;
            if kill % self.plan.check_every == 0 {
                violations = check(&self.client.history());
            }
            if !violations.is_empty() {
                break;
            }
        }
        let jobs = match read_back {
            Some(reader) if violations.is_empty() => self.finish(reader, clients).await,
            // What is broken is not worth a longer look.
            Some(_) | None => {
                clients.shutdown().await;
                0
            }
        };
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

    /// A last life, in which clients come to their end, and a look at what is left; how many jobs there are.
    async fn finish(&mut self, mut read_back: ReadBack, mut clients: JoinSet<()>) -> usize {
        let Some(servers) = self.recover().await else { return 0 };
        self.client.stop();
        while let Some(ended) = time::timeout(PATIENCE, clients.join_next()).await.expect("clients end") {
            ended.expect("no client panics");
        }
        let jobs = read_back.read(true).await.unwrap_or_default();
        for server in servers {
            assert!(server.stop().await.success(), "a clean stop");
        }
        self.died();
        let store = self.laid_down();
        inspect::export(&store, &self.client).await;
        if !matches!(self.plan.fate, Fate::Together(..)) {
            inspect::integrity(&store).await;
        }
        jobs
    }

    /// One life of the server; `None` when it does not come to live.
    async fn live_and_die(&mut self, mut read_back: ReadBack) -> Option<ReadBack> {
        if self.run > 0 && self.random.percent(15) {
            let mut starting = self.launch().start();
            match &self.disk {
                Some(disk) => {
                    disk.cut_in(1 + self.random.below(OPERATIONS_OF_A_START));
                    starting.serves_before(disk.until_out()).await;
                    disk.cut();
                }
                // No event marks the moment.
                None => starting.serves_before(time::sleep(Duration::from_micros(self.random.below(40_000)))).await,
            }
            self.bury(vec![starting.kill()]).await;
            self.kills_in_recovery += 1;
            return Some(read_back);
        }
        let servers = self.recover().await?;
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
        self.bury(killed).await;
        if let Fate::Forgotten(_) = self.plan.fate {
            forget(&self.store());
        }
        Some(match read_back {
            Ok(read_back) => read_back,
            Err(reading) => time::timeout(PATIENCE, reading).await.expect("it notices the death").expect("it reads"),
        })
    }

    /// Lets clients work until the server has lived long enough.
    async fn enjoy_life(&mut self) {
        match self.plan.fate {
            Fate::Killed(mood) | Fate::KilledInTime(mood) | Fate::Forgotten(mood) | Fate::Together(mood, _) => {
                self.live_for(mood).await;
            }
            Fate::PowerLost { operations, .. } => {
                let last = 1 + self.random.below(operations);
                self.disk().cut_in(last);
                self.disk().until_out().await;
            }
            Fate::DiskFails { operations } => {
                let failing = 1 + self.random.below(operations);
                self.disk().fail_in(failing);
                self.disk().until_failed().await;
                // Whoever asks now is refused, or told that nobody knows; no event marks the end of that.
                time::sleep(Duration::from_millis(self.random.below(100))).await;
                // Else the next life stands on what the system has in memory, which a later cut takes.
                if self.random.percent(50) {
                    self.disk().cut();
                }
            }
        }
    }

    async fn live_for(&mut self, mood: Mood) {
        match mood {
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

    fn disk(&self) -> &Mount {
        self.disk.as_ref().expect("a machine with a disk of its own")
    }

    /// Waits for servers that were killed, and for the power where it is out.
    async fn bury(&mut self, killed: Vec<Killed>) {
        let out = self.disk.take_if(|disk| disk.is_out());
        out.iter().for_each(Mount::let_go);
        killed.into_iter().for_each(Killed::dead);
        self.died();
        if let Some(disk) = out {
            let at = disk.at().to_owned();
            self.disk = Some(Mount::new(disk.unmount().await, &at, self.random.fork()));
        }
    }

    /// Starts a server, or as many as there are to be; `None`, and a violation, when it refuses to.
    async fn recover(&mut self) -> Option<Vec<Server>> {
        let replicas = if matches!(self.plan.fate, Fate::Together(..)) { REPLICAS } else { 1 };
        let starting: Vec<_> = (0..replicas).map(|_| self.launch().start()).collect();
        let mut servers = Vec::new();
        for starting in starting {
            let server = match starting.listening().await {
                Ok(server) => server,
                Err((status, log)) => {
                    let last = log.lines().next_back().unwrap_or_default();
                    self.client.found_strange(format!("the server does not start: {status}: {last}"));
                    return None;
                }
            };
            self.recoveries.push(server.start_time);
            servers.push(server);
        }
        self.address.send_replace(Some((self.run, servers.iter().map(|server| server.url.clone()).collect())));
        Some(servers)
    }

    /// Small caches and short logs now and then, so that all paths are taken.
    fn launch(&mut self) -> Launch {
        let mut launch = Launch::serve(&self.store(), &self.directory.path().join("server.log"));
        if let Fate::KilledInTime(_) = self.plan.fate {
            let clock = self.directory.path().join("clock");
            let seconds = self.random.below(2 * HOUR).cast_signed() - HOUR.cast_signed();
            fs::write(&clock, format!("{seconds:+}\n")).expect("a clock that is off");
            launch = under(&clock).into_iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        }
        let launch = match self.random.below(3) {
            _ if matches!(self.plan.fate, Fate::Forgotten(_)) => launch,
            0 => launch.env("MILEPOST_SQLITE_CHECKPOINT_PAGES", 100 + self.random.below(400)),
            1 => launch.env("MILEPOST_SQLITE_CHECKPOINT_PAGES", 1_000 + self.random.below(3_000)),
            _ => launch,
        };
        let launch = match self.random.below(3) {
            0 => launch.env("MILEPOST_SQLITE_JOURNAL_BYTES_MAX", 4_096),
            1 => launch.env("MILEPOST_SQLITE_JOURNAL_BYTES_MAX", 65_536),
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
        match (&self.plan.fate, &self.disk) {
            (Fate::Together(_, url), _) => url.into(),
            (_, Some(disk)) => disk.at().join("store"),
            (_, None) => self.directory.path().join("store"),
        }
    }

    /// The store where this process may look at it: not on a disk that it serves itself.
    fn laid_down(&self) -> PathBuf {
        if self.disk.is_none() {
            return self.store();
        }
        let copy = self.directory.path().join("copy");
        fs::create_dir(&copy).expect("a directory");
        for file in fs::read_dir(self.store()).expect("a store").map(|entry| entry.expect("a file")) {
            fs::write(copy.join(file.file_name()), fs::read(file.path()).expect("its bytes")).expect("a copy");
        }
        copy
    }
}

/// Takes away the last third of what was written and synced: what a store does that syncs too late.
fn forget(store: &Path) {
    let Ok(log) = File::options().write(true).open(store.join("milepost.db-wal")) else { return };
    let length = log.metadata().expect("its length").len();
    log.set_len(length * 2 / 3).expect("it can be cut");
}
