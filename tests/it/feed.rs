//! The feed of all jobs: what is told of which job to whom, where a client goes on that comes back, and chosen jobs.

mod views;

use serde_json::{Value, json};

use crate::{
    harness::{PATIENCE, Server, only},
    stream::{Event, Events, Said, are_sent_away},
};

async fn open(server: &Server, query: &str) -> Events {
    Events::open(server.get(&format!("/events{query}"))).await
}

/// A stream of a client that has this id.
async fn resumed(server: &Server, query: &str, id: &str) -> Events {
    Events::open(server.get(&format!("/events{query}")).header("last-event-id", id)).await
}

/// A stream that has begun, and its place.
async fn ready(server: &Server, query: &str) -> (Events, String) {
    let mut events = open(server, query).await;
    let ready = events.next().await.unwrap();
    assert_eq!((ready.name.as_str(), &ready.data), ("ready", &json!({"cursor": ready.id})));
    (events, ready.id)
}

/// The name of an event and the job it is about.
fn about(event: &Event) -> (&str, &str) {
    (&event.name, event.data["id"].as_str().unwrap_or_default())
}

fn outline(events: &[Event]) -> Vec<(&str, &str)> {
    events.iter().map(about).collect()
}

/// Everything up to `ready`, and that one's id.
async fn up_to_ready(events: &mut Events) -> (Vec<Event>, String) {
    let mut told = Vec::new();
    loop {
        let event = events.next().await.expect("a feed goes on");
        if event.name == "ready" {
            return (told, event.id);
        }
        told.push(event);
    }
}

fn number(id: &str) -> u64 {
    id.parse().unwrap()
}

each_engine!(changes_are_told_as_they_come, |server| async move {
    server.job("before", "k").await;
    let (mut events, begin) = ready(server, "").await;
    server.job("j", "k").await;
    let made = events.next().await.unwrap();
    assert_eq!(about(&made), ("job", "j"));
    assert_eq!(made.data, server.get("/jobs").await.json()["jobs"][0], "it is told as a list tells it");
    assert!(number(&made.id) > number(&begin));

    server.post("/jobs/j/logs", json!({"line": "a line is no news"})).await.is(200);
    server.patch("before", json!({"stage": "x", "log": "b", "result": {"large": 1}})).await.is(200);
    let changed = events.next().await.unwrap();
    assert_eq!(about(&changed), ("job", "before"));
    assert_eq!(
        only(&changed.data, &["stage", "log_count", "version"]),
        json!({"stage": "x", "log_count": 1, "version": 2})
    );
    for absent in ["result", "logs", "logs_from", "input"] {
        assert!(changed.data.get(absent).is_none(), "{absent}");
    }
    server.post("/jobs/before/logs", json!({"line": "a line", "pct": 50})).await.is(200);
    assert_eq!(events.next().await.unwrap().data["progress_pct"], 50);
    server.delete("/jobs/j").await.is(204);
    let gone = events.next().await.unwrap();
    assert_eq!((gone.name.as_str(), &gone.data), ("deleted", &json!({"id": "j"})));
    assert!(number(&gone.id) > number(&changed.id) && number(&changed.id) > number(&made.id));
});

each_engine!(
    many_changes_are_told_as_the_last,
    |config| {
        config.push.calm_milliseconds = 1000;
    },
    |server| async move {
        for id in ["a", "b"] {
            server.job(id, "k").await;
        }
        let (mut events, _) = ready(server, "").await;
        for percent in 1..=50 {
            server.patch("a", json!({"progress_pct": percent})).await.is(200);
            server.patch("b", json!({"progress_pct": percent})).await.is(200);
        }
        let mut told = 0;
        let mut last = [Value::Null, Value::Null];
        while last != [json!(50), json!(50)] {
            let event = events.next().await.unwrap();
            last[usize::from(event.data["id"] == "b")] = event.data["progress_pct"].clone();
            told += 1;
        }
        assert!(told < 20, "{told} frames tell of a hundred changes");
    }
);

each_engine!(whoever_comes_later_is_told_once, |server| async move {
    server.job("j", "k").await;
    let (mut first, begin) = ready(server, "").await;
    for percent in 1..=5 {
        server.patch("j", json!({"progress_pct": percent})).await.is(200);
        assert_eq!(first.next().await.unwrap().data["progress_pct"], percent);
    }
    // The first reader's pages are no longer for others.
    let (told, _) = up_to_ready(&mut resumed(server, "", &begin).await).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].data["progress_pct"], 5);
});

each_engine!(a_filter_tells_who_comes_and_who_leaves, |server| async move {
    let (mut busy, _) = ready(server, "?status=processing,failed&kind=restyle").await;
    let (mut mine, _) = ready(server, "?label=user:42&label=tier:free").await;
    server.job("other", "short").await;
    server.patch("other", json!({"status": "processing"})).await.is(200);
    let labels = json!({"user": "42", "tier": "free"});
    server.put("/jobs/j", json!({"kind": "restyle", "labels": labels})).await.is(201);
    assert_eq!(about(&mine.next().await.unwrap()), ("job", "j"));
    server.patch("j", json!({"status": "processing"})).await.is(200);
    assert_eq!(busy.next().await.unwrap().data["status"], "processing");
    assert_eq!(mine.next().await.unwrap().data["status"], "processing");
    server.patch("j", json!({"labels": {"user": "43"}})).await.is(200);
    assert_eq!(about(&busy.next().await.unwrap()), ("job", "j"));
    let left = mine.next().await.unwrap();
    assert_eq!((left.name.as_str(), left.data), ("left", json!({"id": "j"})));
    server.patch("j", json!({"status": "completed"})).await.is(200);
    assert_eq!(about(&busy.next().await.unwrap()), ("left", "j"));
    // It has left both: neither hears of it any more.
    server.delete("/jobs/j").await.is(204);
    server.delete("/jobs/other").await.is(204);
    server.put("/jobs/last", json!({"kind": "restyle", "status": "processing", "labels": labels})).await.is(201);
    assert_eq!(about(&busy.next().await.unwrap()), ("job", "last"));
    assert_eq!(about(&mine.next().await.unwrap()), ("job", "last"));
    server.delete("/jobs/last").await.is(204);
    assert_eq!(about(&busy.next().await.unwrap()), ("deleted", "last"));
    assert_eq!(about(&mine.next().await.unwrap()), ("deleted", "last"));
});

each_engine!(whoever_comes_back_learns_what_every_job_has_become, |server| async move {
    for id in ["a", "b", "c", "d"] {
        server.put(&format!("/jobs/{id}"), json!({"kind": "k", "status": "processing"})).await.is(201);
    }
    let (events, begin) = ready(server, "?status=processing").await;
    drop(events);
    for percent in 1..10 {
        server.patch("a", json!({"progress_pct": percent})).await.is(200);
    }
    server.patch("b", json!({"status": "completed"})).await.is(200);
    server.delete("/jobs/c").await.is(204);
    server.put("/jobs/e", json!({"kind": "k", "status": "processing"})).await.is(201);
    let server = server.restarted().await;
    let mut events = resumed(&server, "?status=processing", &begin).await;
    let (told, end) = up_to_ready(&mut events).await;
    assert_eq!(outline(&told), [("job", "a"), ("left", "b"), ("deleted", "c"), ("job", "e")]);
    assert_eq!(told[0].data["progress_pct"], 9);
    // Only the last of what is told together has another id than the client came with.
    let ids: Vec<_> = told.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, [&*begin, &*begin, &*begin, &*end]);
    // Who has everything is told just that; by the query as well, which is older than the header.
    let path = format!("?since={begin}");
    assert_eq!(up_to_ready(&mut resumed(&server, &path, &end).await).await, (vec![], end.clone()));
    assert_eq!(up_to_ready(&mut open(&server, &format!("?since={end}")).await).await.1, end);
    assert_eq!(up_to_ready(&mut open(&server, &path).await).await.0.len(), 4, "without a filter none has left");
    server.stop().await;
});

each_engine!(
    what_is_no_place_of_the_feed_begins_anew,
    |config| {
        // Otherwise a page that another reader has just got serves whoever comes back to where it began.
        config.push.feed_cache_bytes_max = 0;
    },
    |server| async move {
        let (_events, beginning) = ready(server, "").await;
        server.job("j", "k").await;
        assert_eq!(outline(&up_to_ready(&mut resumed(server, "", &beginning).await).await.0), [("job", "j")]);
        let (_events, early) = ready(server, "").await;
        for id in ["x", "-1", "1.0", "9999999999999999999999", "1", &(number(&early) + 8000).to_string()] {
            let mut events = resumed(server, "", id).await;
            let reset = events.next().await.unwrap();
            assert_eq!((reset.name.as_str(), &reset.data, &reset.id), ("reset", &json!({}), &early), "{id}");
            assert_eq!(up_to_ready(&mut events).await, (vec![], early.clone()), "{id}");
        }
        ready(server, "?since=").await;
        // Old entries are looked for along with new ones, or now and then.
        let change = async |stage: String| server.patch("j", json!({"stage": stage})).await.is(200);
        change("a".into()).await;
        server.pass(std::time::Duration::from_secs(601));
        for round in 0..100 {
            change(format!("b{round}")).await;
        }
        let forgotten = async {
            loop {
                let mut events = resumed(server, "", &early).await;
                if events.next().await.unwrap().name == "reset" {
                    return events;
                }
            }
        };
        let mut events = tokio::time::timeout(PATIENCE, forgotten).await.expect("old entries are forgotten");
        let (told, end) = up_to_ready(&mut events).await;
        assert!(told.is_empty() && number(&end) > number(&early));
        // Whoever read the list after that has missed nothing.
        change("c".into()).await;
        assert_eq!(events.next().await.unwrap().data["stage"], "c");
    }
);

each_engine!(
    whoever_breaks_off_within_many_loses_none,
    |config| {
        config.push.step_bytes = 1000;
        config.push.feed_jobs_max = 70;
    },
    |server| async move {
        let (mut events, begin) = ready(server, "").await;
        let create = |id: u32| json!({"op": "create", "id": format!("job-{id}"), "kind": "k"});
        server.post("/batch", (0..300).map(create).collect()).await.is(200);
        let mut known = std::collections::BTreeSet::new();
        let mut id = begin;
        let mut rounds = 0;
        while known.len() < 300 {
            rounds += 1;
            assert!(rounds < 100, "only {} jobs were told", known.len());
            for _ in 0..7 * rounds {
                let event = events.next().await.unwrap();
                id = event.id;
                if event.name == "ready" {
                    break;
                }
                assert_eq!(event.name, "job");
                known.insert(event.data["id"].to_string());
            }
            events = resumed(server, "", &id).await;
        }
        assert!(rounds > 1);
        assert_eq!(up_to_ready(&mut resumed(server, "", &id).await).await.0.len(), 0);
    }
);

each_engine!(
    whoever_is_told_nothing_is_told_where_it_stands,
    |config| {
        config.push.comment_seconds = 1;
    },
    |server| async move {
        server.job("j", "k").await;
        let (mut events, begin) = ready(server, "?status=failed").await;
        assert_eq!(events.said().await.unwrap(), Some(Said::Comment));
        server.patch("j", json!({"stage": "x"})).await.is(200);
        let said = events.said().await.unwrap();
        let Some(Said::Place(place)) = said else { panic!("{said:?}") };
        assert!(number(&place) > number(&begin));
        assert_eq!(events.said().await.unwrap(), Some(Said::Comment));
        let mut events = resumed(server, "", &place).await;
        assert_eq!(up_to_ready(&mut events).await, (vec![], place), "it is a place like any other");
    }
);

each_engine!(chosen_jobs_are_told_first_and_then_what_becomes_of_them, |server| async move {
    for id in ["a", "b", "other"] {
        server.put(&format!("/jobs/{id}"), json!({"kind": "k", "log": "line"})).await.is(201);
    }
    let mut events = open(server, "?id=b&id=none&id=a,b").await;
    let (told, begin) = up_to_ready(&mut events).await;
    assert_eq!(outline(&told), [("job", "b"), ("deleted", "none"), ("job", "a")]);
    let rows = server.get("/jobs").await.json();
    assert_eq!((&told[0].data, &told[2].data), (&rows["jobs"][1], &rows["jobs"][2]));
    server.patch("other", json!({"stage": "x"})).await.is(200);
    server.post("/jobs/a/logs", json!({"line": "no news"})).await.is(200);
    server.patch("b", json!({"progress_pct": 3})).await.is(200);
    let changed = events.next().await.unwrap();
    assert_eq!((about(&changed), &changed.data["progress_pct"]), (("job", "b"), &json!(3)));
    assert!(number(&changed.id) > number(&begin));
    server.job("none", "k").await;
    assert_eq!(about(&events.next().await.unwrap()), ("job", "none"));
    server.delete("/jobs/a").await.is(204);
    assert_eq!(about(&events.next().await.unwrap()), ("deleted", "a"));
    // Whatever it had: it is told how they stand.
    drop(events);
    let (told, _) = up_to_ready(&mut resumed(server, "?id=a&id=b", &changed.id).await).await;
    assert_eq!(outline(&told), [("deleted", "a"), ("job", "b")]);
    assert_eq!(told[1].data["progress_pct"], 3);
    server.until_open("feed", 0).await;
});

each_engine!(
    another_job_of_the_same_id_is_told_as_another,
    |config| {
        config.jobs.deleted_retain_seconds = 0;
    },
    |server| async move {
        server.patch("j", json!({"stage": "x"})).await.refused(404, "job_not_found");
        server.job("j", "first").await;
        let mut events = open(server, "?id=j").await;
        let (_, begin) = up_to_ready(&mut events).await;
        server.pass(std::time::Duration::from_secs(1));
        server.delete("/jobs/j").await.is(204);
        server.pass(std::time::Duration::from_secs(1));
        server.job("j", "second").await;
        let gone = events.next().await.unwrap();
        let again = events.next().await.unwrap();
        assert_eq!((about(&gone), &again.data["kind"]), (("deleted", "j"), &json!("second")));
        let (told, _) = up_to_ready(&mut resumed(server, "", &begin).await).await;
        assert_eq!(outline(&told), [("deleted", "j"), ("job", "j")]);
        assert_eq!(told[1].data["kind"], "second");
    }
);

each_engine!(
    many_chosen_jobs_come_in_pieces_and_whole,
    |config| {
        config.push.step_bytes = 1000;
    },
    |server| async move {
        let create = |id: u32| json!({"op": "create", "id": format!("job-{id}"), "kind": "k"});
        server.post("/batch", (0..100).map(create).collect()).await.is(200);
        let ids: Vec<String> = (0..100).map(|id| format!("job-{id}")).collect();
        let mut events = open(server, &format!("?id={}", ids.join(","))).await;
        let (told, _) = up_to_ready(&mut events).await;
        assert_eq!(told.iter().map(|event| event.data["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
        for id in &ids {
            server.patch(id, json!({"stage": "x"})).await.is(200);
        }
        let mut changed = std::collections::BTreeSet::new();
        while changed.len() < 100 {
            let event = events.next().await.unwrap();
            assert_eq!(event.data["stage"], "x");
            assert!(changed.insert(event.data["id"].to_string()), "told twice: {event:?}");
        }
    }
);

each_engine!(a_service_that_goes_down_sends_readers_of_the_feed_away, |server| async move {
    server.job("j", "k").await;
    let mut all = vec![ready(server, "").await.0, open(server, "?id=j").await];
    up_to_ready(&mut all[1]).await;
    are_sent_away(server, all).await;
});

each_engine!(unfit_requests_are_refused, |server| async move {
    server.get("/events?status=lost").await.names("status");
    server.get("/events?kind=A").await.names("kind");
    server.get("/events?label=user").await.names("label");
    server.get("/events?id=a/b").await.names("id");
    server.get("/events?id=").await.names("id");
    server.get("/events?id=a&status=failed").await.names("id");
    server.get("/events?since=1&since=2").await.names("since");
    server.get("/events?logs=3").await.names("logs");
    let ids: Vec<String> = (0..101).map(|id| format!("id={id}")).collect();
    let problem = server.get(&format!("/events?{}", ids.join("&"))).await.names("id");
    assert!(problem["detail"].as_str().unwrap().contains("at most 100"), "{problem}");
    drop(open(server, &format!("?{}", ids[1..].join("&"))).await);
    server.post("/events", json!({})).await.refused(405, "method_not_allowed");
});

each_engine!(readers_of_the_feed_are_counted, |server| async move {
    server.job("j", "k").await;
    let (_events, begin) = ready(server, "").await;
    let _resumed = up_to_ready(&mut resumed(server, "", &begin).await).await;
    let _chosen = up_to_ready(&mut open(server, "?id=j").await).await;
    server.until_open("feed", 1).await;
    let metrics = server.get("/metrics").await.is(200).text;
    for sample in [r#"push_frames_total{kind="feed"} 4"#, r#"push_resumed_total{kind="feed"} 1"#] {
        assert!(metrics.contains(&format!("milepost_{sample}\n")), "{sample}: {metrics}");
    }
});
