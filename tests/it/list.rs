//! Lists: filters, order, pages.

use serde_json::{Value, json};

use crate::harness::Server;

async fn ids(server: &Server, query: &str) -> Vec<String> {
    let page = server.get(&format!("/jobs?{query}")).await.is(200).json();
    page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

/// a: queued clip of user 1; b: processing clip of user 2; c: completed restyle of user 1; d: failed restyle.
async fn four(server: &Server) {
    server.put("/jobs/a", json!({"kind": "clip", "labels": {"user": "1", "plan": "pro"}})).await.is(201);
    server.put("/jobs/b", json!({"kind": "clip", "labels": {"user": "2"}, "status": "processing"})).await.is(201);
    server.put("/jobs/c", json!({"kind": "restyle", "labels": {"user": "1"}})).await.is(201);
    server.put("/jobs/d", json!({"kind": "restyle"})).await.is(201);
    server.patch("c", json!({"status": "completed", "result": {"big": "thing"}, "log": "line"})).await.is(200);
    server.patch("d", json!({"status": "failed"})).await.is(200);
}

each_engine!(a_list_has_the_newest_first_and_no_bulk, |server| async move {
    four(server).await;
    let answer = server.get("/jobs").await.is(200);
    let page = answer.json();
    assert_eq!((&page["next"], answer.header("link")), (&Value::Null, None));
    let rows = page["jobs"].as_array().unwrap();
    let document = server.read("c").await;
    for (row, id) in rows.iter().zip(["d", "c", "b", "a"]) {
        assert_eq!(row["id"], id);
        for bulk in ["input", "result", "logs", "logs_from"] {
            assert!(row.get(bulk).is_none(), "{bulk}");
        }
    }
    let mut expected = document.as_object().unwrap().clone();
    expected.retain(|name, _| !["result", "logs", "logs_from"].contains(&name.as_str()));
    assert_eq!(rows[1], Value::Object(expected));
});

each_engine!(a_list_is_filtered_and_ordered, |server| async move {
    four(server).await;
    for (query, expected) in [
        ("order=oldest", "abcd"),
        ("order=asc", "abcd"),
        ("order=desc", "dcba"),
        ("order=newest", "dcba"),
        ("status=queued", "a"),
        ("status=queued,processing", "ba"),
        ("status=queued&status=done", "ca"),
        ("status=queued,pending&status=queued", "a"),
        ("status=cancelled", ""),
        ("kind=clip", "ba"),
        ("kind=clip,restyle", "dcba"),
        ("kind=clip,clip", "ba"),
        ("kind=none", ""),
        ("kind=clip&status=queued", "a"),
        ("label=user:1", "ca"),
        ("label=user%3A1&label=plan:pro", "a"),
        ("label=user:1&kind=restyle", "c"),
        ("label=user:", ""),
        ("q=b", "b"),
        ("q=pro", "a"),
        ("q=1", "ca"),
        ("q=", "dcba"),
        ("q=%25", ""),
        ("", "dcba"),
        ("&&", "dcba"),
    ] {
        assert_eq!(ids(server, query).await.concat(), expected, "{query}");
    }
});

each_engine!(pages_have_every_job_once, |server| async move {
    for number in 0..25 {
        server
            .put(&format!("/jobs/j{number:02}"), json!({"kind": if number % 2 == 0 { "even" } else { "odd" }}))
            .await
            .is(201);
    }
    for (filter, expected) in [("", 25), ("kind=even&", 13), ("kind=odd&order=oldest&", 12)] {
        let mut path = format!("/jobs?{filter}limit=4");
        let mut seen = Vec::new();
        loop {
            let answer = server.get(&path).await.is(200);
            let page = answer.json();
            seen.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()));
            let Some(link) = answer.header("link") else {
                break assert_eq!(page["next"], Value::Null);
            };
            path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
            let by_hand = format!("/jobs?{filter}limit=4&cursor={}", page["next"].as_str().unwrap());
            assert_eq!(path, by_hand);
        }
        assert_eq!(seen.len(), expected, "{filter}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), expected, "{filter}");
    }
});

each_engine!(
    a_page_looks_at_a_bounded_number_of_jobs,
    |config| {
        config.lists.scan_jobs_max = 5;
    },
    |server| async move {
        server.put("/jobs/wanted", json!({"kind": "k", "labels": {"a": "b"}})).await.is(201);
        for number in 0..20 {
            server.put(&format!("/jobs/x{number}"), json!({"kind": "k"})).await.is(201);
        }
        let mut path = "/jobs?q=wanted".to_owned();
        let mut pages = 0;
        let found = loop {
            let page = server.get(&path).await.is(200).json();
            pages += 1;
            if let Some(job) = page["jobs"].get(0) {
                break job["id"].clone();
            }
            path = format!("/jobs?q=wanted&cursor={}", page["next"].as_str().unwrap());
        };
        assert_eq!(found, "wanted");
        assert!(pages <= 6, "{pages}");
    }
);

each_engine!(a_cursor_is_good_for_its_own_list_only, |server| async move {
    four(server).await;
    let page = server.get("/jobs?kind=clip&limit=1").await.is(200).json();
    let cursor = page["next"].as_str().unwrap();
    assert_eq!(ids(server, &format!("kind=clip&limit=1&cursor={cursor}")).await, ["a"]);
    assert_eq!(ids(server, &format!("kind=clip&limit=5&cursor={cursor}")).await, ["a"]);
    let (first, rest) = cursor.split_at(9);
    let tampered = format!("{first}{}{}", if rest.starts_with('0') { '1' } else { '0' }, &rest[1..]);
    for query in [
        format!("limit=1&cursor={cursor}"),
        format!("kind=restyle&cursor={cursor}"),
        format!("kind=clip&order=oldest&cursor={cursor}"),
        format!("kind=clip&cursor={tampered}"),
        "cursor=".into(),
        "cursor=x".into(),
        format!("cursor={}", "0".repeat(28)),
        format!("kind=clip&cursor={}", cursor.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
        format!("cursor={}", "ä".repeat(14)),
    ] {
        server.get(&format!("/jobs?{query}")).await.names("cursor");
    }
});

each_engine!(parameters_of_a_list_keep_to_their_bounds, |server| async move {
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=1e9", "limit"),
        ("limit=-1", "limit"),
        ("limit=1&limit=1", "limit"),
        ("status=open", "status"),
        ("status=", "status"),
        ("status=queued,", "status"),
        ("kind=A", "kind"),
        ("kind=", "kind"),
        ("label=user", "label"),
        ("label=User:1", "label"),
        ("label=user:%00", "label"),
        ("order=random", "order"),
        ("order=", "order"),
        ("q=%0a", "q"),
        ("sort=created", "sort"),
        ("Status=queued", "Status"),
        ("%00=1", "\0"),
        ("page=2", "page"),
    ] {
        server.get(&format!("/jobs?{query}")).await.names(field);
    }
    let long = "x".repeat(257);
    server.get(&format!("/jobs?q={long}")).await.names("q");
});
