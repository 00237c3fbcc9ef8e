use std::{fs, path::Path};

use tempfile::TempDir;

use super::*;
use crate::engine::sqlite::{read, schema};

const LONG: u32 = 160;

/// A store in a directory, to which rows are written as a commit would.
struct Written {
    directory: TempDir,
    writer: Connection,
    checkpoints: Checkpoints,
    poison: Poison,
    rows: i64,
}

impl Written {
    fn new() -> Self {
        Self::syncing(None)
    }

    /// One whose checkpoints sync another file than that of the tables.
    fn syncing(other: Option<&Path>) -> Self {
        let directory = TempDir::new().unwrap();
        let file = read::file(directory.path());
        let mut writer = Connection::open(&file).unwrap();
        schema::prepare_writer(&writer, 1 << 20).unwrap();
        schema::migrate(&writer).unwrap();
        let poison = Poison::default();
        let tables = Arc::new(File::open(other.unwrap_or(&file)).unwrap());
        let checkpoints = Checkpoints::start(directory.path(), tables, &mut writer, LONG, poison.clone()).unwrap();
        Self { directory, writer, checkpoints, poison, rows: 0 }
    }

    /// One commit of some pages; returns how long the log is then.
    fn commit(&mut self) -> u32 {
        self.rows += 1;
        let row = "INSERT INTO log_rows VALUES (?1, zeroblob(4000))";
        self.writer.execute(row, [self.rows]).unwrap();
        let pages = self.checkpoints.log_pages.load(Ordering::Relaxed);
        self.checkpoints.go_on(&self.writer);
        pages
    }

    fn table_bytes(&self) -> u64 {
        table_bytes(self.directory.path())
    }
}

fn table_bytes(directory: &Path) -> u64 {
    fs::metadata(read::file(directory)).unwrap().len()
}

/// The length of the log after each of so many commits.
fn lengths(written: &mut Written, commits: u32) -> Vec<u32> {
    (0..commits).map(|_| written.commit()).collect()
}

fn begins(lengths: &[u32]) -> usize {
    lengths.windows(2).filter(|two| two[1] < two[0]).count()
}

#[test]
fn the_log_begins_anew_under_load_that_never_ends() {
    let mut written = Written::new();
    let (mut lengths, mut passes) = (Vec::new(), 0);
    for _ in 0..3_000 {
        lengths.push(written.commit());
        passes = passes.max(written.checkpoints.passes);
    }
    assert!(passes > 0, "the bulk is moved beside the commits");
    assert!(begins(&lengths) > 5, "{} times", begins(&lengths));
    let longest = lengths.iter().max().unwrap();
    assert!(*longest < 6_000, "{longest} of 12,000 pages");
}

/// Otherwise a store with pauses in its load would after some logs leave a whole one to the writer.
#[test]
fn a_log_that_begins_anew_by_itself_begins_with_all_its_passes() {
    let mut written = Written::new();
    let other = read::open(written.directory.path(), 1 << 20).unwrap();
    while !written.checkpoints.beside.is_working() {
        written.commit();
    }
    // To its end, while nothing is committed.
    while !pass(&other).is_ok_and(|pass| pass.in_log > 0 && pass.moved == pass.in_log) {}
    while written.checkpoints.beside.is_working() {
        written.commit();
    }
    let pages = written.commit();
    assert!(pages < LONG, "{pages} pages");
    let Checkpoints { moved, passes, next_at, .. } = written.checkpoints;
    assert_eq!((moved, passes, next_at), (0, 0, LONG));
}

#[test]
fn a_reader_keeps_the_log_and_its_end_lets_it_go() {
    let mut written = Written::new();
    lengths(&mut written, 10);
    let reader = read::open(written.directory.path(), 1 << 20).unwrap();
    let transaction = reader.unchecked_transaction().unwrap();
    let count = || transaction.query_row("SELECT count(*) FROM log_rows", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 10);
    assert_eq!(begins(&lengths(&mut written, 500)), 0);
    assert_eq!(count(), 10, "the reader's moment stands");
    drop(transaction);
    assert!(begins(&lengths(&mut written, 2_000)) > 0);
    written.poison.check().unwrap();
}

#[test]
fn no_pass_is_made_once_the_store_is_poisoned() {
    let mut written = Written::new();
    let empty = written.table_bytes();
    written.poison.set(&EngineError::Indeterminate("planted".into()));
    assert_eq!(begins(&lengths(&mut written, 500)), 0);
    let Written { checkpoints, directory, .. } = &mut written;
    checkpoints.beside.begin().unwrap();
    while checkpoints.beside.ended().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(table_bytes(directory.path()), empty, "not even one that was asked for");
}

/// SQLite leaves that to the pass that reaches the end, which is the writer's; a device that cannot be synced shows it.
#[test]
fn what_is_moved_beside_is_synced_beside() {
    let mut written = Written::syncing(Some(Path::new("/dev/null")));
    while !written.checkpoints.beside.is_working() {
        written.commit();
    }
    drop(written.checkpoints);
    assert!(matches!(written.poison.check(), Err(EngineError::Poisoned(why)) if why.contains("synced")));
}

#[test]
fn a_pass_under_way_is_waited_for() {
    let mut written = Written::new();
    let empty = written.table_bytes();
    while !written.checkpoints.beside.is_working() {
        written.commit();
    }
    let Written { checkpoints, poison, directory, .. } = written;
    drop(checkpoints);
    assert!(table_bytes(directory.path()) > empty);
    poison.check().unwrap();
}
