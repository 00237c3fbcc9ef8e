//! A disk that forgets: what was not synced when the power goes is there afterwards, or a part of it, or nothing.
//!
//! Promises: what is read is what was written last. After [`Disk::lose_power`] a file has all that was synced, and of each
//! write since then any sectors, in any order, or none; where it has grown without having been written there may be anything.
//! Names come and go in the order in which they did, up to some point after the last sync of their directory: that is what
//! journals of file systems keep, and no more. A name is not durable with the file that it is for, unlike on most of them.
//! Knows nothing of mounts.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{OsStr, OsString},
};

use crate::random::Random;

/// What a disk writes whole or not at all, bytes.
const SECTOR: usize = 512;
/// Changes of one file that are known apart. Older ones have reached the disk by themselves, as they do after a while.
const PENDING_MAX: usize = 4096;

/// Number of a file or directory.
pub(super) type Number = u64;
/// The directory that all others are in.
pub(super) const ROOT: Number = 1;

/// See the module.
#[derive(Debug)]
pub(in crate::campaign) struct Disk {
    nodes: BTreeMap<Number, Node>,
    next: Number,
    syncs: bool,
}

/// Why a disk does not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Absent,
    Exists,
    NoDirectory,
    NoFile,
    NotEmpty,
}

/// A file or directory as it is seen.
pub(super) enum Sight<'a> {
    Directory(&'a Names),
    File(&'a [u8]),
}

/// What is in a directory.
pub(super) type Names = BTreeMap<OsString, Number>;

#[derive(Debug)]
enum Node {
    Directory(Kept<Names, Naming>),
    File(Kept<Vec<u8>, Writing>),
}

/// Something as it is seen, as it is safe, and what leads from one to the other.
#[derive(Debug)]
struct Kept<T, C> {
    now: T,
    safe: T,
    since: VecDeque<C>,
}

trait Change<T> {
    fn apply(&self, to: &mut T);
}

#[derive(Debug)]
enum Naming {
    Enter(OsString, Number),
    Leave(OsString),
    Move(OsString, OsString),
}

#[derive(Debug)]
enum Writing {
    Bytes { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Disk {
    /// An empty one, which does what it is told to sync, or only says so.
    pub(in crate::campaign) fn new(syncs: bool) -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Directory(Kept::new(Names::new())))]), next: ROOT + 1, syncs }
    }

    pub(super) fn see(&self, number: Number) -> Result<Sight<'_>, Refusal> {
        match self.nodes.get(&number).ok_or(Refusal::Absent)? {
            Node::Directory(names) => Ok(Sight::Directory(&names.now)),
            Node::File(bytes) => Ok(Sight::File(&bytes.now)),
        }
    }

    pub(super) fn find(&self, directory: Number, name: &OsStr) -> Result<Number, Refusal> {
        match self.see(directory)? {
            Sight::Directory(names) => names.get(name).copied().ok_or(Refusal::Absent),
            Sight::File(_) => Err(Refusal::NoDirectory),
        }
    }

    /// Up to `length` bytes from here.
    pub(super) fn read(&self, file: Number, at: usize, length: usize) -> Result<&[u8], Refusal> {
        let Sight::File(bytes) = self.see(file)? else { return Err(Refusal::NoFile) };
        let from = at.min(bytes.len());
        Ok(&bytes[from..at.saturating_add(length).min(bytes.len())])
    }

    pub(super) fn write(&mut self, file: Number, at: usize, bytes: &[u8]) -> Result<(), Refusal> {
        self.file(file)?.change(Writing::Bytes { at, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(super) fn set_length(&mut self, file: Number, length: usize) -> Result<(), Refusal> {
        self.file(file)?.change(Writing::Length(length));
        Ok(())
    }

    pub(super) fn make_file(&mut self, directory: Number, name: &OsStr) -> Result<Number, Refusal> {
        self.enter(directory, name, Node::File(Kept::new(Vec::new())))
    }

    pub(super) fn make_directory(&mut self, directory: Number, name: &OsStr) -> Result<Number, Refusal> {
        self.enter(directory, name, Node::Directory(Kept::new(Names::new())))
    }

    /// Takes a name away. Whoever has the file open has it still.
    pub(super) fn remove(&mut self, directory: Number, name: &OsStr) -> Result<(), Refusal> {
        let number = self.find(directory, name)?;
        if matches!(self.see(number)?, Sight::Directory(names) if !names.is_empty()) {
            return Err(Refusal::NotEmpty);
        }
        self.directory(directory)?.change(Naming::Leave(name.to_owned()));
        Ok(())
    }

    /// Gives a file another name in the same directory, in place of what had it.
    pub(super) fn rename(&mut self, directory: Number, from: &OsStr, to: &OsStr) -> Result<(), Refusal> {
        self.find(directory, from)?;
        self.directory(directory)?.change(Naming::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Makes a file, or the names in a directory, survive.
    pub(super) fn sync(&mut self, number: Number) -> Result<(), Refusal> {
        let syncs = self.syncs;
        match self.nodes.get_mut(&number).ok_or(Refusal::Absent)? {
            _ if !syncs => {}
            Node::Directory(names) => names.sync(),
            Node::File(bytes) => bytes.sync(),
        }
        Ok(())
    }

    /// Makes a part of a file survive and forgets that there was more to do, as systems do when a sync fails
    /// (<https://wiki.postgresql.org/wiki/Fsync_Errors>).
    pub(super) fn fail_to_sync(&mut self, number: Number, random: &mut Random) {
        if let Some(Node::File(bytes)) = self.nodes.get_mut(&number) {
            bytes.safe = what_is_left(bytes, random);
            bytes.since.clear();
        }
    }

    /// The disk as it may be when the power is back.
    pub(super) fn lose_power(&self, random: &mut Random) -> Self {
        let mut left = Self { nodes: BTreeMap::new(), next: self.next, syncs: self.syncs };
        let mut reachable = vec![ROOT];
        while let Some(number) = reachable.pop() {
            let node = match &self.nodes[&number] {
                Node::Directory(names) => {
                    let survive = random.below(names.since.len() as u64 + 1) as usize;
                    let names = names.after(names.since.iter().take(survive));
                    reachable.extend(names.values());
                    Node::Directory(Kept::new(names))
                }
                Node::File(bytes) => Node::File(Kept::new(what_is_left(bytes, random))),
            };
            left.nodes.insert(number, node);
        }
        left
    }

    fn enter(&mut self, directory: Number, name: &OsStr, node: Node) -> Result<Number, Refusal> {
        if self.find(directory, name).is_ok() {
            return Err(Refusal::Exists);
        }
        let number = self.next;
        self.directory(directory)?.change(Naming::Enter(name.to_owned(), number));
        self.nodes.insert(number, node);
        self.next += 1;
        Ok(number)
    }

    fn directory(&mut self, number: Number) -> Result<&mut Kept<Names, Naming>, Refusal> {
        match self.nodes.get_mut(&number) {
            Some(Node::Directory(names)) => Ok(names),
            Some(Node::File(_)) => Err(Refusal::NoDirectory),
            None => Err(Refusal::Absent),
        }
    }

    fn file(&mut self, number: Number) -> Result<&mut Kept<Vec<u8>, Writing>, Refusal> {
        match self.nodes.get_mut(&number) {
            Some(Node::File(bytes)) => Ok(bytes),
            Some(Node::Directory(_)) => Err(Refusal::NoFile),
            None => Err(Refusal::Absent),
        }
    }
}

impl<T: Clone, C: Change<T>> Kept<T, C> {
    fn new(safe: T) -> Self {
        Self { now: safe.clone(), safe, since: VecDeque::new() }
    }

    fn change(&mut self, change: C) {
        change.apply(&mut self.now);
        self.since.push_back(change);
        if self.since.len() > PENDING_MAX {
            self.since.drain(..PENDING_MAX / 2).for_each(|change| change.apply(&mut self.safe));
        }
    }

    fn sync(&mut self) {
        self.since.drain(..).for_each(|change| change.apply(&mut self.safe));
    }

    /// What was safe, and these changes.
    fn after<'a>(&self, changes: impl Iterator<Item = &'a C>) -> T
    where
        C: 'a,
    {
        let mut left = self.safe.clone();
        changes.for_each(|change| change.apply(&mut left));
        left
    }
}

impl Change<Names> for Naming {
    fn apply(&self, to: &mut Names) {
        match self {
            Self::Enter(name, number) => {
                to.insert(name.clone(), *number);
            }
            Self::Leave(name) => {
                to.remove(name);
            }
            Self::Move(from, name) => {
                if let Some(number) = to.remove(from) {
                    to.insert(name.clone(), number);
                }
            }
        }
    }
}

impl Change<Vec<u8>> for Writing {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Bytes { at, bytes } => {
                to.resize(to.len().max(at + bytes.len()), 0);
                to[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(length) => to.resize(*length, 0),
        }
    }
}

fn what_is_left(file: &Kept<Vec<u8>, Writing>, random: &mut Random) -> Vec<u8> {
    let since = &file.since;
    match random.below(6) {
        0 => file.safe.clone(),
        1 => file.now.clone(),
        2 => file.after(since.iter().take(random.below(since.len() as u64 + 1) as usize)),
        3 => file.after(since.iter().filter(|_| random.percent(50))),
        // Of most writes most.
        4 => torn(file, 90, random),
        _ => torn(file, 50, random),
    }
}

/// Of each write these per cent of its sectors.
fn torn(file: &Kept<Vec<u8>, Writing>, percent: u64, random: &mut Random) -> Vec<u8> {
    let mut left = file.safe.clone();
    for change in &file.since {
        let Writing::Bytes { at, bytes } = change else {
            if random.percent(percent) {
                change.apply(&mut left);
            }
            continue;
        };
        let mut from = 0;
        while from < bytes.len() {
            let to = bytes.len().min(from + SECTOR - (at + from) % SECTOR);
            if random.percent(percent) {
                let grown = left.len()..at + from;
                Writing::Bytes { at: at + from, bytes: bytes[from..to].to_vec() }.apply(&mut left);
                // A file may have its new length before what it was to hold.
                if random.percent(50) {
                    left[grown.start.min(grown.end)..grown.end].fill_with(|| random.next() as u8);
                }
            }
            from = to;
        }
    }
    left
}

#[test]
fn what_was_synced_stays_and_the_rest_may_go() {
    let name = OsStr::new("file");
    let mut disk = Disk::new(true);
    let file = disk.make_file(ROOT, name).unwrap();
    disk.write(file, 0, &[1; 2000]).unwrap();
    disk.sync(file).unwrap();
    let mut random = Random::new(1);
    let times = |disk: &Disk, random: &mut Random, is_so: &dyn Fn(&Disk) -> bool| {
        (0..200).filter(|_| is_so(&disk.lose_power(random))).count()
    };
    let is_there = |disk: &Disk| disk.find(ROOT, name).is_ok();
    let named = times(&disk, &mut random, &is_there);
    assert!(0 < named && named < 200, "its name was not synced: there {named} times of 200");
    disk.sync(ROOT).unwrap();
    assert_eq!(times(&disk, &mut random, &|disk| is_there(disk) && disk.read(file, 0, 9000) == Ok(&[1; 2000])), 200);

    disk.write(file, 1000, &[2; 3000]).unwrap();
    disk.set_length(file, 3500).unwrap();
    assert_eq!(disk.read(file, 999, 2).unwrap(), [1, 2]);
    assert_eq!(times(&disk, &mut random, &|disk| disk.read(file, 0, 1000) == Ok(&[1; 1000])), 200);
    let whole = times(&disk, &mut random, &|disk| disk.read(file, 1000, 9000) == Ok(&[2; 2500]));
    let none = times(&disk, &mut random, &|disk| disk.read(file, 1000, 9000) == Ok(&[1; 1000]));
    let torn = times(&disk, &mut random, &|disk| {
        let bytes = disk.read(file, 1000, 1000).unwrap();
        bytes.contains(&1) && bytes.contains(&2)
    });
    assert!(whole > 10 && none > 10 && torn > 10, "whole {whole} times of 200, none {none}, torn {torn}");

    disk.sync(file).unwrap();
    disk.rename(ROOT, name, OsStr::new("other")).unwrap();
    let moved = times(&disk, &mut random, &|disk| disk.find(ROOT, OsStr::new("other")) == Ok(file) && !is_there(disk));
    let left = times(&disk, &mut random, &|disk| disk.find(ROOT, name) == Ok(file));
    assert!(moved > 10 && left > 10, "moved {moved} times of 200, not {left}");
    assert_eq!(disk.remove(ROOT, name), Err(Refusal::Absent));
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_another_one() {
    let mut disk = Disk::new(true);
    let file = disk.make_file(ROOT, OsStr::new("file")).unwrap();
    disk.sync(ROOT).unwrap();
    let mut random = Random::new(1);
    let mut lost = 0;
    for round in 1..100 {
        disk.write(file, 0, &[round; 2000]).unwrap();
        disk.fail_to_sync(file, &mut random);
        disk.sync(file).unwrap();
        assert_eq!(disk.read(file, 0, 9000).unwrap(), [round; 2000], "it is seen");
        lost += usize::from(disk.lose_power(&mut random).read(file, 0, 9000).unwrap() != [round; 2000]);
    }
    assert!(lost > 10, "lost {lost} times of 99");
}

#[test]
fn a_disk_that_does_not_sync_forgets_what_it_said_was_safe() {
    let mut disk = Disk::new(false);
    let file = disk.make_file(ROOT, OsStr::new("file")).unwrap();
    disk.write(file, 0, &[1; 2000]).unwrap();
    disk.sync(file).unwrap();
    disk.sync(ROOT).unwrap();
    let mut random = Random::new(1);
    assert!((0..50).any(|_| disk.lose_power(&mut random).find(ROOT, OsStr::new("file")).is_err()));
}
