//! The bench's streams of changes: operations go out on a connection, and their outcomes come back on it, for as long as it lasts.
//!
//! `stream ADDRESS JOBS CONNECTIONS SECONDS TAG representation|minimal` sends `patch` operations to `POST /batch` as fast as they are
//! taken, each with a progress and a stage that its job has not had, and says as JSON how many were sent, how many were done, and
//! in what time, the last answer included. Answers are the jobs, or with `minimal` their versions. Two threads for each
//! connection, which share the cores with the service: so they do as little as they can.

use std::{
    env,
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// Operations that are sent together.
const CHUNK_OPERATIONS: usize = 256;
/// How long a service may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// What an operation that is done is answered with.
const DONE: &[u8] = b"{\"status\":200,";
const DONE_MINIMAL: &[u8] = b"{\"status\":204,";

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
struct Load {
    address: String,
    jobs: u64,
    length: Duration,
    tag: String,
    /// RFC 7240, section 4.2.
    answers: String,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, jobs, connections, seconds, tag, answers] = &arguments[..] else {
        return Err("usage: stream ADDRESS JOBS CONNECTIONS SECONDS TAG representation|minimal".into());
    };
    let (address, length) = (address.clone(), Duration::from_secs_f64(seconds.parse()?));
    let load = Load { address, jobs: jobs.parse()?, length, tag: tag.clone(), answers: answers.clone() };
    let began = Instant::now();
    let workers: Vec<_> = (0..connections.parse()?)
        .map(|number| {
            let load = load.clone();
            thread::spawn(move || load.run(number))
        })
        .collect();
    let (mut sent, mut made) = (0, 0);
    for worker in workers {
        let counts = worker.join().map_err(|_| "a connection's thread has panicked")??;
        (sent, made) = (sent + counts.0, made + counts.1);
    }
    let seconds = began.elapsed().as_secs_f64();
    writeln!(io::stdout(), "{{\"sent\": {sent}, \"made\": {made}, \"seconds\": {seconds}}}")?;
    Ok(())
}

impl Load {
    /// One connection: how many operations were sent and how many were done.
    fn run(&self, number: u64) -> Result<(u64, u64), Failure> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let reader = BufReader::with_capacity(256 * 1024, stream.try_clone()?);
        let done = if self.answers == "minimal" { DONE_MINIMAL } else { DONE };
        let reading = thread::spawn(move || outcomes(reader, done));
        let sent = self.send(&mut stream, number);
        let made = reading.join().map_err(|_| "a reading thread has panicked")??;
        Ok((sent?, made))
    }

    fn send(&self, stream: &mut TcpStream, number: u64) -> Result<u64, Failure> {
        write!(
            stream,
            "POST /batch HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\nAccept: application/x-ndjson\r\n\
             Prefer: return={}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            self.address, self.answers
        )?;
        let deadline = Instant::now() + self.length;
        let mut jobs = Jobs { state: number + 1, count: self.jobs };
        let (mut sent, mut body, mut chunk) = (0, Vec::new(), Vec::new());
        while Instant::now() < deadline {
            body.clear();
            for _ in 0..CHUNK_OPERATIONS {
                sent += 1;
                let hundredths = sent % 9000 + 1000;
                // The id is as bench/harness/stores.py gives it.
                writeln!(
                    body,
                    "{{\"op\":\"patch\",\"id\":\"0199e0c1-7c1e-7a52-9d0e-{:012x}\",\"progress_pct\":{}.{:02},\
                     \"stage\":\"Matting subject {}-{number}-{sent:08}\"}}",
                    jobs.next(),
                    hundredths / 100,
                    hundredths % 100,
                    self.tag,
                )?;
            }
            chunk.clear();
            write!(chunk, "{:x}\r\n", body.len())?;
            chunk.extend_from_slice(&body);
            chunk.extend_from_slice(b"\r\n");
            stream.write_all(&chunk)?;
        }
        stream.write_all(b"0\r\n\r\n")?;
        Ok(sent)
    }
}

/// Jobs in no order: SplitMix64 (<https://doi.org/10.1145/2714064.2660195>).
struct Jobs {
    state: u64,
    count: u64,
}

impl Jobs {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % self.count
    }
}

/// How many lines of the answer say that an operation was done.
fn outcomes(mut reader: impl BufRead, done: &[u8]) -> Result<u64, Failure> {
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line == b"\r\n" {
            break;
        }
        if line.is_empty() {
            return Err("the answer has no body".into());
        }
    }
    let mut body = BufReader::with_capacity(64 * 1024, Chunks { reader, left: 0, is_over: false });
    let mut made = 0;
    loop {
        line.clear();
        if body.read_until(b'\n', &mut line)? == 0 {
            return Ok(made);
        }
        made += u64::from(line.starts_with(done));
    }
}

/// A body in chunks (RFC 9112, section 7.1).
struct Chunks<R> {
    reader: R,
    left: u64,
    is_over: bool,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_over {
            self.begin()?;
        }
        if self.is_over {
            return Ok(0);
        }
        let read = (&mut self.reader).take(self.left).read(to)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        if self.left == 0 {
            self.reader.read_exact(&mut [0; 2])?;
        }
        Ok(read)
    }
}

impl<R: BufRead> Chunks<R> {
    /// Reads the length of the next chunk.
    fn begin(&mut self) -> io::Result<()> {
        let mut line = String::new();
        (&mut self.reader).take(32).read_line(&mut line)?;
        self.left = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        self.is_over = self.left == 0;
        Ok(())
    }
}
