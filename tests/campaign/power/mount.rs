//! A [`Disk`] in the system's tree, and the switch of its power.
//!
//! Promises: when the power goes out nothing is answered any more, the operation that it went out in included, so that
//! whoever waits for the disk does nothing else; what is there when it comes back was decided at that moment. The
//! operation itself was done for writes, any part of which may stay, and not for syncs.

use std::{
    any::Any,
    ffi::OsStr,
    io::ErrorKind,
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use tokio::{sync::watch, time};

use super::disk::{Disk, Number, Refusal, Sight};
use crate::{campaign::process::PATIENCE, random::Random};

/// Nothing changes behind the system's back.
const TTL: Duration = Duration::from_secs(3600);

/// A disk that is mounted.
pub(in crate::campaign) struct Mount {
    session: BackgroundSession,
    supply: Supply,
    is_out: watch::Receiver<bool>,
    has_failed: watch::Receiver<bool>,
    at: PathBuf,
}

#[derive(Clone)]
struct Supply(Arc<Mutex<State>>);

struct State {
    disk: Disk,
    power: Power,
    random: Random,
    out: watch::Sender<bool>,
    /// One of them fails after so many operations that change something or sync it.
    fails_in: Option<u64>,
    failed: watch::Sender<bool>,
}

enum Power {
    /// Until so many more operations that change something or sync it.
    On { left: Option<u64> },
    /// What will be there, and whoever gets no answer.
    Out { after: Disk, unanswered: Vec<Box<dyn Any + Send>> },
    /// Nobody is to wait any longer.
    Gone,
}

/// What kind of operation it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Look,
    Change,
    Sync(Number),
}

impl Mount {
    /// Mounts a disk on an empty directory.
    pub(in crate::campaign) fn new(disk: Disk, at: &Path, random: Random) -> Self {
        let ((out, is_out), (failed, has_failed)) = (watch::channel(false), watch::channel(false));
        let state = State { disk, power: Power::On { left: None }, random, out, fails_in: None, failed };
        let supply = Supply(Arc::new(Mutex::new(state)));
        let session = fuser::spawn_mount(supply.clone(), at, &Config::default());
        let session = session.unwrap_or_else(|error| {
            panic!("a disk of the test's own needs /dev/fuse, and fusermount3 where it is not root: {error}")
        });
        Self { session, supply, is_out, has_failed, at: at.to_owned() }
    }

    /// Where it is.
    pub(in crate::campaign) fn at(&self) -> &Path {
        &self.at
    }

    /// The power goes out in this operation from now, which changes something or syncs it.
    pub(in crate::campaign) fn cut_in(&self, operations: u64) {
        let mut state = self.supply.lock();
        if let Power::On { left } = &mut state.power {
            *left = Some(operations);
        }
    }

    /// This operation from now, which changes something or syncs it, fails with EIO.
    pub(in crate::campaign) fn fail_in(&self, operations: u64) {
        let mut state = self.supply.lock();
        state.fails_in = Some(operations);
        state.failed.send_replace(false);
    }

    /// Returns when one has failed.
    pub(in crate::campaign) async fn until_failed(&self) {
        heard(self.has_failed.clone()).await;
    }

    /// The power goes out, unless it has.
    pub(in crate::campaign) fn cut(&self) {
        self.supply.lock().cut();
    }

    /// Whether the power is out.
    pub(in crate::campaign) fn is_out(&self) -> bool {
        *self.is_out.borrow()
    }

    /// Returns when the power is out.
    pub(in crate::campaign) async fn until_out(&self) {
        heard(self.is_out.clone()).await;
    }

    /// Lets those go who wait for a disk without power. They are to be about to die.
    pub(in crate::campaign) fn let_go(&self) {
        let power = {
            let mut state = self.supply.lock();
            match mem::replace(&mut state.power, Power::Gone) {
                Power::Out { after, unanswered } => {
                    state.disk = after;
                    unanswered
                }
                Power::On { .. } | Power::Gone => panic!("the power is not out"),
            }
        };
        drop(power);
    }

    /// The disk, which nobody may be using.
    pub(in crate::campaign) async fn unmount(self) -> Disk {
        let Self { session, supply, .. } = self;
        let unmounted = tokio::task::spawn_blocking(|| session.umount_and_join()).await.expect("it does not panic");
        // The system may tell of the end of a mount that was in use, as it does until its last process is buried, so.
        if let Err(error) = unmounted
            && error.kind() != ErrorKind::ConnectionAborted
        {
            panic!("it cannot be unmounted: {error}");
        }
        let mut state = supply.lock();
        mem::replace(&mut state.disk, Disk::new(true))
    }
}

async fn heard(mut event: watch::Receiver<bool>) {
    let heard = time::timeout(PATIENCE, event.wait_for(|has_come| *has_come)).await;
    heard.expect("the disk is used").expect("it is mounted");
}

impl Supply {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with the disk")
    }

    /// Does an operation and answers it, if there is power.
    fn operate<T, R: Send + 'static>(
        &self,
        step: Step,
        reply: R,
        refuse: impl FnOnce(R, Errno),
        act: impl FnOnce(&mut Disk) -> Result<T, Refusal>,
        answer: impl FnOnce(R, T),
    ) {
        let mut state = self.lock();
        if let Power::On { left: Some(left) } = &mut state.power
            && step != Step::Look
        {
            *left -= 1;
            if *left == 0 {
                if step == Step::Change {
                    // Nobody hears what it came to.
                    let _done = act(&mut state.disk);
                }
                state.cut();
                return state.leave_unanswered(reply);
            }
        }
        if step != Step::Look && state.fails(step) {
            return refuse(reply, Errno::EIO);
        }
        match &state.power {
            Power::Out { .. } => state.leave_unanswered(reply),
            Power::Gone => refuse(reply, Errno::EIO),
            Power::On { .. } => match act(&mut state.disk) {
                Ok(done) => answer(reply, done),
                Err(refusal) => refuse(reply, refusal.into()),
            },
        }
    }
}

impl State {
    fn cut(&mut self) {
        if let Power::On { .. } = self.power {
            let after = self.disk.lose_power(&mut self.random);
            self.power = Power::Out { after, unanswered: Vec::new() };
            self.out.send_replace(true);
        }
    }

    /// Whether it is this one that fails.
    fn fails(&mut self, step: Step) -> bool {
        let (Power::On { .. }, Some(left)) = (&self.power, &mut self.fails_in) else { return false };
        *left -= 1;
        if *left > 0 {
            return false;
        }
        self.fails_in = None;
        if let Step::Sync(number) = step {
            self.disk.fail_to_sync(number, &mut self.random);
        }
        self.failed.send_replace(true);
        true
    }

    fn leave_unanswered(&mut self, reply: impl Send + 'static) {
        if let Power::Out { unanswered, .. } = &mut self.power {
            unanswered.push(Box::new(reply));
        }
    }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Absent => Self::ENOENT,
            Refusal::Exists => Self::EEXIST,
            Refusal::NoDirectory => Self::ENOTDIR,
            Refusal::NoFile => Self::EISDIR,
            Refusal::NotEmpty => Self::ENOTEMPTY,
        }
    }
}

fn attributes(disk: &Disk, number: Number, owner: (u32, u32)) -> Result<FileAttr, Refusal> {
    let (kind, size) = match disk.see(number)? {
        Sight::Directory(_) => (FileType::Directory, 0),
        Sight::File(bytes) => (FileType::RegularFile, bytes.len() as u64),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: if kind == FileType::Directory { 0o755 } else { 0o644 },
        nlink: 1,
        uid: owner.0,
        gid: owner.1,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn owner(request: &Request) -> (u32, u32) {
    (request.uid(), request.gid())
}

fn enter(reply: ReplyEntry, seen: FileAttr) {
    reply.entry(&TTL, &seen, Generation(0));
}

fn tell(reply: ReplyAttr, seen: FileAttr) {
    reply.attr(&TTL, &seen);
}

fn done(reply: ReplyEmpty, (): ()) {
    reply.ok();
}

impl Filesystem for Supply {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let find = |disk: &mut Disk| attributes(disk, disk.find(parent.0, name)?, owner(request));
        self.operate(Step::Look, reply, ReplyEntry::error, find, enter);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let see = |disk: &mut Disk| attributes(disk, ino.0, owner(request));
        self.operate(Step::Look, reply, ReplyAttr::error, see, tell);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let step = if size.is_some() { Step::Change } else { Step::Look };
        let set = |disk: &mut Disk| {
            if let Some(size) = size {
                disk.set_length(ino.0, size as usize)?;
            }
            attributes(disk, ino.0, owner(request))
        };
        self.operate(step, reply, ReplyAttr::error, set, tell);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let make = |disk: &mut Disk| {
            let number = disk.make_directory(parent.0, name)?;
            attributes(disk, number, owner(request))
        };
        self.operate(Step::Change, reply, ReplyEntry::error, make, enter);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let make = |disk: &mut Disk| {
            let number = disk.make_file(parent.0, name)?;
            attributes(disk, number, owner(request))
        };
        self.operate(Step::Change, reply, ReplyCreate::error, make, |reply, seen| {
            reply.created(&TTL, &seen, Generation(0), FileHandle(0), FopenFlags::empty());
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.operate(Step::Change, reply, ReplyEmpty::error, |disk| disk.remove(parent.0, name), done);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.operate(Step::Change, reply, ReplyEmpty::error, |disk| disk.remove(parent.0, name), done);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if new_parent != parent || !flags.is_empty() {
            return reply.error(Errno::EXDEV);
        }
        self.operate(Step::Change, reply, ReplyEmpty::error, |disk| disk.rename(parent.0, name, new_name), done);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = |disk: &mut Disk| disk.read(ino.0, offset as usize, size as usize).map(<[u8]>::to_vec);
        self.operate(Step::Look, reply, ReplyData::error, read, |reply, bytes| reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = |disk: &mut Disk| disk.write(ino.0, offset as usize, data);
        self.operate(Step::Change, reply, ReplyWrite::error, write, |reply, ()| reply.written(data.len() as u32));
    }

    fn flush(&self, _: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        self.operate(Step::Look, reply, ReplyEmpty::error, |_| Ok(()), done);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.operate(Step::Sync(ino.0), reply, ReplyEmpty::error, |disk| disk.sync(ino.0), done);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.operate(Step::Sync(ino.0), reply, ReplyEmpty::error, |disk| disk.sync(ino.0), done);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        let list = |disk: &mut Disk| match disk.see(ino.0)? {
            Sight::Directory(names) => Ok(names.clone()),
            Sight::File(_) => Err(Refusal::NoDirectory),
        };
        self.operate(Step::Look, reply, ReplyDirectory::error, list, |mut reply, names| {
            for (place, (name, number)) in names.into_iter().enumerate().skip(offset as usize) {
                // Nobody here cares which of them are directories.
                if reply.add(INodeNo(number), place as u64 + 1, FileType::RegularFile, name) {
                    break;
                }
            }
            reply.ok();
        });
    }
}
