//! Requests as they go over the wire, and what answers mean.

use serde_json::{Map, Value, json};

use super::{
    history::{Answer, Facts, Lines, OpId, Patch, Request, Seen, Status, What},
    words::{Line, Mark, origin, result, stage},
};

/// A request of HTTP.
pub(super) struct Exchange {
    pub(super) method: reqwest::Method,
    pub(super) path: String,
    pub(super) header: Option<(&'static str, String)>,
    pub(super) body: Option<Body>,
}

pub(super) enum Body {
    Json(Value),
    /// One line for each line.
    Text(String),
}

/// An answer of HTTP; the body is null where there is none.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) replayed: bool,
    pub(super) body: Value,
}

/// A request as its own HTTP request.
pub(super) fn exchange(op: OpId, request: &Request) -> Exchange {
    let job = request.job.as_deref().unwrap_or_default();
    let path = format!("/jobs/{job}");
    let json = Some(Body::Json(Value::Object(members(op, request))));
    let (method, path, header, body) = match request.what {
        What::Create { .. } => {
            (reqwest::Method::POST, "/jobs".into(), Some(("Idempotency-Key", format!("key-{op}"))), json)
        }
        What::Ensure { .. } => (reqwest::Method::PUT, path, None, json),
        What::Patch(patch) => {
            let guard = patch.expect.map(|version| ("If-Match", format!("\"v{version}\"")));
            (reqwest::Method::PATCH, path, guard, json)
        }
        What::Append(lines) if op.is_multiple_of(4) => {
            let origin = match lines {
                Lines::Counted { writer, first, .. } => format!("?writer=w{writer}&seq={first}"),
                Lines::Free(_) | Lines::None => String::new(),
            };
            let text = lines.of(op).iter().map(|line| format!("{line}\n")).collect();
            (reqwest::Method::POST, format!("{path}/logs{origin}"), None, Some(Body::Text(text)))
        }
        What::Append(_) => (reqwest::Method::POST, format!("{path}/logs"), None, json),
        What::Delete => (reqwest::Method::DELETE, path, None, None),
    };
    Exchange { method, path, header, body }
}

/// A request as one of a batch, which cannot have all of them.
pub(super) fn operation(op: OpId, request: &Request) -> Option<Value> {
    let word = match request.what {
        What::Ensure { .. } => "create",
        What::Patch(Patch { expect: None, .. }) => "patch",
        What::Append(_) => "log",
        What::Create { .. } | What::Patch(_) | What::Delete => return None,
    };
    let mut members = members(op, request);
    members.insert("op".into(), word.into());
    members.insert("id".into(), (*request.job.as_ref()?).as_ref().into());
    Some(Value::Object(members))
}

/// The members of the body.
fn members(op: OpId, request: &Request) -> Map<String, Value> {
    let what = request.what;
    let mut members = Map::new();
    let mut set = |name: &str, value: Value| members.insert(name.into(), value);
    match what {
        What::Create { .. } | What::Ensure { .. } => {
            // Whoever makes sure of a job must want it to be of the same kind.
            let choice = request.job.as_ref().map_or(op as usize, |job| job.len());
            set("kind", ["render", "restyle"][choice % 2].into());
            set("labels", json!({"origin": origin(op)}));
            if op.is_multiple_of(2) {
                set("input", result(op));
            }
        }
        What::Patch(patch) => {
            set("stage", stage(op).into());
            if let Some(status) = patch.status {
                set("status", status.word().into());
            }
            if let Some(progress) = patch.progress {
                set("progress_pct", (f64::from(progress) / 100.0).into());
            }
            if patch.result {
                set("result", result(op));
            }
        }
        What::Append(_) | What::Delete => {}
    }
    let lines: Vec<Value> = what.lines().of(op).iter().map(|line| line.to_string().into()).collect();
    match lines.as_slice() {
        [] => {}
        [line] if matches!(what, What::Append(_)) => drop(set("line", line.clone())),
        [line] if op.is_multiple_of(2) => drop(set("log", line.clone())),
        _ if matches!(what, What::Append(_)) => drop(set("lines", lines.into())),
        _ => drop(set("log", lines.into())),
    }
    if let Lines::Counted { writer, first, .. } = what.lines() {
        set("writer", format!("w{writer}").into());
        set("seq", first.into());
    }
    members
}

/// What an answer means for the request it is to.
pub(super) fn answer(request: &Request, reply: &Reply) -> Answer {
    let strange = || Answer::Strange(format!("{} {}", reply.status, reply.body).into());
    let code = reply.body["code"].as_str().unwrap_or_default();
    match (reply.status, code) {
        (200..=299, _) => accepted(request.what, reply).unwrap_or_else(strange),
        (404, "job_not_found") | (409, "job_deleted") => Answer::Gone,
        (409, "already_finished") => Answer::Finished,
        (412, "version_mismatch") => reply.body["current_version"].as_u64().map_or_else(strange, Answer::Moved),
        (409, "log_gap") => reply.body["expected"].as_u64().map_or_else(strange, Answer::Gap),
        (409, "idempotency_in_progress") | (429, "too_many_requests") | (503, "contended" | "storage_unavailable") => {
            Answer::Busy
        }
        _ => strange(),
    }
}

/// Whether an answer says that nobody knows whether it was done.
pub(super) fn is_unknown(reply: &Reply) -> bool {
    let detail = reply.body["detail"].as_str().unwrap_or_default();
    (reply.status, &reply.body["code"]) == (503, &json!("storage_unavailable")) && detail.contains("is not known")
}

fn accepted(what: What, reply: &Reply) -> Option<Answer> {
    let seen = || seen(&reply.body).map(Box::new);
    match (what, reply.status) {
        (What::Create { .. }, 201) if !reply.replayed => Some(Answer::Made(seen()?)),
        (What::Create { .. }, 201) => Some(Answer::Stood(seen()?)),
        (What::Ensure { .. }, 201) => Some(Answer::Made(seen()?)),
        (What::Ensure { .. }, 200) => Some(Answer::Stood(seen()?)),
        (What::Patch(_), 200) => Some(Answer::Changed(seen()?)),
        (What::Append(_), 200) => {
            Some(Answer::Appended { seen: seen()?, duplicates: reply.body["duplicates"].as_u64()? })
        }
        (What::Delete, 204) => Some(Answer::Deleted),
        _ => None,
    }
}

/// The answer to one operation of a batch.
pub(super) fn of_batch(item: &Value) -> Reply {
    let status = item["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
    let body = item.get("job").or_else(|| item.get("problem")).cloned().unwrap_or(Value::Null);
    Reply { status, replayed: false, body }
}

/// A job as a document, a row of a list or the answer to an append shows it.
pub(super) fn seen(document: &Value) -> Option<Seen> {
    let word = document["status"].as_str()?;
    let status = Status::ALL.iter().find(|(known, _)| *known == word)?.1;
    let stage = document.get("stage").map(|stage| stage.as_str().map_or(Mark::Nothing, Mark::of_stage));
    let origin = document.get("labels").map(|labels| labels["origin"].as_str().map_or(Mark::Nothing, Mark::of_origin));
    let facts = Facts {
        status: Some(status),
        progress: document.get("progress_pct").and_then(Value::as_f64).map(|percent| (percent * 100.0).round() as u32),
        stage,
        result: document.get("result").map(Mark::of_result),
        origin,
        log_count: Some(document["log_count"].as_u64()?),
    };
    let texts = document.get("logs").and_then(Value::as_array);
    let lines = texts.map(|texts| texts.iter().map(|text| Line::of(text.as_str().unwrap_or("?"))).collect());
    let lines_from = if lines.is_some() { document["logs_from"].as_u64()? } else { 0 };
    Some(Seen {
        job: document["id"].as_str()?.into(),
        version: document["version"].as_u64()?,
        facts,
        lines_from,
        lines,
    })
}
