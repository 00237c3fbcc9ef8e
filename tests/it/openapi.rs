//! openapi.json says what the service does: each route both ways, and each answer against its schema.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, Server};

fn description() -> Value {
    serde_json::from_str(&milepost::http::openapi()).unwrap()
}

/// Every operation, as method and path.
fn operations(description: &Value) -> Vec<(String, String)> {
    let paths = description["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| -> Vec<_> {
        item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())).collect()
    };
    paths.iter().flat_map(of).collect()
}

fn concrete(path: &str) -> String {
    path.replace("{id}", "j").replace("{code}", "not-found")
}

each_engine!(every_operation_described_is_there_and_no_other, |server| async move {
    server.job("j", "k").await;
    let served = server.get("/openapi.json").await.is(200).json();
    let description = description();
    assert_eq!(served, description);
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let operations = operations(&description);
    let paths: BTreeSet<_> = operations.iter().map(|(_, path)| path.as_str()).collect();
    for path in paths {
        let mut expected: BTreeSet<_> =
            operations.iter().filter(|(_, of)| of == path).map(|(method, _)| method.as_str()).collect();
        if expected.contains("GET") {
            expected.insert("HEAD");
        }
        let answer = server.call("FROB", &concrete(path)).await.is(405);
        let allowed: BTreeSet<_> = answer.header("allow").unwrap().split(',').collect();
        assert_eq!(allowed, expected, "{path}");
    }
});

each_engine!(every_operation_has_a_name_a_summary_and_its_refusals, |server| async move {
    let description = description();
    let mut names = BTreeSet::new();
    for (method, path) in operations(&description) {
        let operation = &description["paths"][&path][method.to_lowercase()];
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
        assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{method} {path}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status == "101" || status.starts_with('2')), "{method} {path}");
        if operation.get("requestBody").is_some() {
            for status in ["400", "408", "413", "415", "422"] {
                let problem = &responses[status]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/Problem", "{method} {path} {status}");
            }
        }
        // Looked at before its body, since that of a stream may have no end.
        let answer = server.call(&method, &concrete(&path)).begin().await;
        assert!(responses.contains_key(answer.status().as_str()), "{method} {path}: {answer:?}");
    }
});

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(elements) => elements.iter().for_each(|element| references(element, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let description = description();
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(description.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
}

#[test]
fn what_is_left_out_is_not_null_and_numbers_end_where_they_do() {
    let description = description();
    for (method, path) in operations(&description) {
        let operation = &description["paths"][&path][method.to_lowercase()];
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["schema"]["type"].is_string(), "{method} {path} {parameter}");
            assert!(parameter["description"].is_string(), "{method} {path} {parameter}");
        }
        for (media, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            assert!(!content.to_string().starts_with("{\"schema\":{\"oneOf\":"), "{method} {path} {media}: {content}");
        }
    }
    let whole = description.to_string();
    for number in whole.split("\"format\":\"int32\"").skip(1) {
        let rest = number.split('}').next().unwrap();
        assert!(!rest.contains("\"minimum\":0") && !rest.contains("\"minimum\":1"), "{rest}");
    }
    assert!(description["components"]["schemas"].get("u64").is_none());
}

/// Whether an answer is one of those its operation says it has.
fn fits(description: &Value, method: &str, path: &str, answer: &Answer) {
    let told = |what: &str| format!("{method} {path} {what}: {answer:?}");
    let mut response = &description["paths"][path][method.to_lowercase()]["responses"][answer.status.to_string()];
    if let Some(reference) = response["$ref"].as_str() {
        response = description.pointer(&reference[1..]).unwrap();
    }
    assert!(response.is_object(), "{}", told("may not have this status"));
    for (name, _) in response["headers"].as_object().into_iter().flatten() {
        let optional = ["link", "location", "idempotency-replayed", "milepost-cancel"];
        // Its status does not tell whether little was preferred.
        let is_optional =
            optional.contains(&name.as_str()) || (path, name.as_str()) == ("/batch", "preference-applied");
        assert!(is_optional || answer.header(name).is_some(), "{}", told(name));
    }
    if answer.text.is_empty() {
        return assert!(response.get("content").is_none(), "{}", told("should have a body"));
    }
    let content = &response["content"][answer.header("content-type").unwrap()];
    assert!(content.is_object(), "{}", told("may not have this type"));
    let bodies = match answer.header("content-type").unwrap() {
        "application/json" | "application/problem+json" => vec![answer.json()],
        "application/x-ndjson" => answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        "text/event-stream" => answer.text.split("\n\n").filter_map(event).collect(),
        _ => vec![Value::String(answer.text.clone())],
    };
    for body in bodies {
        if let Err(why) = valid(description, &content["schema"], &body) {
            panic!("{}", told(&why));
        }
    }
}

/// An event of a stream, if it has data.
fn event(text: &str) -> Option<Value> {
    let fields: serde_json::Map<_, _> = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    fields.contains_key("data").then_some(Value::Object(fields))
}

each_engine!(answers_are_as_they_are_described, |server| async move {
    let description = description();
    let check = async |method: &str, path: &str, call: crate::harness::Call| {
        let answer = call.await;
        fits(&description, method, path, &answer);
        answer
    };
    let full =
        json!({"kind": "k", "input": [1], "labels": {"a": "b"}, "lease_seconds": 60, "log": "x", "retain_seconds": 5});
    check("POST", "/jobs", server.post("/jobs", full.clone()).header("idempotency-key", "a")).await.is(201);
    check("POST", "/jobs", server.post("/jobs", full.clone()).header("idempotency-key", "a")).await.is(201);
    check("POST", "/jobs", server.post("/jobs", json!({"kind": "z"})).header("idempotency-key", "a")).await.is(422);
    check("POST", "/jobs", server.post("/jobs", json!({})).header("idempotency-key", "a b")).await.is(400);
    check("POST", "/jobs", server.call("POST", "/jobs").body("text/plain", "x")).await.is(415);
    check("PUT", "/jobs/{id}", server.put("/jobs/j", full.clone())).await.is(201);
    check("PUT", "/jobs/{id}", server.put("/jobs/j", full)).await.is(200);
    check("PUT", "/jobs/{id}", server.put("/jobs/j", json!({"kind": "z"}))).await.is(409);
    check("PUT", "/jobs/{id}", server.put("/jobs/claim", json!({"kind": "z"}))).await.is(422);
    check("PATCH", "/jobs/{id}", server.patch("j", json!({"status": "running", "attempt": 1, "progress": 1.5})))
        .await
        .is(200);
    check("PATCH", "/jobs/{id}", server.patch("j", json!({"stage": "s"}))).await.is(409);
    check("PATCH", "/jobs/{id}", server.patch("j", json!({})).header("if-match", "\"v1\"")).await.is(412);
    check("PATCH", "/jobs/{id}", server.patch("j", json!({"labels": {}})).header("prefer", "return=minimal"))
        .await
        .is(204);
    check("POST", "/jobs/{id}/logs", server.post("/jobs/j/logs", json!({"line": "x", "attempt": 1}))).await.is(200);
    check(
        "POST",
        "/jobs/{id}/logs",
        server.post("/jobs/j/logs", json!({"line": "x", "attempt": 1, "writer": "w", "seq": 2})),
    )
    .await
    .is(409);
    check("POST", "/jobs/{id}/logs", server.post("/jobs/none/logs", json!({"line": "x"}))).await.is(404);
    check("GET", "/jobs/{id}/logs", server.get("/jobs/j/logs?limit=1")).await.is(200);
    check("GET", "/jobs/{id}/logs", server.get("/jobs/j/logs?limit=0")).await.is(422);
    check("GET", "/jobs/{id}/attempts", server.get("/jobs/j/attempts")).await.is(200);
    check("GET", "/jobs/{id}/attempts", server.get("/jobs/none/attempts")).await.is(404);
    let beat = |body: Value| server.post("/jobs/j/heartbeat", body);
    check("POST", "/jobs/{id}/heartbeat", beat(json!({"attempt": 1, "progress": 2}))).await.is(200);
    check("POST", "/jobs/{id}/heartbeat", beat(json!({"attempt": 1})).header("prefer", "return=minimal")).await.is(204);
    check("POST", "/jobs/{id}/heartbeat", beat(json!({"attempt": 2}))).await.is(409);
    check("POST", "/jobs/{id}/retry", server.call("POST", "/jobs/j/retry")).await.is(409);
    check("POST", "/jobs/{id}/cancel", server.call("POST", "/jobs/j/cancel")).await.is(202);
    let end =
        json!({"status": "failed", "attempt": 1, "result": {"a": [1, null]}, "error": {"reason": "r", "code": 7}});
    check("PATCH", "/jobs/{id}", server.patch("j", end)).await.is(200);
    for query in ["", "?input=1", "?logs=0", "?logs_after=1"] {
        check("GET", "/jobs/{id}", server.get(&format!("/jobs/j{query}"))).await.is(200);
    }
    check("GET", "/jobs/{id}", server.get("/jobs/j").header("if-none-match", "*")).await.is(304);
    check("GET", "/jobs/{id}", server.get("/jobs/j").header("if-none-match", "x")).await.is(400);
    check("GET", "/jobs/{id}", server.get("/jobs/j?logs=x")).await.is(422);
    check("GET", "/jobs/{id}/events", server.get("/jobs/j/events")).await.is(200);
    let version = server.read("j").await["version"].clone();
    check("GET", "/jobs/{id}/events", server.get(&format!("/jobs/j/events?since={version}.2"))).await.is(204);
    check("GET", "/jobs/{id}/events", server.get("/jobs/j/events?logs=x")).await.is(422);
    check("GET", "/jobs/{id}/events", server.get("/jobs/none/events")).await.is(404);
    check("GET", "/jobs/{id}/logs", server.get("/jobs/j/logs?follow=1")).await.is(200);
    let ndjson = server.get("/jobs/j/logs?follow=1").header("accept", "application/x-ndjson");
    check("GET", "/jobs/{id}/logs", ndjson).await.is(200);
    check("GET", "/jobs", server.get("/jobs?limit=1")).await.is(200);
    check("GET", "/jobs", server.get("/jobs?limit=x")).await.is(422);
    let operations = json!([
        {"op": "create", "kind": "k", "id": "b"}, {"op": "log", "id": "b", "line": "x"},
        {"op": "patch", "id": "none"}, {}
    ]);
    check("POST", "/batch", server.post("/batch", operations.clone())).await.is(200);
    check("POST", "/batch", server.post("/batch", operations.clone()).header("prefer", "return=minimal")).await.is(200);
    check("POST", "/batch", server.post("/batch", operations).header("accept", "application/x-ndjson")).await.is(200);
    check("POST", "/batch", server.post("/batch", json!({}))).await.is(422);
    for path in ["/api/restyle/{id}", "/api/status/{id}", "/api/saasshorts/status/{id}"] {
        check("GET", path, server.get(&path.replace("{id}", "j"))).await.is(200);
        check("GET", path, server.get(&path.replace("{id}", "none"))).await.is(404);
    }
    for path in ["/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs", "/", "/export"] {
        check("GET", path, server.get(path)).await.is(200);
    }
    check("GET", "/problems/{code}", server.get("/problems/not-found")).await.is(200);
    check("GET", "/problems/{code}", server.get("/problems/none")).await.is(404);
    check("DELETE", "/jobs/{id}", server.delete("/jobs/j").header("if-match", "\"v1\"")).await.is(412);
    check("DELETE", "/jobs/{id}", server.delete("/jobs/j")).await.is(204);
    check("DELETE", "/jobs/{id}", server.delete("/jobs/none")).await.is(404);
});

/// Bodies that the parser takes or refuses, which their schemas must do as well.
async fn parsed_as_described(server: &Server, path: &str, method: &str, bodies: &[Value]) {
    parsed_as_described_of(server, path, method, "application/json", bodies).await;
}

async fn parsed_as_described_of(server: &Server, path: &str, method: &str, media: &str, bodies: &[Value]) {
    let description = description();
    let described = if path == "/jobs" { path } else { &path.replace("/j", "/{id}").replace("/{id}obs", "/jobs") };
    let schema = &description["paths"][described][method.to_lowercase()]["requestBody"]["content"][media]["schema"];
    assert!(schema.is_object(), "{described}");
    for body in bodies {
        let taken = server.call(method, path).body(media, body.to_string()).await.status != 422;
        let valid = valid(&description, schema, body);
        assert_eq!(taken, valid.is_ok(), "{method} {path} {body}: {valid:?}");
    }
}

each_engine!(bodies_are_described_as_they_are_parsed, |server| async move {
    server.job("j", "k").await;
    let creations = [
        json!({"kind": "k"}),
        json!({}),
        json!({"kind": null}),
        json!({"kind": 1}),
        json!({"kind": "k", "x": 1}),
        json!({"kind": "k", "labels": {"a": null}}),
        json!({"kind": "k", "labels": {"a": 1}}),
        json!({"kind": "k", "labels": null}),
        json!({"kind": "k", "labels": []}),
        json!({"kind": "k", "priority": 1.5}),
        json!({"kind": "k", "priority": null, "stage": null, "status": null, "log": null, "input": null}),
        json!({"kind": "k", "status": "running"}),
        json!({"kind": "k", "status": "done"}),
        json!({"kind": "k", "lease_seconds": 0}),
        json!({"kind": "k", "lease_seconds": 86401}),
        json!({"kind": "k", "log": ["a"]}),
        json!({"kind": "k", "log": [1]}),
        json!({"kind": "k", "log": 1}),
        json!({"kind": "k", "max_attempts": 1001}),
        json!({"kind": "k", "message": "s"}),
        json!({"kind": "k", "result": 1}),
        json!({"kind": "k", "input": {"any": ["thing"]}}),
    ];
    parsed_as_described(server, "/jobs", "POST", &creations).await;
    let changes = [
        json!({}),
        json!({"status": "error"}),
        json!({"status": "open"}),
        json!({"status": null}),
        json!({"progress_pct": 1}),
        json!({"progress": 1}),
        json!({"progress": 1, "progress_pct": 1}),
        json!({"progress": null}),
        json!({"progress_pct": 101}),
        json!({"message": "m"}),
        json!({"step": null}),
        json!({"stage": "a", "step": "b"}),
        json!({"stage": 1}),
        json!({"result": null}),
        json!({"result": [1]}),
        json!({"error": "x"}),
        json!({"error": {}}),
        json!({"error": {"reason": 1}}),
        json!({"error": {"message": null, "n": 1}}),
        json!({"error": null}),
        json!({"labels": {"a": null}}),
        json!({"labels": null}),
        json!({"logs": []}),
        json!({"log": "x"}),
        json!({"log": ["x", "y"]}),
        json!({"log": null}),
        json!({"writer": "w"}),
        json!({"seq": 1}),
        json!({"writer": "w", "seq": 1, "log": "x"}),
        json!({"writer": "w", "seq": 0}),
        json!({"writer": null, "seq": 1}),
        json!({"writer": "w", "seq": null}),
        json!({"writer": null, "seq": null}),
        json!({"writer": null}),
        json!({"attempt": null}),
        json!({"attempt": 0}),
        json!({"version": 1}),
    ];
    parsed_as_described(server, "/jobs/j", "PATCH", &changes).await;
    let merges =
        [json!({"labels": null}), json!({"labels": {"a": null}}), json!({"labels": 1}), json!({"status": null})];
    parsed_as_described_of(server, "/jobs/j", "PATCH", "application/merge-patch+json", &merges).await;
    let appends = [
        json!({}),
        json!({"line": "x"}),
        json!({"lines": ["x"]}),
        json!({"line": "x", "lines": ["x"]}),
        json!({"line": 1}),
        json!({"line": "x", "lines": null}),
        json!({"line": null, "lines": ["x"]}),
        json!({"line": null, "lines": null}),
        json!({"lines": "x"}),
        json!({"lines": []}),
        json!({"line": "x", "pct": 5}),
        json!({"line": "x", "progress": 5}),
        json!({"line": "x", "pct": 5, "progress_pct": 5}),
        json!({"line": "x", "pct": null}),
        json!({"line": "x", "stage": null}),
        json!({"line": "x", "message": "m"}),
        json!({"line": "x", "level": "info"}),
        json!({"line": "x", "writer": "v"}),
    ];
    parsed_as_described(server, "/jobs/j/logs", "POST", &appends).await;
});

/// As much of JSON Schema as the description uses, but for patterns.
fn valid(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{why}: {value} against {schema}"));
    if let Some(reference) = schema["$ref"].as_str() {
        return valid(root, root.pointer(&reference[1..]).unwrap(), value);
    }
    let kind = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{name} is no type"),
    };
    let fits_type = match &schema["type"] {
        Value::String(name) => kind(name),
        Value::Array(names) => names.iter().any(|name| kind(name.as_str().unwrap())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
    };
    if !fits_type {
        return wrong("type");
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return wrong("enum");
    }
    let number = |word: &str| schema[word].as_f64();
    if let Some(found) = value.as_f64()
        && (number("minimum").is_some_and(|least| found < least) || number("maximum").is_some_and(|most| found > most))
    {
        return wrong("range");
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as f64;
        if number("minLength").is_some_and(|least| length < least)
            || number("maxLength").is_some_and(|most| length > most)
        {
            return wrong("length");
        }
    }
    if schema["contentSchema"].is_object() {
        let content = value.as_str().ok_or("no text")?;
        valid(root, &schema["contentSchema"], &serde_json::from_str(content).map_err(|error| error.to_string())?)?;
    }
    let all = |word: &str| schema[word].as_array().into_iter().flatten().map(|schema| valid(root, schema, value));
    all("allOf").collect::<Result<(), _>>()?;
    if schema["anyOf"].is_array() && !all("anyOf").any(|result| result.is_ok()) {
        return wrong("anyOf");
    }
    if schema["oneOf"].is_array() && all("oneOf").filter(Result::is_ok).count() != 1 {
        let why: Vec<_> = all("oneOf").filter_map(Result::err).collect();
        return wrong(&format!("oneOf ({})", why.join("; ")));
    }
    if schema["not"].is_object() && valid(root, &schema["not"], value).is_ok() {
        return wrong("not");
    }
    for element in value.as_array().into_iter().flatten() {
        valid(root, &schema["items"], element)?;
    }
    let Some(members) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap()) {
            return wrong(&format!("{name} is required"));
        }
    }
    for (name, others) in schema["dependentRequired"].as_object().into_iter().flatten() {
        let others = others.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        if members.contains_key(name) && !others.into_iter().all(|name| members.contains_key(name)) {
            return wrong("dependentRequired");
        }
    }
    for (name, member) in members {
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => valid(root, schema, member)?,
            (None, Value::Bool(false)) => return wrong(&format!("{name} is unknown")),
            (None, schema) => valid(root, schema, member)?,
        }
    }
    Ok(())
}
