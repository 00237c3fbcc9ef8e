//! What was asked of the server and what it said: an append-only record, whose order is that of real time.
//!
//! A request is recorded before it is sent, its answer after it has come, and the death of a server after it is certain.
//! So what happened between two places of the record lies between these two moments.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::Arc,
};

use super::words::{Line, Mark};

/// Number of a request to change something.
pub(super) type OpId = u32;
/// A place in the record, which stands for a moment.
pub(super) type Tick = usize;
/// Number of a life of the server.
pub(super) type Run = u32;
/// Name of a job.
pub(super) type Id = Arc<str>;

/// Everything that was asked and heard.
#[derive(Debug, Default)]
pub(super) struct History {
    /// By [`OpId`].
    pub(super) requests: Vec<Request>,
    pub(super) events: Vec<Event>,
    /// What must not be, whatever was asked.
    pub(super) strange: Vec<String>,
}

/// A request to change something, as it was meant.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// `None` when the server is to choose the name.
    pub(super) job: Option<Id>,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// POST /jobs under an Idempotency-Key of its own, always the same for one request.
    Create {
        lines: u32,
    },
    /// PUT.
    Ensure {
        lines: u32,
    },
    /// Always sets the stage to one that is this request's alone.
    Patch(Patch),
    Append(Lines),
    Delete,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Patch {
    pub(super) status: Option<Status>,
    /// In hundredths.
    pub(super) progress: Option<u32>,
    /// Whether it sets a result, which is then this request's alone.
    pub(super) result: bool,
    pub(super) lines: Lines,
    /// If-Match.
    pub(super) expect: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Lines {
    #[default]
    None,
    /// So many, of a writer that does not count.
    Free(u32),
    /// So many, the first of which has this number in the writer's count.
    Counted { writer: u32, first: u64, count: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Queued,
    Processing,
    Completed,
    Failed,
    Cancelled,
}

#[derive(Debug)]
pub(super) enum Event {
    /// A request goes to this life of the server. Lost unless an answer follows before it is sent again.
    Sent { op: OpId, run: Run },
    /// The last sending did not leave this process.
    Unsent { op: OpId },
    /// The answer to the last sending.
    Answered { op: OpId, answer: Answer },
    /// What a read that began at `since` has seen.
    Saw { since: Tick, sight: Sight },
    /// A list of all jobs that began at `since`.
    Listed { since: Tick, jobs: Vec<Id> },
    /// This life of the server is over: what it has not done by now it never does.
    Died { run: Run },
}

#[derive(Debug)]
pub(super) enum Answer {
    /// 201: the job is new.
    Made(Box<Seen>),
    /// 200 or 201: the job was there.
    Stood(Box<Seen>),
    /// 200 to a PATCH.
    Changed(Box<Seen>),
    /// 200 to an append.
    Appended { seen: Box<Seen>, duplicates: u64 },
    /// 204 to a DELETE.
    Deleted,
    /// 404, or 409 because the name is that of a deleted job.
    Gone,
    /// 409: the job is done.
    Finished,
    /// 412 with the version that it has now.
    Moved(u64),
    /// 409: lines of the writer are missing before the ones sent; this is the number that would be next.
    Gap(u64),
    /// Not now, and nothing was done.
    Busy,
    /// What the server must not say to what was asked.
    Strange(Box<str>),
}

#[derive(Debug)]
pub(super) enum Sight {
    Job(Box<Seen>),
    /// 304: still at this version.
    Still(Id, u64),
    Gone(Id),
}

/// A job as an answer shows it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) job: Id,
    pub(super) version: u64,
    pub(super) facts: Facts,
    /// Number of the first of `lines`.
    pub(super) lines_from: u64,
    /// The lines up to the last one, or none when `facts.log_count` says where the log ends and that is all.
    pub(super) lines: Option<Vec<Line>>,
}

/// What is known of a job at one version; `None` is not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) status: Option<Status>,
    /// In hundredths.
    pub(super) progress: Option<u32>,
    pub(super) stage: Option<Mark>,
    pub(super) result: Option<Mark>,
    /// Which request has made the job.
    pub(super) origin: Option<Mark>,
    pub(super) log_count: Option<u64>,
}

impl History {
    pub(super) fn ask(&mut self, job: Option<Id>, what: What) -> OpId {
        self.requests.push(Request { job, what });
        OpId::try_from(self.requests.len() - 1).expect("fewer than four billion requests")
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Puts down everything for whoever looks for the cause, a line for each event, with the requests as they were meant.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(file)?);
        for (tick, event) in self.events.iter().enumerate() {
            write!(file, "{tick} {event:?}")?;
            if let Event::Sent { op, .. } = event {
                write!(file, " {:?}", self.requests[*op as usize])?;
            }
            writeln!(file)?;
        }
        file.flush()
    }

    pub(super) fn now(&self) -> Tick {
        self.events.len()
    }
}

impl Lines {
    pub(super) fn count(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Free(count) => u64::from(count),
            Self::Counted { count, .. } => count,
        }
    }

    /// The lines of the request `op`, in order.
    pub(super) fn of(self, op: OpId) -> Vec<Line> {
        match self {
            Self::None => Vec::new(),
            Self::Free(count) => (0..count).map(|index| Line::Free { op, index }).collect(),
            Self::Counted { writer, first, count } => {
                (first..first + count).map(|seq| Line::Counted { writer, seq }).collect()
            }
        }
    }
}

impl What {
    pub(super) fn lines(self) -> Lines {
        match self {
            Self::Create { lines } | Self::Ensure { lines } => Lines::Free(lines),
            Self::Patch(patch) => patch.lines,
            Self::Append(lines) => lines,
            Self::Delete => Lines::None,
        }
    }

    pub(super) fn makes(self) -> bool {
        matches!(self, Self::Create { .. } | Self::Ensure { .. })
    }
}

impl Status {
    pub(super) const ALL: [(&'static str, Self); 5] = [
        ("queued", Self::Queued),
        ("processing", Self::Processing),
        ("completed", Self::Completed),
        ("failed", Self::Failed),
        ("cancelled", Self::Cancelled),
    ];

    pub(super) fn is_done(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    pub(super) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, status)| *status == self).map_or("", |(word, _)| word)
    }
}

impl Facts {
    /// The first member of which both know something else.
    pub(super) fn contradicts(&self, other: &Self) -> Option<&'static str> {
        fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
            matches!((one, other), (Some(one), Some(other)) if one != other)
        }
        let members = [
            ("status", differ(&self.status, &other.status)),
            ("result", differ(&self.result, &other.result)),
            ("stage", differ(&self.stage, &other.stage)),
            ("progress", differ(&self.progress, &other.progress)),
            ("log_count", differ(&self.log_count, &other.log_count)),
            ("origin", differ(&self.origin, &other.origin)),
        ];
        members.into_iter().find_map(|(member, differs)| differs.then_some(member))
    }

    /// Learns what it does not know yet.
    pub(super) fn learn(&mut self, other: &Self) {
        let Self { status, progress, stage, result, origin, log_count } = self;
        *status = status.or(other.status);
        *progress = progress.or(other.progress);
        *log_count = log_count.or(other.log_count);
        for (known, new) in [(stage, &other.stage), (result, &other.result), (origin, &other.origin)] {
            if known.is_none() {
                known.clone_from(new);
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.status.is_some_and(Status::is_done)
    }
}
