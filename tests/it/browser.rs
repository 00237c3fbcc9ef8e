//! The pages of docs/api.md in a real browser, against the real binary: live, reloaded, with the service killed under
//! them, and at the end of the job.

mod chromium;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use reqwest::Client;
use serde_json::{Value, json};

use self::chromium::Chromium;
use crate::{
    campaign::process::{Launch, Server},
    docs::example,
};

/// Serves one page to whoever asks, from an origin of its own.
fn serve_page(page: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the tests.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // The whole head, or closing would reset the connection.
            BufReader::new(&stream).lines().map_while(Result::ok).find(String::is_empty);
            let length = page.len();
            let head =
                format!("content-type: text/html; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close");
            let _gone = write!(&stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{page}");
        }
    });
    origin
}

/// The service in a process of its own, which takes its address again after a kill, and a job in it.
struct Service {
    directory: tempfile::TempDir,
    server: Option<Server>,
    address: String,
    origin: String,
    client: Client,
    lines: u32,
}

impl Service {
    /// With a page of this text, which may call it.
    async fn start(page: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let origin = serve_page(page.replace("127.0.0.1:8080", &address));
        let client = Client::builder().no_proxy().build().unwrap();
        let mut service = Self { directory, server: None, address, origin, client, lines: 0 };
        service.live().await;
        service.send("PUT", "", json!({"kind": "restyle", "status": "processing"})).await;
        service
    }

    async fn live(&mut self) {
        let launch = Launch::serve(&self.directory.path().join("store"), &self.directory.path().join("log"));
        let launch = launch.env("MILEPOST_HTTP_CORS_ORIGINS", &self.origin).at(&self.address);
        self.server = Some(launch.listening().await);
    }

    fn die(&mut self) {
        self.server.take().unwrap().kill().dead();
    }

    async fn send(&self, method: &str, path: &str, body: Value) {
        let url = format!("http://{}/jobs/restyle-1{path}", self.address);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = self.client.request(method, url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// The worker writes the next lines.
    async fn work(&mut self, lines: u32) {
        let next: Vec<_> = (self.lines + 1..=self.lines + lines).map(|line| format!("line <b>{line}</b>")).collect();
        self.lines += lines;
        self.send("PATCH", "", json!({"log": next, "progress_pct": self.lines})).await;
    }

    /// A condition: the page shows all lines and nothing else.
    fn shows(&self) -> String {
        let lines: String = (1..=self.lines).map(|line| format!("line <b>{line}</b>\n")).collect();
        format!("log.textContent === {lines:?}")
    }
}

#[tokio::test]
async fn a_page_with_an_event_source_shows_everything_once() {
    let mut service = Service::start(&format!("<!doctype html>{}", example("new EventSource("))).await;
    let browser = Chromium::start().await;
    service.work(2).await;
    let mut page = browser.open(&service.origin).await;
    page.until(&service.shows()).await;
    assert_eq!(page.run("bar.value").await, 2);
    service.work(3).await;
    page.until(&service.shows()).await;
    page.until("bar.value === 5").await;

    page.reload().await;
    page.until(&service.shows()).await;
    // The service dies and comes back; what the worker wrote since is shown once, and nothing twice.
    service.die();
    page.until("events.readyState === EventSource.CONNECTING").await;
    service.live().await;
    service.work(3).await;
    page.until(&service.shows()).await;
    service.work(2).await;
    page.until(&service.shows()).await;

    service.send("PATCH", "", json!({"status": "completed", "log": "bye"})).await;
    page.until("bar.value === 100 && log.textContent.endsWith('bye\\n')").await;
    page.until("events.readyState === EventSource.CLOSED").await;
}

/// Whoever does not close at the end is told by 204 not to come back.
#[tokio::test]
async fn an_event_source_that_is_left_open_ends_by_itself() {
    let page = "<!doctype html><script>
        const events = new EventSource('http://127.0.0.1:8080/jobs/restyle-1/events'), told = [];
        for (const name of ['job', 'log', 'end', 'reset', 'dropped'])
            events.addEventListener(name, e => told.push(name + ' ' + e.lastEventId));
    </script>";
    let mut service = Service::start(page).await;
    service.work(1).await;
    let browser = Chromium::start().await;
    let mut page = browser.open(&service.origin).await;
    page.until("told.length === 2").await;
    service.send("PATCH", "", json!({"status": "failed"})).await;
    page.until("events.readyState === EventSource.CLOSED").await;
    assert_eq!(page.run("told").await, json!(["job 2.0", "log 2.1", "job 3.1", "end 3.1"]));
}

#[tokio::test]
async fn a_page_with_a_web_socket_shows_everything_once() {
    let mut service = Service::start(&format!("<!doctype html>{}", example("new WebSocket("))).await;
    let browser = Chromium::start().await;
    service.work(2).await;
    let mut page = browser.open(&service.origin).await;
    page.until(&service.shows()).await;
    service.work(3).await;
    page.until(&service.shows()).await;
    page.reload().await;
    page.until(&service.shows()).await;
    service.die();
    service.live().await;
    service.work(3).await;
    page.until(&service.shows()).await;
    service.send("PATCH", "", json!({"status": "completed"})).await;
    page.until("closed === 1000").await;

    // A page that the service does not know.
    let stranger = serve_page("<!doctype html>".to_owned());
    let mut page = browser.open(&stranger).await;
    let url = format!("ws://{}/jobs/restyle-1/ws", service.address);
    let refused = format!(
        "new Promise(resolve => {{
            const socket = new WebSocket({url:?});
            socket.onopen = () => resolve('open');
            socket.onclose = ({{code}}) => resolve(code);
        }})"
    );
    assert_eq!(page.run(&refused).await, 1006);
}

#[tokio::test]
async fn a_page_with_the_feed_shows_who_comes_changes_and_leaves() {
    let mut service = Service::start(&format!("<!doctype html>{}", example("news = new Map()"))).await;
    service.send("PUT", "/../early", json!({"kind": "short"})).await;
    let browser = Chromium::start().await;
    let mut page = browser.open(&service.origin).await;
    let shows = |rows: &[&str]| {
        format!("[...jobs.children].map(row => row.textContent).sort().join() === {:?}", rows.join(","))
    };
    page.until(&shows(&["early: queued, 0 %", "restyle-1: processing, 0 %"])).await;
    service.work(3).await;
    service.send("PUT", "/../late", json!({"kind": "short", "status": "processing"})).await;
    page.until(&shows(&["early: queued, 0 %", "late: processing, 0 %", "restyle-1: processing, 3 %"])).await;
    // What happens before the page has come back it learns then.
    service.die();
    page.until("events.readyState === EventSource.CONNECTING").await;
    service.live().await;
    service.send("PATCH", "/../early", json!({"status": "failed"})).await;
    service.send("DELETE", "/../late", json!({})).await;
    service.work(2).await;
    page.until(&shows(&["restyle-1: processing, 5 %"])).await;
    service.send("PATCH", "", json!({"status": "completed"})).await;
    page.until(&shows(&[])).await;
}
