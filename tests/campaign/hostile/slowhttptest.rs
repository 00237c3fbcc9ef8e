//! The tool with which others look whether a service can be starved: <https://github.com/shekyan/slowhttptest>.

use serde_json::json;

use super::{ground::Ground, memory::MIB, streams::CUT, talker::JSON};
use crate::campaign::process::run;

const CONNECTIONS: u64 = 1_000;
/// What a server may take for each: hyper's buffers, and an answer of 200 KiB as lines and as JSON.
const GROWN_BYTES_MAX: u64 = CONNECTIONS * MIB;

/// `make hostile`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make hostile"]
async fn slowhttptest_hostile_campaign() {
    let seconds = ["HTTP_HEADER_READ_SECONDS", "HTTP_BODY_READ_SECONDS", "HTTP_WRITE_STALL_SECONDS"];
    let ground = Ground::with(&seconds.map(|name| (name, 3))).await;
    let mut asking = ground.talker().await;
    asking.ask("PUT", "/jobs/j", &json!({"kind": "k", "log": vec!["x".repeat(10_000); 20]})).await.is(201);
    drop(asking);
    let all_gone = "No open connections left";
    let said = starve(&ground, "/jobs/j", &["-H", "-t", "GET"]).await;
    assert!(said.contains(all_gone), "{said}");
    let said = starve(&ground, "/jobs", &["-B", "-t", "POST", "-f", JSON, "-s", "100000"]).await;
    assert!(said.contains(all_gone), "{said}");
    // It does not notice that it is cut as long as there is something left to read.
    starve(&ground, "/jobs/j?logs=all", &["-X", "-k", "3", "-w", "512", "-y", "1024", "-z", "32"]).await;
    ground.until(&mut ground.talker().await, CUT, |cut| cut >= CONNECTIONS).await;
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

/// Lets the tool loose for a while, in which its probes must be answered; returns what it said.
async fn starve(ground: &Ground, path: &str, mode: &[&str]) -> String {
    let (url, connections) = (format!("{}{path}", ground.server.url), CONNECTIONS.to_string());
    let mut words =
        vec!["-u", &url, "-c", &connections, "-r", "500", "-i", "1", "-n", "1", "-x", "24", "-l", "30", "-p", "3"];
    words.extend(mode);
    let output = run("slowhttptest", &words).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("YES") && !said.contains("NO"), "{said}");
    println!("slowhttptest {}: {CONNECTIONS} connections, always available", words.join(" "));
    said
}
