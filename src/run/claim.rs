//! `milepost claim`: queued jobs are given to a command, one after the other.
//!
//! Promises: a job that was claimed is told its end, or is given back. A signal stops the command and gives its job back.

use std::{fs, process::ExitCode, sync::Arc};

use serde_json::{Value, json};
use tokio::{
    select,
    time::{Duration, sleep},
};
use uuid::Uuid;

use super::{
    Book, ClaimOptions, Outbox, Policy, RunError, Signals, Start, Track, block_on, complain, flush, report, tell,
    terminal,
};
use crate::client::{Client, Pauses, Request};

/// How long the service is asked to wait for a job.
const WAIT: Duration = Duration::from_secs(25);
/// The kernel takes no variable of more than 128 KiB.
const VARIABLE_BYTES_MAX: usize = 100 * 1024;
/// The service takes names of workers of up to 64 bytes.
const WORKER_BYTES_MAX: usize = 64;

/// `milepost claim`: gives jobs to the command until a signal comes.
///
/// # Errors
/// Why no job can be claimed, or the command cannot be started.
pub fn claim(options: &ClaimOptions) -> Result<ExitCode, RunError> {
    terminal::never_stop_for_writing();
    block_on(claim_jobs(options))
}

async fn claim_jobs(options: &ClaimOptions) -> Result<ExitCode, RunError> {
    let mut signals = Signals::listen().map_err(RunError::system("signals"))?;
    let mut client = Client::new(options.track.server.base()?);
    loop {
        let job = select! {
            job = next(&mut client, options) => job?,
            // A job that was given to us just now comes back when its lease has run out.
            () = super::track::impatience(&mut signals) => return Ok(ExitCode::SUCCESS),
        };
        let id = text(&job, "id");
        let spool = options.track.spool();
        let book = Book::new(client.base().url(), &id, &report::writer(), None);
        let outbox = Arc::new(Outbox::new(book, &spool));
        outbox.begun(job["attempt"].as_u64().and_then(|attempt| attempt.try_into().ok()).unwrap_or(1));
        let environment = environment(&job, client.base().url());
        let input = job["input"].to_string();
        let start = Start { command: &options.command, environment: &environment, stdin: Some(input.as_bytes()) };
        let policy = Policy { stops_when_lost: true, gives_back: true };
        let track = Track { options: &options.track, policy, start, outbox };
        let earlier = flush::earlier(&spool, options.track.lease());
        let tracked = track.run(&mut client, &mut signals, earlier).await?;
        tell(&id, &tracked);
        let exit = tracked
            .ended
            .map_err(|cause| RunError::Start { command: options.command[0].to_string_lossy().into_owned(), cause })?;
        if tracked.was_stopped {
            return Ok(ExitCode::SUCCESS);
        }
        if options.once {
            return Ok(exit.code().into());
        }
    }
}

/// The next job, whenever it comes.
async fn next(client: &mut Client, options: &ClaimOptions) -> Result<Value, RunError> {
    let wish = json!({
        "kinds": options.kind,
        "worker": options.worker.clone().unwrap_or_else(machine),
        "lease_seconds": options.track.lease_seconds,
        "wait_seconds": WAIT.as_secs(),
    });
    let (mut pauses, mut was_away) = (Pauses::default(), false);
    let mut key = Uuid::new_v4().to_string();
    loop {
        let request = Request::send("POST", "/jobs/claim", &wish).header("idempotency-key", &key).waits(WAIT);
        match client.call(&request).await {
            Ok(answer) if answer.status == 204 => {
                pauses.reset();
                key = Uuid::new_v4().to_string();
            }
            Ok(answer) => return Ok(answer.json()?),
            // With its key it is the same claim once more.
            Err(error) if error.is_passing() => {
                if !was_away {
                    complain(format_args!("no job can be claimed for now: {error}"));
                }
                was_away = true;
                sleep(pauses.next(&error)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the command is told of its job.
fn environment(job: &Value, url: &str) -> Vec<(String, String)> {
    let mut all = vec![
        ("MILEPOST_URL".to_owned(), url.to_owned()),
        ("MILEPOST_JOB_ID".to_owned(), text(job, "id")),
        ("MILEPOST_KIND".to_owned(), text(job, "kind")),
        ("MILEPOST_ATTEMPT".to_owned(), job["attempt"].to_string()),
        ("MILEPOST_INPUT".to_owned(), job["input"].to_string()),
    ];
    for (key, value) in job["input"].as_object().into_iter().flatten() {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
        };
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        all.push((format!("MILEPOST_INPUT_{}", key.chars().map(letter).collect::<String>()), value));
    }
    // What no variable can hold is on stdin.
    all.retain(|(_, value)| value.len() <= VARIABLE_BYTES_MAX && !value.contains('\0'));
    all
}

fn text(job: &Value, member: &str) -> String {
    job[member].as_str().unwrap_or_default().to_owned()
}

/// The name of this machine.
fn machine() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    let name = &name[..name.floor_char_boundary(WORKER_BYTES_MAX)];
    if name.is_empty() { "milepost".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_of_the_input_are_variables() {
        let job = json!({
            "id": "j", "kind": "k", "attempt": 2,
            "input": {"clip": "/v/1 .mp4", "out-dir": "x", "n": 3, "b": true, "none": null, "deep": {"a": 1}, "nul": "\0"}
        });
        let all = environment(&job, "http://x");
        let of = |name: &str| all.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(of("MILEPOST_ATTEMPT"), Some("2"));
        assert_eq!(of("MILEPOST_INPUT_CLIP"), Some("/v/1 .mp4"));
        assert_eq!((of("MILEPOST_INPUT_OUT_DIR"), of("MILEPOST_INPUT_N")), (Some("x"), Some("3")));
        assert_eq!((of("MILEPOST_INPUT_B"), of("MILEPOST_INPUT_NONE")), (Some("true"), None));
        assert_eq!((of("MILEPOST_INPUT_DEEP"), of("MILEPOST_INPUT_NUL")), (None, None));
        assert!(of("MILEPOST_INPUT").unwrap().starts_with("{\"clip\":"));
        assert_eq!(environment(&json!({"input": [1]}), "http://x").len(), 5);
    }
}
