//! The program as an operator meets it: its commands, exit codes, first line, signals, and jobs moved between stores.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, eventually, postgres};

/// The program, without what the environment of the tests may say to it, and with no signal ignored because the tests were
/// started so, as by nohup.
pub(crate) fn milepost(arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal", env!("CARGO_BIN_EXE_milepost")]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILEPOST_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    milepost(arguments).output().unwrap()
}

fn said(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    String::from_utf8_lossy(if code == 0 { &output.stdout } else { &output.stderr }).into_owned()
}

/// A service that runs; killed when it is dropped.
pub(crate) struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl Service {
    pub(crate) fn start(store: impl AsRef<OsStr>, variables: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1:0", store, variables)
    }

    pub(crate) fn start_at(listen: &str, store: impl AsRef<OsStr>, variables: &[(&str, &str)]) -> Self {
        let mut command = milepost(&["serve", "--listen", listen, "--store", store.as_ref().to_str().unwrap()]);
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().trim_end().parse().unwrap();
        Self { child, stdout, address }
    }

    /// A connection that has had an answer: one that was never accepted would be reset when the service stops.
    fn idle(&self) -> TcpStream {
        let mut connection = self.begin("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n");
        connection.read_exact(&mut [0; 12]).unwrap();
        connection
    }

    /// Sends a request as it stands.
    fn begin(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let body = body.to_string();
        let length = body.len();
        let mut stream = self.begin(&format!(
            "{method} {path} HTTP/1.1\r\nhost: milepost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// The exit code, and what else stood on stdout.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (code, rest)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn help_and_version_are_no_errors_and_a_wrong_command_line_is_64() {
    assert!(said(&run(&["--help"]), 0).contains("Usage: milepost"));
    assert!(said(&run(&["--version"]), 0).contains(env!("CARGO_PKG_VERSION")));
    said(&run(&[]), 64);
    said(&run(&["serve", "--port", "1"]), 64);
    said(&run(&["fly"]), 64);
}

#[test]
fn a_wrong_configuration_is_64_with_every_problem() {
    let output = milepost(&["serve", "--listen", "0.0.0.0:0"]).env("MILEPOST_HTTP_LISTNE", "x").output().unwrap();
    let complaint = said(&output, 64);
    assert!(complaint.contains("--listen: ") && complaint.contains("MILEPOST_HTTP_LISTNE: "), "{complaint}");
    assert_eq!(said(&run(&["check-config"]), 0), "configuration is fine\n");
}

#[test]
fn the_defaults_are_printed_as_they_are_built_in() {
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/default.toml")).unwrap();
    assert_eq!(said(&run(&["default-config"]), 0), file);
    let document: Value = serde_json::from_str(&said(&run(&["openapi"]), 0)).unwrap();
    assert!(document["openapi"].is_string());
}

#[test]
fn it_is_healthy_while_it_serves_and_not_after() {
    let store = tempfile::tempdir().unwrap();
    let service = Service::start(store.path(), &[]);
    let listen = service.address.to_string();
    said(&run(&["healthcheck", "--listen", &listen]), 0);
    service.signal("TERM");
    assert_eq!(service.end(), (Some(0), String::new()));
    said(&run(&["healthcheck", "--listen", &listen]), 1);
    said(&run(&["healthcheck", "--listen", "127.0.0.1:0"]), 1);
}

#[test]
fn a_store_or_an_address_that_is_taken_is_1() {
    let store = tempfile::tempdir().unwrap();
    let service = Service::start(store.path(), &[]);
    let path = store.path().to_str().unwrap();
    let complaint = said(&run(&["serve", "--listen", "127.0.0.1:0", "--store", path]), 1);
    assert!(complaint.contains("another process is using the store"), "{complaint}");
    let other = tempfile::tempdir().unwrap();
    let listen = service.address.to_string();
    let complaint = said(&run(&["serve", "--listen", &listen, "--store", other.path().to_str().unwrap()]), 1);
    assert!(complaint.contains("cannot be listened on"), "{complaint}");
}

#[test]
fn a_request_under_way_gets_its_answer_before_the_service_ends() {
    let store = tempfile::tempdir().unwrap();
    let service = Service::start(store.path(), &[]);
    let body = json!({"kind": "restyle"}).to_string();
    let length = body.len();
    let (first, last) = body.split_at(5);
    let mut slow = service.begin(&format!(
        "PUT /jobs/slow HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         expect: 100-continue\r\n\r\n"
    ));
    // The service asks for the body, so the request is under way.
    let mut go = [0; 25];
    slow.read_exact(&mut go).unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    slow.write_all(first.as_bytes()).unwrap();

    let mut idle = service.idle();
    service.signal("TERM");
    // An idle connection is closed as soon as the service stops.
    idle.read_to_end(&mut Vec::new()).unwrap();
    slow.write_all(last.as_bytes()).unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(service.end(), (Some(0), String::new()));

    let service = Service::start(store.path(), &[]);
    assert_eq!(service.call("GET", "/jobs/slow", &json!(null)).0, 200);
}

#[test]
fn what_does_not_end_in_the_drain_time_is_cut_and_said() {
    let store = tempfile::tempdir().unwrap();
    let service = Service::start(store.path(), &[("MILEPOST_HTTP_DRAIN_SECONDS", "0")]);
    let mut slow =
        service.begin("PUT /jobs/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n");
    slow.read_exact(&mut [0; 25]).unwrap();
    service.signal("INT");
    assert_eq!(service.end(), (Some(1), String::new()));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let store = tempfile::tempdir().unwrap();
    let service = Service::start(store.path(), &[("MILEPOST_HTTP_DRAIN_SECONDS", "600")]);
    let mut slow =
        service.begin("PUT /jobs/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n");
    slow.read_exact(&mut [0; 25]).unwrap();
    let mut idle = service.idle();
    service.signal("TERM");
    idle.read_to_end(&mut Vec::new()).unwrap();
    service.signal("TERM");
    assert_eq!(service.end(), (Some(1), String::new()));
}

#[test]
fn jobs_move_to_another_store_and_back_as_they_are() {
    let stores = tempfile::tempdir().unwrap();
    let at = |name: &str| stores.path().join(name).to_str().unwrap().to_owned();
    let service = Service::start(stores.path().join("a"), &[]);
    for id in ["one", "two"] {
        let job = json!({"kind": "restyle", "input": {"clip": id}, "log": ["first", "second"]});
        assert_eq!(service.call("PUT", &format!("/jobs/{id}"), &job).0, 201);
    }
    assert_eq!(service.call("PATCH", "/jobs/one", &json!({"status": "completed", "result": [1, null]})).0, 200);
    let export = |store: &str| {
        let text = said(&run(&["export", "--store", store]), 0);
        let (header, rest) = text.split_once('\n').unwrap();
        assert!(header.starts_with("{\"milepost_export\":1,"), "{header}");
        rest.to_owned()
    };
    let first = export(&at("a"));
    assert!(first.ends_with("{\"end\":{\"jobs\":2,\"lines\":4}}\n"), "{first}");

    // Beside the running service: an export, but no import.
    said(&run(&["export", "--store", &at("a"), "--output", &at("file")]), 0);
    let complaint = said(&run(&["import", "--store", &at("a"), &at("file")]), 1);
    assert!(complaint.contains("another process is using the store"), "{complaint}");

    assert_eq!(said(&run(&["import", "--store", &at("b"), &at("file")]), 0), "imported 2 jobs with 4 log lines\n");
    assert_eq!(export(&at("b")), first);
    let complaint = said(&run(&["import", "--store", &at("b"), &at("file")]), 1);
    assert!(complaint.contains("the store has a job `one` already; jobs imported before: 0"), "{complaint}");

    let piped = milepost(&["import", "--store", &at("c")]).stdin(std::fs::File::open(at("file")).unwrap()).output();
    said(&piped.unwrap(), 0);
    assert_eq!(export(&at("c")), first);

    let half = std::fs::read(at("file")).unwrap();
    std::fs::write(at("half"), &half[..half.len() / 2]).unwrap();
    said(&run(&["import", "--store", &at("d"), &at("half")]), 1);
    assert_eq!(export(&at("d")), "{\"end\":{\"jobs\":0,\"lines\":0}}\n");
}

/// Every sort of job, some of each.
fn fill(service: &Service, jobs: usize) {
    for first in (0..jobs).step_by(250) {
        let (mut made, mut ended) = (Vec::new(), Vec::new());
        for number in first..jobs.min(first + 250) {
            let id = format!("job-{number}");
            made.push(json!({
                "op": "create", "id": id, "kind": format!("kind-{}", number % 3), "priority": number % 5,
                "input": {"clip": number}, "labels": {"user": (number % 100).to_string()}, "log": ["made"],
            }));
            if number % 3 > 0 {
                let log = (0..number % 40).map(|line| format!("{id} line {line}")).collect::<Vec<_>>();
                made.push(json!({"op": "patch", "id": id, "status": "processing", "stage": "encode", "log": log}));
                ended.push(match number % 4 {
                    0 => json!({"op": "patch", "id": id, "status": "failed", "error": {"code": "no_ffmpeg"}}),
                    1 => json!({"op": "patch", "id": id, "status": "completed", "result": {"url": format!("/v/{id}")}}),
                    2 => json!({"op": "patch", "id": id, "status": "cancelled"}),
                    _ => json!({"op": "patch", "id": id, "progress_pct": 30}),
                });
            }
        }
        for operations in [made, ended] {
            let (status, answer) = service.call("POST", "/batch", &json!(operations));
            assert!(status == 200 && !answer.contains("\"status\":4"), "{answer}");
        }
    }
}

/// What a store exports, but for when.
fn exported(store: &str) -> String {
    let text = said(&run(&["export", "--store", store]), 0);
    text.split_once('\n').unwrap().1.to_owned()
}

async fn jobs_move_to_postgres_and_back(jobs: usize) {
    let database = postgres::empty_store().await;
    let moved = move || {
        let stores = tempfile::tempdir().unwrap();
        let at = |name: &str| stores.path().join(name).to_str().unwrap().to_owned();
        let service = Service::start(at("a"), &[]);
        fill(&service, jobs);
        drop(service);
        let first = exported(&at("a"));
        std::fs::write(at("file"), said(&run(&["export", "--store", &at("a")]), 0)).unwrap();
        let words = said(&run(&["import", "--store", &database, &at("file")]), 0);
        assert!(words.starts_with(&format!("imported {jobs} jobs with ")), "{words}");
        assert!(exported(&database) == first, "on PostgreSQL it is another");
        // It is taken up where it was.
        let service = Service::start(&database, &[]);
        assert_eq!(service.call("PATCH", "/jobs/job-0", &json!({"stage": "x"})).0, 200);
        assert_eq!(service.call("DELETE", "/jobs/job-1", &json!(null)).0, 204);
        let counts = service.call("GET", "/stats", &json!(null)).1;
        drop(service);
        let text = said(&run(&["export", "--store", &database]), 0);
        std::fs::write(at("file"), &text).unwrap();
        said(&run(&["import", "--store", &at("b"), &at("file")]), 0);
        assert!(exported(&at("b")) == text.split_once('\n').unwrap().1, "back again it is another");
        let service = Service::start(at("b"), &[]);
        let again = service.call("GET", "/stats", &json!(null)).1;
        let of_status = |answer: &str| answer.split("\"jobs\":").nth(1).unwrap().split('}').next().unwrap().to_owned();
        assert_eq!(of_status(&again), of_status(&counts));
    };
    tokio::task::spawn_blocking(moved).await.unwrap();
}

#[tokio::test]
async fn jobs_move_to_postgres_and_back_as_they_are() {
    jobs_move_to_postgres_and_back(1500).await;
}

/// `make transfer`
#[tokio::test]
#[ignore = "long: make transfer"]
async fn transfer_campaign() {
    jobs_move_to_postgres_and_back(100_000).await;
}

/// What a program wrote that knew formats up to 1 of stores on PostgreSQL (commit 7d22ace), and what that program exported.
const FORMAT_1: [&str; 3] = [
    include_str!("../../migrations/postgres/0001.sql"),
    include_str!("engine/postgres-format-1.sql"),
    include_str!("engine/postgres-format-1.ndjson"),
];

/// What that program says of the format.
const FORMAT_1_MARK: &str =
    "CREATE TABLE store(is_one bool PRIMARY KEY DEFAULT true, format int4 NOT NULL, oldest int4 NOT NULL);
     INSERT INTO store(format, oldest) VALUES (1, 1)";

#[tokio::test]
async fn a_store_on_postgres_that_format_1_has_written_is_what_it_was_and_goes_on() {
    let database = postgres::empty_store().await;
    let url = database.parse().unwrap();
    let [tables, written, export] = FORMAT_1;
    postgres::value(&url, tables).await;
    postgres::value(&url, written).await;
    postgres::value(&url, FORMAT_1_MARK).await;
    let of_service = database.clone();
    let (before, stages) = tokio::task::spawn_blocking(move || {
        let before = exported(&of_service);
        let service = Service::start(&of_service, &[]);
        for number in 12..30 {
            let stage = json!({"stage": format!("Matting subject {number}")});
            assert_eq!(service.call("PATCH", "/jobs/staged", &stage).0, 200);
        }
        let answer = service.call("GET", "/jobs/staged/timeline", &json!(null)).1;
        let timeline: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(timeline["dropped"], 0);
        let stages = timeline["timeline"].as_array().unwrap().iter().map(|entry| entry["stage"].clone());
        (before, stages.collect::<Vec<_>>())
    })
    .await
    .unwrap();
    assert_eq!(before, export);
    let mut expected = vec![json!(null)];
    expected.extend((0..30).map(|number| json!(format!("Matting subject {number}"))));
    assert_eq!(stages, expected);
    let rows = postgres::value(&url, "SELECT count(*) FROM timeline_rows WHERE job = 2 AND last > 13").await;
    assert!((1..=4).contains(&rows.parse::<u32>().unwrap()), "18 entries lie in {rows} rows of their own");
    let calls =
        "SELECT count(*) FROM pg_proc WHERE proname = 'commit_batch' AND pronamespace = current_schema()::regnamespace";
    assert_eq!(postgres::value(&url, calls).await, "1", "programs of format 1 find theirs no longer");
}

/// Whoever reads for long, an export or pg_dump, keeps a step waiting, and the step must not keep all others waiting with it.
#[tokio::test]
async fn a_store_on_postgres_that_is_brought_up_to_date_lets_readers_go_first() {
    let database = postgres::empty_store().await;
    let url: tokio_postgres::Config = database.parse().unwrap();
    postgres::value(&url, FORMAT_1[0]).await;
    postgres::value(&url, FORMAT_1_MARK).await;
    let (reader, connection) = url.connect(tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    reader.batch_execute("BEGIN; SELECT FROM heads").await.unwrap();
    let migrated = tokio::task::spawn_blocking(move || said(&run(&["migrate", "--store", &database]), 0));
    let waits = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE relation = 'heads'::regclass AND NOT granted";
    let waiting = async || (postgres::value(&url, waits).await == "1").then_some(());
    eventually(waiting).await.expect("it waits for who reads");
    let read = postgres::value(&url, "SELECT count(*) FROM heads");
    assert_eq!(tokio::time::timeout(PATIENCE, read).await.expect("others go first"), "0");
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(migrated.await.unwrap(), "the store is up to date\n");
    drop(reader);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_store_on_postgres_is_for_the_programs_that_understand_it() {
    let database = postgres::empty_store().await;
    let migrate = |database: String, code| async move {
        tokio::task::spawn_blocking(move || said(&run(&["migrate", "--store", &database]), code)).await.unwrap()
    };
    for _ in 0..2 {
        assert_eq!(migrate(database.clone(), 0).await, "the store is up to date\n");
    }
    let url = database.parse().unwrap();
    // A newer program has been there, and has left what this one can use.
    postgres::value(&url, "UPDATE store SET format = 99").await;
    migrate(database.clone(), 0).await;
    postgres::value(&url, "UPDATE store SET oldest = 98").await;
    let refused = migrate(database.clone(), 1).await;
    assert!(refused.contains("the store has format 99, which programs that know format 98 can use"), "{refused}");
    let backup = move || said(&run(&["backup", "--store", &database, "/tmp/none"]), 1);
    assert!(tokio::task::spawn_blocking(backup).await.unwrap().contains("pg_dump"));
}

#[test]
fn a_backup_that_fails_leaves_nothing_behind() {
    let stores = tempfile::tempdir().unwrap();
    let (from, to) = (stores.path().join("a"), stores.path().join("copy.db"));
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("milepost.db"), vec![b'x'; 4096]).unwrap();
    said(&run(&["backup", "--store", from.to_str().unwrap(), to.to_str().unwrap()]), 1);
    assert!(!to.exists());
}

#[test]
fn a_backup_of_a_running_service_is_a_store() {
    let stores = tempfile::tempdir().unwrap();
    let service = Service::start(stores.path().join("a"), &[]);
    assert_eq!(service.call("PUT", "/jobs/one", &json!({"kind": "restyle", "log": "line"})).0, 201);
    let copy = stores.path().join("b");
    std::fs::create_dir(&copy).unwrap();
    let (from, to) = (stores.path().join("a"), copy.join("milepost.db"));
    let arguments = ["backup", "--store", from.to_str().unwrap(), to.to_str().unwrap()];
    assert!(said(&run(&arguments), 0).starts_with("backed up to "));
    // Never over a file that is there.
    said(&run(&arguments), 1);

    let restored = Service::start(&copy, &[]);
    assert!(restored.call("GET", "/jobs/one", &json!(null)).1.contains("\"logs\":[\"line\"]"));
}
