//! A client that says what it wants, byte for byte.

use std::{io, net::SocketAddr};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    select,
    time::timeout,
};

use crate::campaign::process::PATIENCE;

pub(super) const JSON: &str = "application/json";
pub(super) const NDJSON: &str = "application/x-ndjson";
/// Where the body of an answer begins.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// One connection, and what was heard on it and not looked at.
pub(super) struct Talker {
    stream: TcpStream,
    heard: Vec<u8>,
}

/// A whole answer with a Content-Length.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Talker {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpSocket::new_v4().expect("a socket"), address).await
    }

    /// One for which the kernel takes next to nothing that it does not read.
    pub(super) async fn narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        Self::over(socket, address).await
    }

    async fn over(socket: TcpSocket, address: SocketAddr) -> Self {
        let connected = timeout(PATIENCE, socket.connect(address)).await.expect("the kernel accepts");
        Self { stream: connected.expect("a connection"), heard: Vec::new() }
    }

    pub(super) async fn say(&mut self, words: impl AsRef<[u8]>) {
        self.try_say(words).await.expect("it is taken");
    }

    /// Where the server may have closed already.
    pub(super) async fn try_say(&mut self, words: impl AsRef<[u8]>) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(words.as_ref())).await.expect("it is taken or refused")
    }

    pub(super) async fn says_no_more(&mut self) {
        self.stream.shutdown().await.expect("it is connected");
    }

    /// Breaks off, so that the server is told by a reset and not by an end.
    pub(super) fn breaks_off(self) {
        self.stream.set_zero_linger().expect("a reset");
    }

    /// Says this piece over and over, as fast as it is taken, until it was said so often or nobody listens any more; and
    /// hears what comes meanwhile. Returns how many bytes were taken.
    pub(super) async fn pour(&mut self, piece: &[u8], times: u64) -> u64 {
        let Self { stream, heard } = self;
        let (mut reading, mut writing) = stream.split();
        let mut poured = 0;
        let read = async {
            // Its end or an error is for whoever looks at what was heard.
            while reading.read_buf(heard).await.is_ok_and(|length| length > 0) {}
        };
        let poured_out = async {
            select! {
                () = pour(&mut writing, piece, times, &mut poured) => {}
                () = read => {}
            }
        };
        timeout(PATIENCE, poured_out).await.expect("it is taken or refused");
        poured
    }

    /// The same, and hears nothing.
    pub(super) async fn pour_deaf(&mut self, piece: &[u8], times: u64) -> u64 {
        let mut poured = 0;
        let poured_out = pour(&mut self.stream, piece, times, &mut poured);
        timeout(PATIENCE, poured_out).await.expect("it is taken or refused");
        poured
    }

    /// Everything up to and with this text; `None` if the connection ends before it comes.
    pub(super) async fn hear_up_to(&mut self, text: &str) -> Option<String> {
        let mut looked = 0;
        loop {
            let found = self.heard[looked..].windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(place) = found {
                let before: Vec<u8> = self.heard.drain(..looked + place + text.len()).collect();
                return Some(String::from_utf8_lossy(&before).into_owned());
            }
            looked = self.heard.len().saturating_sub(text.len());
            if !self.hear().await {
                return None;
            }
        }
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Answer {
        self.answer_if_any().await.expect("an answer before the end")
    }

    /// The next answer, which must be a whole one, or none and the end of the connection. May be given up and asked again.
    pub(super) async fn answer_if_any(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.whole_answer() {
                return Some(answer);
            }
            if !self.hear().await {
                assert!(self.heard.is_empty(), "half an answer: {}", String::from_utf8_lossy(&self.heard));
                return None;
            }
        }
    }

    fn whole_answer(&mut self) -> Option<Answer> {
        let begin = self.heard.windows(HEAD_END.len()).position(|window| window == HEAD_END)? + HEAD_END.len();
        let head = String::from_utf8(self.heard[..begin].to_vec()).expect("text");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let end = begin + length.map_or(0, |length| length.parse().expect("a length"));
        if self.heard.len() < end {
            return None;
        }
        let body = String::from_utf8(self.heard[begin..end].to_vec()).expect("text");
        self.heard.drain(..end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Some(Answer { status, head, body })
    }

    /// Everything up to the end of the connection, which must come.
    pub(super) async fn rest(mut self) -> String {
        while self.hear().await {}
        String::from_utf8_lossy(&self.heard).into_owned()
    }

    /// Asks and hears the answer.
    pub(super) async fn ask(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        self.say(request(method, path, JSON, &body.to_string())).await;
        self.answer().await
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.say(get(path)).await;
        self.answer().await
    }

    /// Hears more; whether there was any. A reset is an end as any other.
    async fn hear(&mut self) -> bool {
        let heard = timeout(PATIENCE, self.stream.read_buf(&mut self.heard)).await;
        heard.expect("something comes or it ends").is_ok_and(|length| length > 0)
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(super) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// A refusal as docs/api.md has it.
    #[track_caller]
    pub(super) fn refuses(self, status: u16, code: &str) {
        let answer = self.is(status);
        assert!(answer.head.contains("\r\ncontent-type: application/problem+json\r\n"), "{answer:?}");
        let problem = answer.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{problem}");
    }
}

async fn pour(into: &mut (impl AsyncWrite + Unpin), piece: &[u8], times: u64, poured: &mut u64) {
    let length = piece.len() as u64;
    while *poured < times * length {
        match into.write(&piece[(*poured % length) as usize..]).await {
            Ok(taken) => *poured += taken as u64,
            Err(_) => return,
        }
    }
}

/// A request without a body.
pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

/// A whole request.
pub(super) fn request(method: &str, path: &str, media: &str, body: &str) -> String {
    format!("{}content-length: {}\r\n\r\n{body}", head(method, path, media), body.len())
}

/// A request up to where it says how long its body is.
pub(super) fn head(method: &str, path: &str, media: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\naccept: {media}\r\ncontent-type: {media}\r\n")
}
