//! WebSockets of a job: the frames of its event stream, and how they are opened and closed.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::{
    harness::{Call, PATIENCE, Server},
    stream::{Event, Events, outline},
};

struct Client(WebSocketStream<TcpStream>);

/// The status of a refused handshake.
async fn open(server: &Server, path: &str, origin: Option<&str>) -> Result<Client, u16> {
    let mut request = format!("ws://{}{path}", server.address()).into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match client_async(request, TcpStream::connect(server.address()).await.unwrap()).await {
        Ok((socket, _)) => Ok(Client(socket)),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn opened(server: &Server, path: &str) -> Client {
    open(server, path, None).await.unwrap()
}

impl Client {
    async fn heard(&mut self) -> Option<Message> {
        let heard = timeout(PATIENCE, self.0.next()).await.expect("nothing comes");
        heard.map(Result::unwrap)
    }

    /// The next frame; or the code it is closed with.
    async fn next(&mut self) -> Result<Event, CloseCode> {
        loop {
            match self.heard().await {
                Some(Message::Text(text)) => {
                    let mut frame: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(frame.as_object().unwrap().len(), 3, "{frame}");
                    let text = |value: &Value| value.as_str().unwrap().to_owned();
                    let (name, id) = (text(&frame["event"]), text(&frame["id"]));
                    return Ok(Event { name, id, data: frame["data"].take() });
                }
                Some(Message::Ping(_)) => {}
                Some(Message::Close(Some(frame))) => {
                    assert!(self.heard().await.is_none());
                    return Err(frame.code);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await.unwrap());
        }
        events
    }

    /// Everything up to the close.
    async fn rest(mut self) -> (Vec<Event>, CloseCode) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(event) => events.push(event),
                Err(code) => return (events, code),
            }
        }
    }
}

each_engine!(the_frames_are_those_of_the_event_stream, |server| async move {
    server.job("j", "k").await;
    server.post("/jobs/j/logs", json!({"lines": ["1", "2"]})).await.is(200);
    let both = async |query: &str| {
        let events = Events::open(server.get(&format!("/jobs/j/events{query}"))).await;
        (events, opened(server, &format!("/jobs/j/ws{query}")).await)
    };
    let (mut events, mut socket) = both("").await;
    assert_eq!(events.take(3).await, socket.take(3).await);
    server.patch("j", json!({"status": "processing", "log": "3", "result": {"\u{2028}\r\n": 1}})).await.is(200);
    assert_eq!(events.take(2).await, socket.take(2).await);
    server.patch("j", json!({"status": "completed", "log": "4"})).await.is(200);
    let (told, code) = socket.rest().await;
    assert_eq!(outline(&told), [("log", "3.4"), ("job", "4.4"), ("end", "4.4")]);
    assert_eq!((events.rest().await, code), (told, CloseCode::Normal));
    for query in ["?logs=1", "?logs=all", "?since=2.1", "?since=3.4", "?since=9.9", "?since=x"] {
        let (events, socket) = both(query).await;
        assert_eq!((events.rest().await, CloseCode::Normal), socket.rest().await, "{query}");
    }
    // There is no 204 for a WebSocket.
    let (told, code) = opened(server, "/jobs/j/ws?since=4.4").await.rest().await;
    assert_eq!((outline(&told), code), (vec![("end", "4.4")], CloseCode::Normal));
    server.until_open("websocket", 0).await;
});

each_engine!(a_deleted_job_closes_its_sockets, |server| async move {
    server.job("j", "k").await;
    let mut socket = opened(server, "/jobs/j/ws").await;
    socket.take(1).await;
    server.delete("/jobs/j").await.is(204);
    let (told, code) = socket.rest().await;
    assert_eq!((outline(&told), code), (vec![("end", "1.0")], CloseCode::Normal));
    assert_eq!(told[0].data["reason"], "deleted");
});

each_engine!(a_service_that_goes_down_closes_its_sockets, |server| async move {
    server.job("j", "k").await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let mut socket = opened(server, "/jobs/j/ws").await;
        socket.take(1).await;
        sockets.push(tokio::spawn(socket.rest()));
    }
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for socket in sockets {
        assert_eq!(socket.await.unwrap(), (Vec::new(), CloseCode::Away));
    }
});

each_engine!(clients_that_read_nothing_do_not_hold_the_service_up, |server| async move {
    server.job("j", "k").await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    let requests = [handshake(), ask("/jobs/j/events"), ask("/jobs/j/logs?follow=1")];
    let mut stalled = Vec::new();
    for (request, kind) in requests.iter().zip(["websocket", "events", "log"]) {
        let mut connection = server.connect_narrow().await;
        connection.write_all(request).unwrap();
        server.until_open(kind, 1).await;
        stalled.push(connection);
    }
    let line = "x".repeat(16_000);
    // More than the kernel holds of what is sent on a connection.
    for _ in 0..16 {
        server.post("/jobs/j/logs", json!({"lines": vec![line.as_str(); 60]})).await.is(200);
    }
    server.until_still().await;
    let begun = Instant::now();
    // Fails if anything has to be cut.
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
});

each_engine!(
    a_client_that_answers_no_ping_is_given_up,
    |config| {
        config.push.comment_seconds = 1;
    },
    |server| async move {
        server.job("j", "k").await;
        let mut silent = server.connect();
        silent.write_all(&handshake()).unwrap();
        server.until_open("websocket", 1).await;
        let mut lively = opened(server, "/jobs/j/ws").await;
        lively.take(1).await;
        let lively = tokio::spawn(lively.rest());
        let mut bytes = Vec::new();
        silent.set_read_timeout(Some(PATIENCE)).unwrap();
        tokio::task::spawn_blocking(move || silent.read_to_end(&mut bytes)).await.unwrap().unwrap();
        server.until_open("websocket", 1).await;
        server.patch("j", json!({"status": "completed"})).await.is(200);
        assert_eq!(lively.await.unwrap().1, CloseCode::Normal);
    }
);

each_engine!(what_a_client_says_does_no_harm, |server| async move {
    server.job("j", "k").await;
    let mut socket = opened(server, "/jobs/j/ws").await;
    socket.take(1).await;
    socket.0.send(Message::text("hello")).await.unwrap();
    socket.0.send(Message::Ping(b"there?".as_slice().into())).await.unwrap();
    assert_eq!(socket.heard().await, Some(Message::Pong(b"there?".as_slice().into())));
    server.patch("j", json!({"stage": "x"})).await.is(200);
    assert_eq!(socket.take(1).await[0].data["stage"], "x");
    socket.0.send(Message::text("x".repeat(5_000))).await.unwrap();
    assert_eq!(socket.rest().await, (Vec::new(), CloseCode::Size));

    let mut socket = opened(server, "/jobs/j/ws").await;
    socket.take(1).await;
    socket.0.close(None).await.unwrap();
    while socket.heard().await.is_some() {}
    server.until_open("websocket", 0).await;
});

each_engine!(
    pages_of_other_origins_need_leave,
    |config| {
        config.http.cors_origins = serde_json::from_value(serde_json::json!(["https://app.example.com"])).unwrap();
    },
    |server| async move {
        server.job("j", "k").await;
        let own = format!("http://{}", server.address());
        for origin in [None, Some(own.as_str()), Some("https://app.example.com")] {
            let mut socket = open(server, "/jobs/j/ws", origin).await.unwrap();
            socket.take(1).await;
        }
        for origin in ["https://evil.example", "https://app.example.com.evil.example", "null", "http://127.0.0.1"] {
            assert_eq!(open(server, "/jobs/j/ws", Some(origin)).await.err(), Some(403), "{origin}");
            let refused = upgrading(server.get("/jobs/j/ws")).header("origin", origin).await;
            assert_eq!(refused.refused(403, "forbidden")["field"], "Origin");
        }
    }
);

/// What a client sends that wants a WebSocket.
fn upgrading(call: Call) -> Call {
    HANDSHAKE.into_iter().fold(call, |call, (name, value)| call.header(name, value))
}

const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn handshake() -> Vec<u8> {
    let headers: String = HANDSHAKE.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET /jobs/j/ws HTTP/1.1\r\nhost: x\r\n{headers}\r\n").into()
}

each_engine!(what_is_no_handshake_is_refused, |server| async move {
    server.job("j", "k").await;
    assert_eq!(server.get("/jobs/j/ws").await.refused(400, "invalid_header")["field"], "Upgrade");
    for (name, value) in [("sec-websocket-version", "8"), ("upgrade", "h2c"), ("connection", "close")] {
        let all = HANDSHAKE.map(|(known, usual)| (known, if known == name { value } else { usual }));
        let call = all.into_iter().fold(server.get("/jobs/j/ws"), |call, (name, value)| call.header(name, value));
        call.await.refused(400, "invalid_header");
    }
    upgrading(server.get("/jobs/none/ws")).await.refused(404, "job_not_found");
    upgrading(server.get("/jobs/j/ws?logs=x")).await.names("logs");
    upgrading(server.get("/jobs/j/ws?wait=1")).await.names("wait");
    // An upgrade that the route knows nothing of is none.
    upgrading(server.get("/jobs/j")).await.is(200);
    server.until_open("websocket", 0).await;
});
