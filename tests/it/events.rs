//! Event streams of a job: what is told in which order, where a client goes on that comes back, and how it ends.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::{
    harness::{PATIENCE, Server},
    stream::{Event, Events, Said, are_sent_away, outline, texts},
};

async fn open(server: &Server, path: &str) -> Events {
    Events::open(server.get(path)).await
}

/// A stream of a client that has this id.
async fn resumed(server: &Server, id: &str) -> Events {
    Events::open(server.get("/jobs/j/events").header("last-event-id", id)).await
}

async fn log(server: &Server, lines: &[&str]) {
    server.post("/jobs/j/logs", json!({"lines": lines})).await.is(200);
}

each_engine!(lines_come_before_their_state_and_the_end_comes_last, |server| async move {
    server.job("j", "k").await;
    let mut events = open(server, "/jobs/j/events").await;
    let first = events.next().await.unwrap();
    assert_eq!(first.what(), ("job", "1.0"));
    let mut document = server.read("j").await;
    for absent in ["logs", "logs_from"] {
        document.as_object_mut().unwrap().shift_remove(absent);
    }
    assert_eq!(first.data, document);

    server.patch("j", json!({"status": "processing", "progress_pct": 30, "log": ["a", "b"]})).await.is(200);
    let change = events.take(3).await;
    assert_eq!(outline(&change), [("log", "1.1"), ("log", "1.2"), ("job", "2.2")]);
    assert_eq!(change[1].data, server.get("/jobs/j/logs").await.json()["lines"][1]);
    assert_eq!((&change[2].data["progress_pct"], &change[2].data["log_count"]), (&json!(30), &json!(2)));

    server.patch("j", json!({"status": "completed", "result": {"url": "/v"}, "log": "c"})).await.is(200);
    let end = events.rest().await;
    assert_eq!(outline(&end), [("log", "2.3"), ("job", "3.3"), ("end", "3.3")]);
    assert_eq!((&end[1].data["done"], &end[1].data["result"]), (&json!(true), &json!({"url": "/v"})));
    assert_eq!(end[2].data, json!({"attempt": 1, "reason": "done"}));
    server.until_open("events", 0).await;
});

each_engine!(a_result_is_sent_to_those_who_do_not_have_it, |server| async move {
    server.job("j", "k").await;
    let mut events = open(server, "/jobs/j/events").await;
    assert_eq!(events.next().await.unwrap().data["result"], Value::Null);
    let mut steps = Vec::new();
    for change in [json!({"stage": "a"}), json!({"result": [1]}), json!({"stage": "b"}), json!({"result": null})] {
        server.patch("j", change).await.is(200);
        steps.push(events.next().await.unwrap());
    }
    let results: Vec<_> = steps.iter().map(|event| event.data.get("result")).collect();
    assert_eq!(results, [None, Some(&json!([1])), None, Some(&Value::Null)]);
    for (id, has_changed) in [("1.0", true), ("3.0", true), ("4.0", true)] {
        let event = resumed(server, id).await.next().await.unwrap();
        assert_eq!(event.what(), ("job", "5.0"), "{id}");
        assert_eq!(event.data.get("result").is_some(), has_changed, "{id}");
    }
    server.patch("j", json!({"stage": "c"})).await.is(200);
    assert_eq!(resumed(server, "5.0").await.next().await.unwrap().data.get("result"), None);
});

each_engine!(a_client_that_rests_is_told_what_is_new_and_not_all_that_was, |server| async move {
    server.job("j", "k").await;
    let mut resting = server.connect_narrow().await;
    resting.write_all(b"GET /jobs/j/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    server.until_open("events", 1).await;
    // Many times what may wait for the client, in the service and in the kernel.
    let result = "x".repeat(40_000);
    for stage in (1..=200).map(|number| format!("<{number}>")) {
        server.patch("j", json!({"stage": stage, "result": format!("{stage}{result}")})).await.is(200);
    }
    let read = tokio::task::spawn_blocking(move || {
        resting.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut read, mut piece) = (Vec::new(), [0; 65_536]);
        while !String::from_utf8_lossy(&read[read.len().saturating_sub(100_000)..]).contains("\"stage\":\"<200>\"") {
            let length = resting.read(&mut piece).unwrap();
            assert_ne!(length, 0, "it was cut off");
            read.extend_from_slice(&piece[..length]);
        }
        read
    });
    let read = read.await.unwrap().len();
    assert!(read < 600_000, "{read} bytes before the latest");
});

each_engine!(whoever_comes_back_gets_each_line_once, |server| async move {
    server.job("j", "k").await;
    log(server, &["1", "2", "3"]).await;
    let mut events = open(server, "/jobs/j/events").await;
    assert_eq!(outline(&events.take(3).await), [("job", "2.0"), ("log", "2.1"), ("log", "2.2")]);
    drop(events);
    log(server, &["4"]).await;
    let mut events = resumed(server, "2.2").await;
    let missed = events.take(3).await;
    assert_eq!(outline(&missed), [("log", "2.3"), ("log", "2.4"), ("job", "3.4")]);
    assert_eq!(texts(&missed), ["3", "4"]);
    log(server, &["5"]).await;
    assert_eq!(outline(&events.take(2).await), [("log", "3.5"), ("job", "4.5")]);
    drop(events);

    // Between a line and its state: the line is not told again, the state is.
    let again = resumed(server, "3.5").await.take(1).await;
    assert_eq!(outline(&again), [("job", "4.5")]);
    let by_query = open(server, "/jobs/j/events?since=3.4").await.take(2).await;
    assert_eq!(outline(&by_query), [("log", "3.5"), ("job", "4.5")]);
    // A page that reconnects by itself has the address of its first time, and a header that is newer.
    let both = Events::open(server.get("/jobs/j/events?since=1.0").header("last-event-id", "3.5")).await.take(1).await;
    assert_eq!(outline(&both), [("job", "4.5")]);
    // Somebody who has everything hears of what comes next, and of nothing before.
    let mut events = resumed(server, "4.5").await;
    log(server, &["6"]).await;
    assert_eq!(outline(&events.take(2).await), [("log", "4.6"), ("job", "5.6")]);
});

each_engine!(a_cursor_outlives_the_service, |server| async move {
    server.job("j", "k").await;
    log(server, &["1", "2"]).await;
    let mut events = open(server, "/jobs/j/events").await;
    assert_eq!(outline(&events.take(2).await), [("job", "2.0"), ("log", "2.1")]);
    let server = server.restarted().await;
    let mut events = resumed(&server, "2.1").await;
    log(&server, &["3"]).await;
    assert_eq!(texts(&events.take(3).await), ["2", "3"]);
    server.stop().await;
});

each_engine!(what_is_no_cursor_of_the_job_begins_anew, |server| async move {
    server.job("j", "k").await;
    log(server, &["1", "2"]).await;
    for id in ["3.2", "2.3", "x", "1", "1.2.3", "-1.0", "18446744073709551616.0", "\u{fc}"] {
        let events = resumed(server, id).await.take(4).await;
        assert_eq!(outline(&events), [("reset", "0.0"), ("job", "2.0"), ("log", "2.1"), ("log", "2.2")], "{id}");
        assert_eq!(events[0].data, json!({}));
    }
    assert_eq!(open(server, "/jobs/j/events?since=").await.take(1).await[0].what(), ("job", "2.0"));
    assert_eq!(resumed(server, "").await.take(1).await[0].what(), ("job", "2.0"));
    // Whoever is cut off after the reset has nothing yet.
    let events = resumed(server, "0.0").await.take(3).await;
    assert_eq!(outline(&events), [("log", "0.1"), ("log", "0.2"), ("job", "2.2")]);
    assert!(events[2].data.get("result").is_some());
});

each_engine!(after_the_end_there_is_nothing_more, |server| async move {
    server.job("j", "k").await;
    server.patch("j", json!({"status": "failed", "log": ["1", "2"]})).await.is(200);
    let events = open(server, "/jobs/j/events").await.rest().await;
    assert_eq!(outline(&events), [("job", "2.0"), ("log", "2.1"), ("log", "2.2"), ("end", "2.2")]);
    let over = server.get("/jobs/j/events").header("last-event-id", "2.2").await.is(204);
    assert_eq!((over.text.as_str(), over.header("content-type")), ("", None));
    server.get("/jobs/j/events?since=2.2").await.is(204);
    assert_eq!(outline(&resumed(server, "2.1").await.rest().await), [("log", "2.2"), ("end", "2.2")]);
    assert_eq!(outline(&resumed(server, "1.2").await.rest().await), [("job", "2.2"), ("end", "2.2")]);
    // A late line is told to whoever comes back once more.
    log(server, &["late"]).await;
    let late = resumed(server, "2.2").await.rest().await;
    assert_eq!(outline(&late), [("log", "2.3"), ("job", "3.3"), ("end", "3.3")]);
    server.get("/jobs/j/events").header("last-event-id", "3.3").await.is(204);
});

each_engine!(a_given_back_job_goes_on, |server| async move {
    server.job("j", "k").await;
    server.patch("j", json!({"status": "processing", "log": "1", "result": 1})).await.is(200);
    let mut events = open(server, "/jobs/j/events").await;
    events.take(2).await;
    server.patch("j", json!({"status": "queued"})).await.is(200);
    let again = events.next().await.unwrap();
    assert_eq!((again.what(), &again.data["attempt"]), (("job", "3.1"), &json!(2)));
    assert_eq!(again.data["result"], Value::Null);
    server.patch("j", json!({"status": "completed", "log": "2"})).await.is(200);
    let end = events.rest().await;
    assert_eq!(end[0].data["attempt"], 2);
    assert_eq!(end[2].data, json!({"attempt": 2, "reason": "done"}));
});

each_engine!(as_many_lines_come_first_as_are_asked_for, |server| async move {
    server.job("j", "k").await;
    let many: Vec<String> = (1..=150).map(|number| number.to_string()).collect();
    server.post("/jobs/j/logs", json!({"lines": many})).await.is(200);
    server.patch("j", json!({"status": "completed"})).await.is(200);
    for (query, first) in
        [("", 51), ("?logs=100", 51), ("?logs=1", 150), ("?logs=0", 151), ("?logs=all", 1), ("?logs=999", 1)]
    {
        let events = open(server, &format!("/jobs/j/events{query}")).await.rest().await;
        let expected: Vec<String> = (first..=150).map(|number| number.to_string()).collect();
        assert_eq!(texts(&events), expected, "{query}");
        assert_eq!(events[0].what(), ("job", &*format!("3.{}", first - 1)));
        assert_eq!(events.last().unwrap().what(), ("end", "3.150"));
    }
});

each_engine!(
    a_long_log_comes_in_pieces_and_whole,
    |config| {
        config.push.step_bytes = 1000;
    },
    |server| async move {
        server.job("j", "k").await;
        let mut events = open(server, "/jobs/j/events?logs=all").await;
        events.next().await.unwrap();
        let mut expected = Vec::new();
        for round in 0..20 {
            let lines: Vec<String> = (0..50).map(|line| format!("{round} {line} {}", "x".repeat(line * 10))).collect();
            server.post("/jobs/j/logs", json!({"lines": lines})).await.is(200);
            expected.extend(lines);
        }
        server.patch("j", json!({"status": "completed"})).await.is(200);
        let events = events.rest().await;
        assert_eq!(texts(&events), expected);
        assert_eq!(events.last().unwrap().what(), ("end", "22.1000"));
        let again = open(server, "/jobs/j/events?logs=all").await.rest().await;
        assert_eq!(texts(&again), expected);
    }
);

each_engine!(
    lines_that_are_trimmed_are_told_as_dropped,
    |config| {
        config.logs.job_lines_max = 3;
    },
    |server| async move {
        server.job("j", "k").await;
        log(server, &["1"]).await;
        let mut events = open(server, "/jobs/j/events").await;
        assert_eq!(outline(&events.take(2).await), [("job", "2.0"), ("log", "2.1")]);
        log(server, &["2", "3", "4", "5", "6"]).await;
        let change = events.take(5).await;
        assert_eq!(
            outline(&change),
            [("dropped", "2.3"), ("log", "2.4"), ("log", "2.5"), ("log", "2.6"), ("job", "3.6")]
        );
        assert_eq!(change[0].data, json!({"from": 2, "to": 3}));
        let late = resumed(server, "2.1").await.take(2).await;
        assert_eq!(outline(&late), [("dropped", "2.3"), ("log", "2.4")]);
        let all = open(server, "/jobs/j/events?logs=all").await.take(3).await;
        assert_eq!(outline(&all), [("job", "3.0"), ("dropped", "3.3"), ("log", "3.4")]);
        assert_eq!(all[1].data, json!({"from": 1, "to": 3}));
    }
);

each_engine!(a_deleted_job_ends_its_streams, |server| async move {
    server.job("j", "k").await;
    log(server, &["1"]).await;
    let mut events = open(server, "/jobs/j/events").await;
    events.take(2).await;
    server.delete("/jobs/j").await.is(204);
    let end = events.rest().await;
    assert_eq!(outline(&end), [("end", "2.1")]);
    assert_eq!(end[0].data, json!({"attempt": 1, "reason": "deleted"}));
    server.get("/jobs/j/events").header("last-event-id", "2.1").await.refused(404, "job_not_found");
});

each_engine!(
    another_job_of_the_same_id_is_not_taken_for_the_first,
    |config| {
        config.jobs.deleted_retain_seconds = 0;
    },
    |server| async move {
        server.job("j", "k").await;
        let mut events = open(server, "/jobs/j/events").await;
        events.next().await.unwrap();
        // Both in one commit, more often than not, so that the stream may never see the job missing.
        server.pass(std::time::Duration::from_secs(1));
        let create = json!({"op": "create", "id": "j", "kind": "k", "log": ["x"]});
        let (deleted, created) = tokio::join!(server.delete("/jobs/j"), async {
            server.pass(std::time::Duration::from_secs(1));
            server.post("/batch", json!([create])).await
        });
        deleted.is(204);
        created.is(200);
        let end = events.rest().await;
        assert_eq!(end.last().unwrap().data["reason"], "deleted", "{end:?}");
        assert!(texts(&end).is_empty());
    }
);

each_engine!(
    a_silent_stream_says_that_it_is_there,
    |config| {
        config.push.comment_seconds = 1;
    },
    |server| async move {
        server.job("j", "k").await;
        let mut events = open(server, "/jobs/j/events").await;
        events.next().await.unwrap();
        for _ in 0..2 {
            assert_eq!(events.said().await.unwrap(), Some(Said::Comment));
        }
        server.patch("j", json!({"stage": "x"})).await.is(200);
        assert_eq!(events.next().await.unwrap().data["stage"], "x");
    }
);

each_engine!(a_service_that_goes_down_sends_its_readers_away, |server| async move {
    server.job("j", "k").await;
    let mut all = Vec::new();
    for _ in 0..20 {
        let mut events = open(server, "/jobs/j/events").await;
        events.next().await.unwrap();
        all.push(events);
    }
    are_sent_away(server, all).await;
});

each_engine!(no_text_of_a_worker_breaks_the_framing, |server| async move {
    let hostile = "a\rb\nc\r\nd\u{2028}e\u{2029}f\u{85}g\0h\u{feff}: id: 9.9\n\nevent: end\ndata: {}\n\n";
    server.put("/jobs/j", json!({"kind": "k"})).await.is(201);
    let change = json!({
        "status": "failed", "log": hostile, "result": {hostile: [hostile]},
        "error": {"reason": "x", "message": hostile}, "stage": "a\u{2028}b: c",
    });
    server.patch("j", change).await.is(200);
    let events = open(server, "/jobs/j/events").await.rest().await;
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["job", "log", "end"]);
    assert_eq!(events[0].data["result"], json!({hostile: [hostile]}));
    assert_eq!(events[0].data["error"]["message"], hostile);
    let line = events[1].data["line"].as_str().unwrap();
    assert_eq!(line, hostile.replace('\n', "␊").replace('\r', "␍"));
});

each_engine!(a_client_that_goes_away_is_forgotten, |server| async move {
    server.job("j", "k").await;
    let mut stream = server.connect();
    stream.write_all(b"GET /jobs/j/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    server.until_open("events", 1).await;
    drop(stream);
    server.until_open("events", 0).await;
});

each_engine!(unfit_requests_are_refused, |server| async move {
    server.get("/jobs/none/events").await.refused(404, "job_not_found");
    server.get("/jobs/none/events?since=1.0").await.refused(404, "job_not_found");
    server.job("j", "k").await;
    for (query, field) in
        [("logs=-1", "logs"), ("logs=", "logs"), ("since=1.0&since=2.0", "since"), ("wait=1", "wait"), ("x", "x")]
    {
        server.get(&format!("/jobs/j/events?{query}")).await.names(field);
    }
    server.call("POST", "/jobs/j/events").await.refused(405, "method_not_allowed");
    let head = server.call("HEAD", "/jobs/j/events").await.is(200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    server.until_open("events", 0).await;
});

each_engine!(streams_are_measured, |server| async move {
    server.job("j", "k").await;
    server.patch("j", json!({"status": "completed", "log": ["1", "2"]})).await.is(200);
    open(server, "/jobs/j/events").await.rest().await;
    resumed(server, "2.1").await.rest().await;
    server.get("/jobs/j/events?since=2.2").await.is(204);
    let metrics = server.get("/metrics").await.is(200).text;
    for sample in ["milepost_push_frames_total{kind=\"events\"} 6", "milepost_push_resumed_total{kind=\"events\"} 1"] {
        assert!(metrics.lines().any(|line| line == sample), "{sample}: {metrics}");
    }
    server.until_open("events", 0).await;
});

each_engine!(everybody_is_told_the_same, |server| async move {
    server.job("j", "k").await;
    let mut readers = Vec::new();
    for _ in 0..50 {
        let events = open(server, "/jobs/j/events").await;
        readers.push(tokio::spawn(events.rest()));
    }
    server.until_open("events", 50).await;
    for number in 1..=100 {
        server.patch("j", json!({"progress_pct": number, "log": number.to_string()})).await.is(200);
    }
    server.patch("j", json!({"status": "completed"})).await.is(200);
    let expected: Vec<String> = (1..=100).map(|number| number.to_string()).collect();
    for reader in readers {
        let events: Vec<Event> = reader.await.unwrap();
        assert_eq!(texts(&events), expected);
        let versions: Vec<_> =
            events.iter().filter(|event| event.name == "job").map(|event| event.data["version"].as_u64()).collect();
        assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
        assert_eq!(events.last().unwrap().what(), ("end", "102.100"));
    }
});
