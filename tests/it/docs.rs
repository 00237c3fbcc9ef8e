//! The examples of docs/api.md run as they stand there.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::harness::{On, Server};

/// The example that has this in it.
pub(crate) fn example(mark: &str) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let is_code = |line: &&&str| line.starts_with("    ") || line.is_empty();
    let at = lines.iter().position(|line| line.contains(mark)).expect("the example is there");
    let begin = lines[..at].iter().rposition(|line| !is_code(&line)).unwrap() + 1;
    let code = lines[begin..].iter().take_while(is_code).map(|line| line.strip_prefix("    ").unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// What a program prints that reads from this service.
async fn prints(server: &Server, program: &str, option: &str, text: &str) -> String {
    let mut command = Command::new(program);
    command.arg(option).arg(text.trim().replace("127.0.0.1:8080", &server.address().to_string()));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn streams_are_read_by_python_and_curl() {
    let server = Server::start(On::Sqlite, |_| {}).await;
    server.job("restyle-1", "restyle").await;
    server.patch("restyle-1", json!({"status": "completed", "log": "it's"})).await.is(200);
    let printed = prints(&server, "python3", "-c", &example("urllib.request.urlopen")).await;
    let names: Vec<_> = printed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["job", "log", "end"], "{printed}");
    assert!(printed.contains("'line': \"it's\""), "{printed}");

    let stream = prints(&server, "sh", "-c", &example("curl -N http://127.0.0.1:8080/jobs/restyle-1/events")).await;
    let end = stream.trim_end().rsplit("data: ").next().unwrap();
    assert_eq!(serde_json::from_str::<Value>(end).unwrap(), json!({"attempt": 1, "reason": "done"}));
    assert_eq!(prints(&server, "sh", "-c", &example("follow=1")).await, "it's\n");
    server.stop().await;
}

#[tokio::test]
async fn the_feed_is_read_by_python_and_curl() {
    let server = Server::start(On::Sqlite, |_| {}).await;
    server.job("restyle-1", "restyle").await;
    server.patch("restyle-1", json!({"status": "completed"})).await.is(200);
    let printed = prints(&server, "python3", "-c", &example("waiting = {")).await;
    assert_eq!(sorted(&printed), ["deleted restyle-2 None", "job restyle-1 completed"]);

    // These go on: read until there is something.
    for mark in ["events?kind=restyle&status=queued,processing", "events?id=restyle-1&id=restyle-2"] {
        let first = format!("{} | head -n 4", example(mark).trim());
        let printed = prints(&server, "sh", "-c", &first).await;
        assert!(printed.starts_with("retry: ") && printed.contains("event: "), "{printed}");
    }
    server.stop().await;
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}
