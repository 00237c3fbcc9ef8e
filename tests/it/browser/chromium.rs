//! Headless Chromium, told what to do over its DevTools protocol: <https://chromedevtools.github.io/devtools-protocol/>.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::harness::PATIENCE;

/// A browser of one's own; killed with its handle.
pub(super) struct Chromium {
    child: Child,
    devtools: String,
    _profile: TempDir,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Chromium {
    pub(super) async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`make test` installs chromium");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, told) = oneshot::channel();
        thread::spawn(move || {
            let mut tell = Some(tell);
            // To its end, so that it never waits for its words to be read.
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(url) = line.strip_prefix("DevTools listening on ws://") {
                    tell.take().map(|tell| tell.send(url.to_owned()));
                }
            }
        });
        let devtools = timeout(PATIENCE, told).await.expect("it starts").expect("it says where it listens");
        Self { child, devtools, _profile: profile }
    }

    /// A page of this address, once it has loaded.
    pub(super) async fn open(&self, url: &str) -> Page {
        let (host, _) = self.devtools.split_once('/').unwrap();
        let socket = TcpStream::connect(host).await.unwrap();
        let (socket, _) = client_async(format!("ws://{}", self.devtools), socket).await.unwrap();
        let mut page = Page { socket, session: None, calls: 0, loads: 0 };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        page.session = page.call("Target.attachToTarget", attach).await["sessionId"].as_str().map(str::to_owned);
        page.call("Page.enable", json!({})).await;
        page.visit("Page.navigate", json!({"url": url})).await;
        page
    }
}

/// A page in a browser.
pub(super) struct Page {
    socket: WebSocketStream<TcpStream>,
    session: Option<String>,
    calls: u64,
    /// How often it has loaded.
    loads: u64,
}

impl Page {
    /// What an expression comes to, once that is something that counts as true.
    pub(super) async fn until(&mut self, expression: &str) -> Value {
        let wait = format!(
            "new Promise((resolve, reject) => {{
                const look = () => {{
                    try {{ const found = ({expression}); found ? resolve(found) : setTimeout(look, 5) }}
                    catch (error) {{ reject(error) }}
                }};
                look();
            }})"
        );
        self.run(&wait).await
    }

    /// What a script comes to.
    pub(super) async fn run(&mut self, script: &str) -> Value {
        let what = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let told = self.call("Runtime.evaluate", what).await;
        assert!(told.get("exceptionDetails").is_none(), "{script}: {told}");
        told["result"]["value"].clone()
    }

    pub(super) async fn reload(&mut self) {
        self.visit("Page.reload", json!({})).await;
    }

    async fn visit(&mut self, method: &str, what: Value) {
        let loads = self.loads;
        self.call(method, what).await;
        while self.loads == loads {
            self.hear().await;
        }
    }

    async fn call(&mut self, method: &str, what: Value) -> Value {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": what});
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        loop {
            let mut told = self.hear().await;
            if told["id"] == self.calls {
                assert!(told.get("error").is_none(), "{call}: {told}");
                return told["result"].take();
            }
        }
    }

    async fn hear(&mut self) -> Value {
        let message = timeout(PATIENCE, self.socket.next()).await.expect("the page comes to it").unwrap().unwrap();
        let told: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        self.loads += u64::from(told["method"] == "Page.loadEventFired");
        told
    }
}
