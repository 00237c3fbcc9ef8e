//! The rules of single values, at their edges.

use std::fmt::Debug;

use milepost::job::{
    Document, JobId, Json, Kind, LabelKey, LabelValue, Outcome, Progress, Seconds, Stage, Status, Timestamp, Writer,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    steps::{config, value},
    wire::{self, ask, leased, processing, put, said},
    words::{Ask, Request},
};

/// Takes these texts as they are, and refuses those.
fn takes<T>(good: &[&str], bad: &[&str], text: fn(&T) -> &str)
where
    T: Debug + for<'a> TryFrom<&'a str>,
{
    for &word in good {
        let value = T::try_from(word).unwrap_or_else(|_| panic!("{word:?} was refused"));
        assert_eq!(text(&value), word);
    }
    for &word in bad {
        if let Ok(value) = T::try_from(word) {
            panic!("{word:?} became {value:?}");
        }
    }
}

#[test]
fn statuses_and_the_words_workers_use_for_them() {
    let words = [
        (Status::Queued, "queued pending"),
        (Status::Processing, "processing running started"),
        (Status::Completed, "completed done complete succeeded"),
        (Status::Failed, "failed error"),
        (Status::Cancelled, "cancelled canceled"),
    ];
    assert_eq!(words.map(|(status, _)| status), Status::ALL);
    for (status, words) in words {
        for word in words.split(' ') {
            assert_eq!(Status::try_from(word), Ok(status), "{word}");
        }
        let own = words.split(' ').next().unwrap();
        assert_eq!(status.to_string(), own);
        assert_eq!(json!(status), json!(own));
    }
    for word in ["", "Queued", " queued", "lost", "expired", "success", "cancel"] {
        let rule = Status::try_from(word).unwrap_err().to_string();
        assert_eq!(rule, "must be one of queued, processing, completed, failed, cancelled", "{word}");
    }
}

#[test]
fn outcomes_and_the_statuses_they_show_as() {
    let outcomes = [
        (Outcome::Succeeded, "succeeded", Status::Completed),
        (Outcome::Failed, "failed", Status::Failed),
        (Outcome::Cancelled, "cancelled", Status::Cancelled),
        (Outcome::TimedOut, "timed_out", Status::Failed),
        (Outcome::Lost, "lost", Status::Failed),
        (Outcome::Expired, "expired", Status::Failed),
    ];
    for (outcome, word, status) in outcomes {
        assert_eq!((json!(outcome), outcome.status()), (json!(word), status));
    }
}

#[test]
fn job_ids() {
    let longest = "x".repeat(128);
    let good = [
        "a",
        "Z",
        "0",
        "-",
        "_",
        "~",
        "a.b",
        "a.",
        "Claim",
        "claims",
        "0199e0c1-7c1e-7a52-9d0e-4f0a4cf0a3b1",
        &longest,
    ];
    let too_long = "x".repeat(129);
    let bad = ["", ".", "..", ".a", "claim", "a b", "a/b", "a%20", "a:b", "é", "a\n", "a\0", &too_long];
    takes(&good, &bad, JobId::as_str);
}

#[test]
fn kinds_and_label_keys() {
    let longest = "k".repeat(64);
    let good = ["a", "0", ".", "_", "-", "restyle", "a.b_c-9", &longest];
    let too_long = "k".repeat(65);
    let bad = ["", "A", "aB", "a b", "a~", "a/b", "ä", "a\n", &too_long];
    takes(&good, &bad, Kind::as_str);
    takes(&good, &bad, LabelKey::as_str);
}

#[test]
fn stages_label_values_and_writers() {
    let controls = ["\n", "a\rb", "\t", "\0", "\u{1b}[2J", "\u{7f}", "\u{85}", "\u{9b}"];
    let good = ["a", " ", "Matting subject", "überblenden", "😀", "\u{a0}", "\"\\"];
    let (bytes_256, bytes_257) = ("ü".repeat(128), "ü".repeat(128) + "x");
    let short = [&good[..], &["", &bytes_256]].concat();
    let not_short = [&controls[..], &[&bytes_257]].concat();
    takes(&short, &not_short, Stage::as_str);
    takes(&short, &not_short, LabelValue::as_str);
    let (bytes_64, bytes_65) = ("ü".repeat(32), "ü".repeat(32) + "x");
    takes(&[&good[..], &[&bytes_64]].concat(), &[&controls[..], &["", &bytes_65]].concat(), Writer::as_str);
}

#[test]
fn progress_is_kept_in_hundredths_and_written_as_an_integer_when_it_is_one() {
    let written = [
        (0.0, "0"),
        (-0.0, "0"),
        (30.0, "30"),
        (100.0, "100"),
        (12.345, "12.35"),
        (12.5, "12.5"),
        (0.1 + 0.2, "0.3"),
        (1.005, "1"),
        (0.004, "0"),
        (0.005, "0.01"),
        (99.99, "99.99"),
        (99.994, "99.99"),
        (99.996, "100"),
        (f64::MIN_POSITIVE, "0"),
    ];
    for (percent, text) in written {
        assert_eq!(json!(Progress::try_from(percent).unwrap()).to_string(), text, "{percent}");
    }
    for percent in [-0.001, 100.001, -1.0, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let rule = Progress::try_from(percent).unwrap_err().to_string();
        assert_eq!(rule, "must be a number from 0 to 100", "{percent}");
    }
    let almost = Progress::try_from(99.99).unwrap();
    assert_eq!((almost.whole_percent(), almost.hundredths()), (99, 9999));
    assert_eq!((Progress::default(), Progress::try_from(100.0).unwrap()), (Progress::ZERO, Progress::FULL));
}

#[test]
fn moments_are_written_in_utc_with_milliseconds() {
    let moments = [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_795_420_800_123, "2026-11-23T08:00:00.123Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ];
    for (at, text) in moments {
        assert_eq!(Timestamp(at).to_string(), text);
        assert_eq!(json!(Timestamp(at)), json!(text));
        assert_eq!(Timestamp::try_from(text), Ok(Timestamp(at)));
    }
    let read = [
        ("2026-11-23T08:00:00Z", 1_795_420_800_000),
        ("2026-11-23T08:00:00.1Z", 1_795_420_800_100),
        ("2026-11-23T08:00:00.123999Z", 1_795_420_800_123),
    ];
    for (text, at) in read {
        assert_eq!(Timestamp::try_from(text), Ok(Timestamp(at)), "{text}");
    }
    for text in [
        "",
        "now",
        "2026-11-23",
        "2026-11-23T08:00:00",
        "2026-11-23T08:00:00+01:00",
        "2026-02-30T00:00:00Z",
        "1969-12-31T23:59:59Z",
    ] {
        assert!(Timestamp::try_from(text).is_err(), "{text}");
    }
    assert_eq!(
        Timestamp(u64::MAX).to_string(),
        "9999-12-31T23:59:59.999Z",
        "what cannot be written is the last moment"
    );
    assert_eq!(Timestamp(1).after(Seconds(2)), Timestamp(2001));
    assert_eq!(Timestamp(u64::MAX).after(Seconds(1)), Timestamp(u64::MAX));
}

#[test]
fn a_document_has_the_members_it_is_asked_for() {
    let rules = leased();
    let lines = Ask::Append(said(&["one", "two"]), Default::default());
    let request = Request { attempt: Some(1), ..ask(lines) };
    let applied = put(&processing(&rules), &request, &rules).unwrap();
    let job = &applied.next;
    let parsed = |document: Document<'_>| serde_json::from_slice::<Value>(&document.encode()).unwrap();
    let plain = parsed(Document::new(job));
    for absent in ["logs", "logs_from", "input"] {
        assert_eq!(plain.get(absent), None, "{absent}");
    }
    let written = parsed(Document::new(job).with_logs(&applied.lines).without_result());
    assert_eq!((&written["logs"], &written["logs_from"]), (&json!(["one", "two"]), &json!(1)));
    assert_eq!(written.get("result"), None);
    let tail = parsed(Document::new(job).with_logs(&applied.lines[1..]));
    assert_eq!((&tail["logs"], &tail["logs_from"]), (&json!(["two"]), &json!(2)));
    let none = parsed(Document::new(job).with_logs(&[]).with_input(None));
    assert_eq!((&none["logs"], &none["logs_from"], &none["log_count"]), (&json!([]), &json!(3), &json!(2)));
    assert_eq!(none.get("input"), Some(&Value::Null));
    let input = wire::json(&json!({"clip": "a.mp4"}));
    assert_eq!(parsed(Document::new(job).with_input(Some(&input)))["input"], json!({"clip": "a.mp4"}));
}

#[test]
fn json_is_kept_compact_and_compared_by_its_meaning() {
    let text = |text: &str| Json::from_text(text.to_owned()).unwrap();
    assert_eq!(wire::json(&json!({"b": [1, 2.5], "a": "ä\n"})).as_str(), r#"{"b":[1,2.5],"a":"ä\n"}"#);
    assert_eq!(text(r#"{"a":1,"b":{"c":[],"d":null}}"#), text(r#"{ "b": {"d": null, "c": []}, "a": 1 }"#));
    for (one, other) in [("1", "2"), ("[1,2]", "[2,1]"), ("{}", "null"), (r#"{"a":null}"#, "{}"), (r#""1""#, "1")] {
        assert_ne!(text(one), text(other));
    }
    Json::from_text("{".to_owned()).expect_err("half a value");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn progress_is_never_off_by_more_than_half_a_hundredth(percent in 0.0..=100.0_f64) {
        let progress = Progress::try_from(percent).unwrap();
        let kept = f64::from(progress.hundredths()) / 100.0;
        prop_assert!((kept - percent).abs() <= 0.005 + 1e-9, "{} became {}", percent, kept);
        let text = json!(progress).to_string();
        prop_assert_eq!(text.parse::<f64>(), Ok(kept));
        prop_assert!(!text.ends_with(".0"), "an integer is written as {}", text);
    }

    #[test]
    fn a_moment_that_is_read_back_is_the_same(at in 0..=253_402_300_799_999_u64) {
        prop_assert_eq!(Timestamp::try_from(&*Timestamp(at).to_string()), Ok(Timestamp(at)));
    }

    #[test]
    fn a_value_survives_its_text(value in value()) {
        let json = wire::json(&value);
        prop_assert_eq!(json.to_value(), value);
        prop_assert_eq!(Json::from_text(json.as_str().to_owned()).unwrap(), json);
    }
}
