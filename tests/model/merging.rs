//! Members that are merged: JSON merge patches (RFC 7396) and labels.

use milepost::job::{Job, LabelKey, LabelValue};
use serde_json::{Value, json};

use super::{
    wire::{ask, document, processing, put, wide},
    words::{Ask, Body, Refusal},
};

fn patched(job: &Job, body: Body) -> Result<Job, Refusal> {
    put(job, &ask(Ask::Patch(body)), &wide()).map(|applied| applied.next).map_err(|why| Refusal::from(&why))
}

fn with_result(value: Value) -> Job {
    patched(&processing(&wide()), Body { result: Some(value), ..Body::default() }).unwrap()
}

#[test]
fn a_result_is_merged_as_rfc_7396_appendix_a_shows() {
    let examples = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), json!(null), json!(null)),
        (json!({"a": "foo"}), json!("bar"), json!("bar")),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (original, patch, expected) in examples {
        let job = with_result(original.clone());
        let merged = patched(&job, Body { merge: true, result: Some(patch.clone()), ..Body::default() }).unwrap();
        assert_eq!(document(&merged)["result"], expected, "{original} with {patch}");
        let again = patched(&merged, Body { merge: true, result: Some(patch.clone()), ..Body::default() }).unwrap();
        assert_eq!(again, merged, "{patch} once more");
    }
}

#[test]
fn a_merge_keeps_the_order_of_members() {
    let job = with_result(json!({"z": 1, "y": 2, "x": 3}));
    let patch = json!({"w": 4, "z": 5, "y": null});
    let merged = patched(&job, Body { merge: true, result: Some(patch), ..Body::default() }).unwrap();
    assert_eq!(merged.result.unwrap().as_str(), r#"{"z":5,"x":3,"w":4}"#);
}

#[test]
fn a_merge_into_nothing_starts_from_an_empty_object() {
    let job = processing(&wide());
    let patch = json!({"parts": {"a": 1, "b": null}});
    let merged = patched(&job, Body { merge: true, result: Some(patch), ..Body::default() }).unwrap();
    assert_eq!(document(&merged)["result"], json!({"parts": {"a": 1}}));
    let emptied = patched(&merged, Body { merge: true, result: Some(Value::Null), ..Body::default() }).unwrap();
    assert_eq!(emptied.result, None);
}

#[test]
fn an_error_stays_an_object() {
    let job = processing(&wide());
    let error = |merge, value| patched(&job, Body { merge, error: Some(value), ..Body::default() });
    let expected = json!({"reason": "ffmpeg_exit"});
    for merge in [true, false] {
        assert_eq!(document(&error(merge, expected.clone()).unwrap())["error"], expected);
        assert_eq!(document(&error(merge, Value::Null).unwrap())["error"], Value::Null);
    }
    for unfit in [json!("ffmpeg"), json!([1]), json!(1)] {
        assert_eq!(error(true, unfit), Err(Refusal::Invalid("error")));
    }
}

#[test]
fn a_merged_result_keeps_to_the_limit_of_a_whole_one() {
    let half = "x".repeat(600);
    let job = with_result(json!({"a": half}));
    let body = Body { merge: true, result: Some(json!({"b": half})), ..Body::default() };
    assert_eq!(patched(&job, body.clone()), Err(Refusal::Invalid("result")));
    let refusal = put(&job, &ask(Ask::Patch(body)), &wide()).unwrap_err();
    assert_eq!(refusal.to_string(), "`result` must be at most 1024 bytes of JSON.");
}

#[test]
fn labels_are_merged() {
    let named = |labels: &[(&str, Option<&str>)]| {
        labels.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect::<Vec<_>>()
    };
    let label = |job: &Job, clear_labels, labels: &[_]| {
        patched(job, Body { clear_labels, labels: named(labels), ..Body::default() })
    };
    let first = label(&processing(&wide()), false, &[("user", Some("42")), ("team", Some("red"))]).unwrap();
    let examples: [(bool, &[_], _); 5] = [
        (false, &[("team", Some("blue"))], json!({"user": "42", "team": "blue"})),
        (false, &[("team", None), ("plan", Some(""))], json!({"user": "42", "plan": ""})),
        (false, &[("plan", None)], json!({"user": "42", "team": "red"})),
        (true, &[], json!({})),
        (true, &[("plan", Some("free")), ("user", None)], json!({"plan": "free"})),
    ];
    for (clear, set, expected) in examples {
        assert_eq!(document(&label(&first, clear, set).unwrap())["labels"], expected);
    }

    let key = |text: &str| LabelKey::try_from(text).unwrap();
    let value = |text: &str| LabelValue::try_from(text).unwrap();
    assert!(first.labels.has(&key("user"), &value("42")));
    assert!(!first.labels.has(&key("user"), &value("red")), "the value of another label");
    assert_eq!(
        first.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(),
        [("team", "red"), ("user", "42")]
    );

    let many: Vec<_> = (0..15).map(|number| (format!("label-{number}"), Some("x".to_owned()))).collect();
    let crowd = |count: usize| patched(&first, Body { labels: many[..count].to_vec(), ..Body::default() });
    assert_eq!(crowd(14).unwrap().labels.iter().count(), 16);
    assert_eq!(crowd(15), Err(Refusal::Invalid("labels")));
}
