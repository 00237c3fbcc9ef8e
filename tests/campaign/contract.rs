//! What openapi.json promises, request by request: schemathesis makes requests of it, good ones and bad ones, to the real
//! server, and looks whether they are taken or refused as they should be and answered as it says.
//!
//! It cannot know that something was done; that is for the other chapters. Streams are looked at up to their first event,
//! and WebSockets only from outside: `tests/it` has clients that follow them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    given,
    process::{Launch, Server, output_of},
};

/// How long schemathesis may take for each request that it may make of an operation, with some for its own start.
const PATIENCE_EACH: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

/// What schemathesis is to do.
struct Plan {
    /// Requests of an operation in the phases that make them up.
    examples: u32,
    phases: &'static str,
    seed: u64,
}

/// Each word that the description says of jobs themselves.
#[tokio::test]
async fn answers_are_those_of_the_description() {
    let plan = Plan { examples: 1, phases: "coverage", seed: seed() };
    let words = ["--include-path-regex", r"^/jobs(/\{id\}(/logs|/events)?)?$"];
    let report = Ground::prepare().await.tried(&plan, &words).await;
    report.is_blameless();
    report.has_tried(1_000);
}

/// `make contract`: as many as MILEPOST_CONTRACT_EXAMPLES of each operation, beside those that cover each word of it.
#[tokio::test]
#[ignore = "takes minutes"]
async fn contract_campaign() {
    let examples = given("MILEPOST_CONTRACT_EXAMPLES").unwrap_or(200);
    let plan = Plan { examples, phases: "examples,coverage,fuzzing,stateful", seed: seed() };
    let report = Ground::prepare().await.tried(&plan, &[]).await;
    report.is_blameless();
    report.has_tried(5_000);
}

/// The negative control: a status that is not described, a member of another type and a limit that is none are found out.
#[tokio::test]
async fn a_description_that_lies_is_found_out() {
    let ground = Ground::prepare().await;
    let mut description: Value = ground.ask(Method::GET, "/openapi.json", None).await;
    let read = &mut description["paths"]["/jobs/{id}"]["get"];
    read["responses"].as_object_mut().expect("responses").remove("404").expect("a job may be missing");
    let logs = read["parameters"].as_array_mut().expect("parameters").iter_mut();
    let logs_after = logs.into_iter().find(|parameter| parameter["name"] == "logs_after").expect("is one of them");
    logs_after["schema"]["maximum"] = json!(5);
    description["components"]["schemas"]["Job"]["properties"]["version"]["type"] = json!("string");
    let file = ground.folder.path().join("openapi.json");
    fs::write(&file, description.to_string()).expect("a place for it");

    let plan = Plan { examples: 1, phases: "coverage", seed: 1 };
    let words =
        ["--include-name", "GET /jobs/{id}", "--url", &ground.server.url.clone(), file.to_str().expect("a name")];
    let report = ground.tried(&plan, &words).await;
    let found = report.text.as_str();
    for lie in ["Undocumented status code", "Response violates schema", "Schema-violating request accepted"] {
        assert!(found.contains(lie), "{lie}: {found}");
    }
}

/// A server with a job in each state, and a place for what is said of it.
struct Ground {
    server: Server,
    folder: TempDir,
}

impl Ground {
    async fn prepare() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, log) = (folder.path().join("store"), folder.path().join("log"));
        let launch = Launch::serve(&store, &log)
            // Waits are granted, and short; and there may be as many kinds as words can be made up.
            .env("MILEPOST_PUSH_WAIT_SECONDS_MAX", 1)
            .env("MILEPOST_CLAIMS_WAIT_SECONDS_MAX", 1)
            .env("MILEPOST_JOBS_KINDS_MAX", 1_000_000);
        let ground = Self { server: launch.listening().await, folder };
        ground.fill().await;
        ground
    }

    /// The jobs that `schemathesis.toml` names; `0` is what it makes of an id without them.
    async fn fill(&self) {
        let lines: Vec<_> = (0..3000).map(|number| format!("line {number}")).collect();
        let jobs = [
            ("0", json!({}), json!({})),
            ("queued", json!({"input": {"clip": "/v/1.mp4"}, "labels": {"user": "42"}}), json!({"stage": "waiting"})),
            ("leased", json!({"lease_seconds": 3600}), json!({"status": "processing", "attempt": 1})),
            ("processing", json!({}), json!({"status": "processing", "progress_pct": 33.3})),
            ("stopping", json!({}), json!({"status": "processing"})),
            ("completed", json!({}), json!({"status": "completed", "result": {"url": "/v/1-out.mp4"}, "log": "done"})),
            ("failed", json!({}), json!({"status": "failed", "error": {"reason": "lost", "message": "❌"}})),
            ("cancelled", json!({}), json!({})),
            ("long", json!({}), json!({"log": lines})),
        ];
        for (id, mut new, change) in jobs {
            new["kind"] = json!("restyle");
            self.ask(Method::PUT, &format!("/jobs/{id}"), Some(new)).await;
            self.ask(Method::PATCH, &format!("/jobs/{id}"), Some(change)).await;
        }
        for id in ["stopping", "cancelled"] {
            self.ask(Method::POST, &format!("/jobs/{id}/cancel"), Some(json!({}))).await;
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let request = client.request(method, format!("{}{path}", self.server.url));
        let response = match body {
            Some(body) => request.json(&body).send().await,
            None => request.send().await,
        };
        let response = response.expect("the server answers");
        assert!(response.status().is_success(), "{path}: {response:?}");
        response.json().await.expect("JSON")
    }

    /// Has schemathesis try a description, or that of the server, and looks at the server afterwards.
    async fn tried(self, plan: &Plan, words: &[&str]) -> Report {
        let Plan { examples, phases, seed } = plan;
        println!("seed {seed} (MILEPOST_CONTRACT_SEED)");
        let report = self.folder.path().join("report.json");
        let mut command = Command::new(schemathesis());
        command.arg("--config-file").arg(here().join("schemathesis.toml")).arg("run");
        if !words.contains(&"--url") {
            command.arg(format!("{}/openapi.json", self.server.url));
        }
        command.args(words).args(["--phases", phases, "--max-examples", &examples.to_string()]);
        command.args(["--seed", &seed.to_string(), "--no-color", "--report", "json"]);
        command.arg("--report-json-path").arg(&report);
        command.current_dir(self.folder.path()).env("PYTHONPATH", here()).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = output_of(command, PATIENCE + PATIENCE_EACH * *examples).await;
        let said = fs::read(&report).ok().and_then(|report| serde_json::from_slice(&report).ok());
        let text = [output.stdout, output.stderr].concat();
        let report = Report { text: String::from_utf8_lossy(&text).into_owned(), said: said.unwrap_or_default() };

        // Whatever it was asked, it is well, and has met nothing that it could not answer.
        self.ask(Method::GET, "/health", None).await;
        let status = self.server.stop().await;
        let log = fs::read_to_string(self.folder.path().join("log")).expect("its log");
        assert!(status.success() && !log.contains("\"level\":\"ERROR\""), "{status}: {log}");
        report
    }
}

/// What schemathesis has found.
struct Report {
    /// In its own words.
    text: String,
    /// For programs.
    said: Value,
}

impl Report {
    fn is_blameless(&self) {
        println!("{}", self.summary());
        for what in ["failures", "errors"] {
            assert!(self.said[what].as_array().is_some_and(Vec::is_empty), "{what}:\n{}", self.text);
        }
        assert_eq!(self.said["exit_code"], 0, "{}", self.text);
    }

    /// Enough, of every operation, and of each something that it took: else nothing was tried but refusals.
    fn has_tried(&self, cases: u64) {
        let tried = self.said["test_cases"]["generated"].as_u64().unwrap_or_default();
        assert!(tried >= cases, "only {tried}: {}", self.text);
        assert_eq!(self.said["operations"]["tested"], self.said["operations"]["selected"]);
        for (operation, phases) in self.said["valid_rates"].as_object().expect("rates of operations") {
            let accepted = |phase: &Value| phase["accepted"].as_u64().unwrap_or_default();
            let accepted: u64 = phases.as_object().expect("of phases").values().map(accepted).sum();
            assert!(accepted > 0 || operation == "GET /jobs/{id}/ws", "{operation} took nothing: {phases}");
        }
    }

    fn summary(&self) -> String {
        let Value::Object(cases) = &self.said["test_cases"] else { return self.text.clone() };
        format!("{} operations, {cases:?}, {} s", self.said["operations"]["tested"], self.said["running_time"])
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/campaign/contract")
}

fn schemathesis() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/schemathesis");
    assert!(program.exists(), "{} is missing; `make test` installs it", program.display());
    program
}

fn seed() -> u64 {
    super::seed("MILEPOST_CONTRACT_SEED")
}
