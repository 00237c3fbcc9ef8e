use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::{
    clock::Clock,
    engine::{
        Engine, EngineError, Exported,
        sqlite::{Settings, Sqlite},
    },
    job::{
        Append, Attempt, Cancel, Change, Edit, Guard, History, Job, JobId, JobKey, Json, Kind, LabelEdit, LabelKey,
        LabelValue, Labels, Limits, Lines, LogLine, NewJob, Origin, Patch, Progress, Retention, Retry, Seconds, Spec,
        Stage, Status, Tenant, Timestamp, Writer,
    },
};

const LIMITS: Limits = Limits {
    line_bytes_max: 64,
    job_lines_max: 3000,
    job_log_bytes_max: 20_000,
    late_log_seconds: Seconds(60),
    result_bytes_max: 1000,
    error_bytes_max: 1000,
    writers_max: 8,
    cancel_grace_seconds: Seconds(60),
    retention: Retention::FOR_EVER,
};
const NOW: Timestamp = Timestamp(1_795_420_800_123);

fn json_of(value: serde_json::Value) -> Json {
    Json::try_from(&value).unwrap()
}

fn text(words: impl IntoIterator<Item = String>) -> Lines {
    let mut lines = Lines::default();
    words.into_iter().for_each(|word| lines.push(&word, &LIMITS));
    lines
}

fn new_job(id: &str) -> NewJob {
    let key = JobKey { tenant: Tenant(0), id: JobId::try_from(id).unwrap() };
    let spec = Spec {
        key,
        kind: Kind::try_from("restyle").unwrap(),
        priority: -3,
        max_attempts: 2,
        lease_seconds: Some(Seconds(30)),
        timeout_seconds: Some(Seconds(600)),
        queue_ttl_seconds: Some(Seconds(86_400)),
        cancel_grace_seconds: None,
        retain_seconds: Some(Seconds(u32::MAX)),
        created_at: NOW,
    };
    let label = (LabelKey::try_from("user").unwrap(), LabelValue::try_from("❤ \"42\"").unwrap());
    NewJob {
        spec,
        input: Some(json_of(json!(null))),
        labels: Labels::try_from([label].into_iter().collect::<std::collections::BTreeMap<_, _>>()).unwrap(),
        processing: true,
        stage: Some(Stage::try_from("Matting subject").unwrap()),
        lines: text(["first\nstill first".into(), "\u{1b}[2J ❌ \u{2028}".into()]),
    }
}

/// A job after these changes, its past, and the lines that its log keeps.
fn lived(new: &NewJob, changes: impl IntoIterator<Item = Change>) -> (Arc<Job>, History, Vec<LogLine>) {
    let made = Job::create(new, &LIMITS, NOW);
    let (mut job, mut lines, mut history) = (made.next, made.lines.to_vec(), made.history);
    for (step, change) in changes.into_iter().enumerate() {
        let guard = Guard { attempt: Some(job.attempt), versions: None };
        let applied = job.apply(&change, &guard, &LIMITS, Timestamp(NOW.0 + step as u64 * 1001)).unwrap();
        lines.extend_from_slice(&applied.lines);
        history.extend(applied.history);
        job = applied.next;
    }
    job.expect(None, |_| Some(Seconds(40)));
    // As a job that has been there for long: its first entry is gone.
    if history.timeline.len() > 2 {
        history.timeline.remove(0);
    }
    // What is imported has its last end only.
    history.ends = job.last_end().into_iter().collect();
    lines.retain(|line| line.seq > job.log.dropped);
    (Arc::new(job), history, lines)
}

fn append(count: usize, writer: Option<(&str, u64)>) -> Change {
    let mut lines = text((0..count).map(|number| format!("line {number} of many")));
    lines.origin = writer.map(|(writer, seq)| Origin { writer: Writer::try_from(writer).unwrap(), seq });
    Change::Append(Append { lines, ..Append::default() })
}

fn patch(status: Option<Status>, progress: f64, result: serde_json::Value) -> Change {
    let progress = Some(Progress::try_from(progress).unwrap());
    Change::Patch(Patch { status, progress, result: Edit::Set(json_of(result)), ..Patch::default() })
}

/// Jobs in every state, with all that a job can have.
fn store() -> Vec<Exported> {
    let failed = Change::Patch(Patch {
        status: Some(Status::Failed),
        error: Edit::Set(json_of(json!({"reason": "ffmpeg_exit", "code": 1e300}))),
        labels: LabelEdit { clear: true, set: Vec::new() },
        ..Patch::default()
    });
    let lives = [
        ("queued", vec![patch(Some(Status::Queued), 0.0, json!(7))]),
        ("processing", vec![patch(None, 33.33, json!({"a": [1, 2.50, null]})), append(2500, Some(("gpu 0", 1)))]),
        ("asked-to-stop", vec![append(1, Some(("gpu 0", 1))), Change::Cancel(Cancel::default())]),
        ("completed", vec![append(10, None), patch(Some(Status::Completed), 1.0, json!(""))]),
        ("failed", vec![failed.clone()]),
        ("retried", vec![failed, Change::Retry(Retry { attempt: Some(Attempt(1)) })]),
    ];
    let mut pieces = Vec::new();
    for (id, changes) in lives {
        let new = new_job(id);
        let (job, history, lines) = lived(&new, changes);
        pieces.push(Exported::Job(job, new.input, history));
        // As an engine may have them: in portions of any size.
        pieces.extend(lines.chunks(7).map(|lines| Exported::Lines(lines.to_vec())));
    }
    let bare = NewJob { input: None, labels: Labels::default(), processing: false, stage: None, ..new_job("bare") };
    let (job, history, _) = lived(&NewJob { lines: Lines::default(), ..bare }, []);
    pieces.push(Exported::Job(job, None, history));
    pieces
}

fn encode(pieces: &[Exported]) -> String {
    let mut encoder = Encoder::new(NOW);
    let mut text = Vec::new();
    for piece in pieces {
        encoder.push(piece);
        text.extend(encoder.take().unwrap_or_default());
    }
    text.extend(encoder.finish());
    String::from_utf8(text).unwrap()
}

fn decode(text: &str) -> Result<Vec<Exported>, Invalid> {
    let mut decoder = Decoder::new();
    let mut pieces = Vec::new();
    for line in text.lines() {
        if let Some(Complete { job, input, history, lines, .. }) = decoder.line(line.as_bytes())? {
            pieces.push(Exported::Job(job, input, history));
            pieces.extend(lines.into_iter().map(|lines| Exported::Lines(lines.to_vec())));
        }
    }
    decoder.finish().unwrap();
    Ok(pieces)
}

fn jobs(pieces: &[Exported]) -> Vec<(Arc<Job>, Option<Json>, History)> {
    let job = |piece: &Exported| match piece {
        Exported::Job(job, input, history) => Some((job.clone(), input.clone(), history.clone())),
        Exported::Lines(_) | Exported::End => None,
    };
    pieces.iter().filter_map(job).collect()
}

#[test]
fn jobs_come_back_as_they_were_and_their_text_is_the_same() {
    let text = encode(&store());
    let back = decode(&text).unwrap();
    assert_eq!(jobs(&back), jobs(&store()));
    assert_eq!(encode(&back), text);
    for part in ["\"attempts\":[{\"attempt\":1,", "\"expected_seconds\":40", "\"event\":\"retried\"", "\"dropped\":1"] {
        assert!(text.contains(part), "one of them has {part}");
    }
    assert!(jobs(&back).iter().any(|(job, ..)| job.log.dropped > 0 && job.log.marks.len() > 1));
}

#[test]
fn an_export_that_was_cut_anywhere_is_refused() {
    let text = encode(&store());
    let whole: Vec<_> = text.lines().collect();
    for kept in 0..whole.len() {
        let mut decoder = Decoder::new();
        for line in &whole[..kept] {
            decoder.line(line.as_bytes()).unwrap();
        }
        assert_eq!(decoder.finish().unwrap_err().0, kept as u64);
    }
    for missing in 0..whole.len() - 1 {
        let mut lines = whole.clone();
        lines.remove(missing);
        assert!(decode(&lines.join("\n")).is_err(), "without line {}", missing + 1);
    }
}

#[test]
fn what_does_not_fit_is_named_with_its_line() {
    let text = encode(&store());
    for (from, to, complaint) in [
        ("{\"milepost_export\":1", "{\"milepost_export\":2", "line 1: the export has format 2"),
        ("{\"milepost_export\":1", "{\"lines\":[]}\n{\"a\":1", "line 1: this is not an export of Milepost"),
        ("\"id\":\"queued\"", "\"id\":\"../etc\"", "line 2: id must be 1 to 128 characters"),
        ("\"status\":\"queued\"", "\"status\":\"failed\"", "line 2: status must be one that fits"),
        ("\"version\":", "\"version\":9999", "line 2: version must be 1 or more, no more than revision"),
        ("\"revision\":", "\"revision\":9007199254740993", "line 2: version must be 1 or more, no more than revision"),
        ("\"max_attempts\":2", "\"max_attempts\":0", "line 2: max_attempts must be 1 or more"),
        ("\"updated_at\":\"2026", "\"updated_at\":\"9999", "line 2: updated_at must be a moment before"),
        ("\"updated_at\":\"2026", "\"updated_at\":\"2025", "line 2: timeline must be in order, up to"),
        ("\"marks\":[]", "\"marks\":[[0,0]]", "line 2: log must be counters that fit together"),
        ("\"worker\":null", "\"worker\":\"\"", "line 2: worker must be 1 to 64 bytes"),
        ("\"fenced\":", "\"fences\":", "line 2: not a record of an export: unknown field `fences`"),
        ("[[1,", "[[2,", "line 3: line 1 of the log of job `queued` is missing: 2 comes instead"),
        ("first␊", "first\\n", "line 3: a log line must not contain line breaks"),
        ("{\"end\":{\"jobs\":7", "{\"end\":{\"jobs\":8", "the export should have 8 jobs"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = decode(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error:?} instead of {complaint:?}");
    }
    let error = decode(&format!("{text}{{}}")).unwrap_err().to_string();
    assert!(error.ends_with("nothing may follow the line {\"end\":...}"), "{error}");
}

#[test]
fn json_that_nobody_could_read_again_is_refused() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let text = encode(&store()).replacen("\"input\":null", &format!("\"input\":{deep}"), 1);
    assert_eq!(decode(&text).unwrap_err().to_string(), "line 2: input must be JSON that is not nested too deeply");
}

#[test]
fn json_is_kept_on_one_line_however_it_is_written() {
    let text = encode(&store()).replacen("\"input\":null", "\"input\":[1,\r\t{\"a\" :2.50}]", 1);
    let (_, input, _) = &jobs(&decode(&text).unwrap())[0];
    assert_eq!(input.as_ref().unwrap().as_str(), "[1,{\"a\":2.5}]");
}

async fn exported(engine: &Sqlite) -> String {
    let text = stream(engine.export().await.unwrap(), NOW);
    let text: Vec<_> = text.try_collect().await.unwrap();
    String::from_utf8(text.concat()).unwrap()
}

#[tokio::test]
async fn an_export_whose_reader_died_does_not_look_whole() {
    let (pieces, taken) = mpsc::channel(64);
    for piece in store().into_iter().take(3) {
        pieces.try_send(Ok(piece)).unwrap();
    }
    drop(pieces);
    let text: Vec<_> = stream(taken, NOW).collect().await;
    assert!(matches!(text.last(), Some(Err(EngineError::Unavailable(_)))));
    assert!(!text.into_iter().flatten().any(|text| text.windows(5).any(|bytes| bytes == b"\"end\"")));
}

fn engine(directory: &std::path::Path) -> Sqlite {
    let settings = Settings {
        read_connections: 1,
        writer_cache_bytes: 1 << 20,
        reader_cache_bytes: 1 << 20,
        checkpoint_pages: 1000,
        journal_bytes_max: 16 * 1024,
        kinds_max: 1,
        feed_retain_seconds: 600,
    };
    Sqlite::open(directory, settings, Clock::manual(NOW)).unwrap()
}

#[tokio::test]
async fn an_export_of_an_import_is_the_same_export() {
    let text = encode(&store());
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path());
    Importer::new(&engine).check(text.as_bytes(), NOW).await.unwrap();
    let imported = Importer::new(&engine).import(text.as_bytes()).await.unwrap();
    assert_eq!(imported.jobs, 7);
    assert_eq!(exported(&engine).await, text);

    let again = Importer::new(&engine).check(text.as_bytes(), NOW).await.unwrap_err();
    assert_eq!(again.to_string(), "the store has a job `queued` already; jobs imported before: 0");
    let again = Importer::new(&engine).import(text.as_bytes()).await.unwrap_err();
    assert!(matches!(again.refusal, Refusal::Exists(_)));
    engine.close().await.unwrap();
}

#[tokio::test]
async fn an_import_that_ends_early_says_how_much_it_brought_in() {
    let text = encode(&store());
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path());
    let cut = &text[..text.rfind("{\"end\"").unwrap()];
    let error = Importer::new(&engine).import(cut.as_bytes()).await.unwrap_err();
    // The last job may have lost lines: only those that another one follows are known to be whole.
    assert!(error.to_string().ends_with("is missing; jobs imported before: 6"), "{error}");

    let other = text.replace("\"kind\":\"restyle\"", "\"kind\":\"shortform\"").replace("\"id\":\"", "\"id\":\"b-");
    let error = Importer::new(&engine).import(other.as_bytes()).await.unwrap_err();
    assert!(error.to_string().contains("as many kinds as jobs.kinds_max allows, and `shortform`"), "{error}");
    engine.close().await.unwrap();
}
