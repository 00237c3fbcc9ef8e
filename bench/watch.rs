//! The bench's watchers: many readers of one stream, and whoever changes what they watch.
//!
//! `watch ADDRESS PATH READERS NEVER_READING ROUNDS` opens the readers, and connections that ask and never read; says
//! `open`; waits for a line; then publishes what that says, ROUNDS times, each time after every reader has the last one,
//! which is measured as latency; and ROUNDS times, each time after every reader has the last but one, which is measured as
//! throughput; and says what it found as JSON. Ends when its input does.
//!
//! The line is a method, a path and a body, with `~000000~` where the number of the round goes. That is what readers look
//! for, so it must stand once in each frame. Works with any server that streams. A reader that is sent a later round has
//! the earlier ones, too: a server may leave out what is out of date.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    io::{self, Write},
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::LocalSet,
    time::timeout,
};

/// How long anything may take before figures are worth nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that are opened together.
const OPENED_TOGETHER: usize = 100;
const MARK: &str = "~000000~";

type Failure = Box<dyn Error>;

/// What all readers have seen.
#[derive(Default)]
struct Seen {
    /// Readers whose stream has begun.
    begun: Cell<usize>,
    /// When each round was published, and how many readers have not got it.
    rounds: RefCell<Vec<(Instant, usize)>>,
    /// How long each frame took.
    latencies: RefCell<Vec<Duration>>,
    changed: Notify,
}

impl Seen {
    /// A reader that had the one round has got the other.
    fn saw(&self, last: usize, round: usize) {
        let mut rounds = self.rounds.borrow_mut();
        for (_, missing) in rounds.get_mut(last..round).into_iter().flatten() {
            *missing -= 1;
            if *missing == 0 {
                self.changed.notify_one();
            }
        }
        if let Some((published, _)) = rounds.get(round - 1) {
            self.latencies.borrow_mut().push(published.elapsed());
        }
    }

    /// Returns when every reader has this round, counted from 1, and all before it.
    async fn everybody_has(&self, round: usize) {
        while self.rounds.borrow()[..round].iter().any(|(_, missing)| *missing > 0) {
            self.changed.notified().await;
        }
    }
}

/// What is published, and by whom.
struct Publisher {
    stream: TcpStream,
    head: String,
    body: String,
}

impl Publisher {
    async fn connect(address: &str, line: &str) -> Result<Self, Failure> {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().ok_or("METHOD PATH BODY");
        let (method, path, body) = (part()?, part()?, part()?.to_owned());
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json");
        Ok(Self { stream, head, body })
    }

    async fn publish(&mut self, round: usize) -> io::Result<()> {
        let body = self.body.replace(MARK, &format!("~{round:06}~"));
        let request = format!("{}\r\ncontent-length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.write_all(request.as_bytes()).await?;
        answer(&mut self.stream).await
    }

    /// Publishes so many rounds, each after every reader has the one that is so many before it.
    async fn run(&mut self, seen: &Seen, readers: usize, rounds: usize, under_way: usize) -> Result<Found, Failure> {
        let begun = Instant::now();
        let first = seen.rounds.borrow().len();
        for round in first + 1..=first + rounds {
            seen.rounds.borrow_mut().push((Instant::now(), readers));
            timeout(PATIENCE, self.publish(round)).await??;
            timeout(PATIENCE, seen.everybody_has(round + 1 - under_way)).await?;
        }
        timeout(PATIENCE, seen.everybody_has(first + rounds)).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let mut latencies = seen.latencies.take();
        latencies.sort_unstable();
        let at = |part: f64| {
            let index = ((latencies.len() as f64 - 1.0) * part) as usize;
            latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        Ok(Found { frames: latencies.len(), seconds, p50_ms: at(0.5), p99_ms: at(0.99) })
    }
}

struct Found {
    frames: usize,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Found {
    fn json(&self) -> String {
        let Self { frames, seconds, p50_ms, p99_ms } = self;
        let rate = *frames as f64 / seconds;
        format!(
            "{{\"frames\": {frames}, \"seconds\": {seconds}, \"frames_per_second\": {rate}, \"p50_ms\": {p50_ms}, \
             \"p99_ms\": {p99_ms}}}"
        )
    }
}

fn main() -> Result<(), Failure> {
    // One thread: the other core is the server's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, watch())
}

async fn watch() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let mut word = || words.next().ok_or("usage: watch ADDRESS PATH READERS NEVER_READING ROUNDS");
    let (address, path) = (word()?, word()?);
    let (readers, never_reading, rounds): (usize, usize, usize) =
        (word()?.parse()?, word()?.parse()?, word()?.parse()?);
    let seen = Rc::new(Seen::default());
    let asks = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");

    let mut silent = Vec::new();
    for _ in 0..never_reading {
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(asks.as_bytes()).await?;
        silent.push(stream);
    }
    let began = Instant::now();
    for opened in 0..readers {
        let mut stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(asks.as_bytes()).await?;
        tokio::task::spawn_local(read(stream, seen.clone()));
        if opened % OPENED_TOGETHER == 0 || opened + 1 == readers {
            timeout(PATIENCE, async {
                while seen.begun.get() <= opened {
                    seen.changed.notified().await
                }
            })
            .await?;
        }
    }
    say("open")?;
    eprintln!("opened in {:?}", began.elapsed());

    let mut publisher = Publisher::connect(&address, &next_line().await?).await?;
    let latency = publisher.run(&seen, readers, rounds, 1).await?;
    let throughput = publisher.run(&seen, readers, rounds, 2).await?;
    say(&format!("{{\"latency\": {}, \"throughput\": {}}}", latency.json(), throughput.json()))?;
    // Held open until then, to be looked at.
    let _end = next_line().await?;
    drop(silent);
    Ok(())
}

/// One reader; it ends with its stream, and then the round that waits for it fails.
async fn read(mut stream: TcpStream, seen: Rc<Seen>) -> io::Result<()> {
    let (mut is_begun, mut last) = (false, 0);
    let mut text = Vec::with_capacity(2048);
    loop {
        if stream.read_buf(&mut text).await? == 0 {
            eprintln!("a stream has ended");
            return Ok(());
        }
        if !is_begun {
            is_begun = true;
            seen.begun.set(seen.begun.get() + 1);
            seen.changed.notify_one();
        }
        let mut read = 0;
        while let Some(begin) = text[read..].iter().position(|byte| *byte == b'~').map(|begin| read + begin) {
            let Some(mark) = text.get(begin..begin + MARK.len()) else { break };
            let digits = std::str::from_utf8(&mark[1..MARK.len() - 1]).ok().and_then(|digits| digits.parse().ok());
            match digits {
                Some(round) => {
                    if round > last {
                        seen.saw(last, round);
                        last = round;
                    }
                    read = begin + MARK.len();
                }
                None => read = begin + 1,
            }
        }
        // What may be the beginning of a mark stays.
        let keep = text.len().saturating_sub(MARK.len() - 1).max(read);
        text.drain(..keep);
    }
}

/// Reads an answer with a content-length, which must be a good one.
async fn answer(stream: &mut TcpStream) -> Result<(), io::Error> {
    let mut text = Vec::new();
    loop {
        if stream.read_buf(&mut text).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let all = String::from_utf8_lossy(&text);
        let Some((head, body)) = all.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 2") {
            return Err(io::Error::other(format!("refused: {all}")));
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return Ok(());
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

async fn next_line() -> io::Result<String> {
    tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    })
    .await?
}
