//! How many jobs there are, how many come and go, how long they take, and what that says of those under way.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, only};

async fn stats(server: &Server) -> Value {
    let answer = server.get("/stats").await.is(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()
}

fn jobs(queued: u64, processing: u64, completed: u64, failed: u64, cancelled: u64) -> Value {
    json!({
        "queued": queued, "processing": processing, "completed": completed, "failed": failed, "cancelled": cancelled
    })
}

fn window(seconds: f64, created: u64, completed: u64, failed: u64, cancelled: u64) -> Value {
    json!({"seconds": seconds, "created": created, "completed": completed, "failed": failed, "cancelled": cancelled})
}

/// A job that is processed for so long.
async fn complete(server: &Server, id: &str, kind: &str, seconds: u64) {
    server.put(&format!("/jobs/{id}"), json!({"kind": kind, "status": "processing"})).await.is(201);
    server.pass(Duration::from_secs(seconds));
    server.patch(id, json!({"status": "completed"})).await.is(200);
}

each_engine!(stats_count_what_is_what_came_and_went_and_how_long_it_took, |server| async move {
    let nothing = json!({
        "as_of": "2026-11-23T08:00:00.000Z", "jobs": jobs(0, 0, 0, 0, 0), "kinds": [],
        "throughput": {"last_5_minutes": window(240.0, 0, 0, 0, 0), "last_hour": window(3540.0, 0, 0, 0, 0)}
    });
    assert_eq!(stats(server).await, nothing);
    complete(server, "a-1", "a", 10).await;
    complete(server, "a-2", "a", 20).await;
    complete(server, "a-3", "a", 12).await;
    server.put("/jobs/a-4", json!({"kind": "a"})).await.is(201);
    server.put("/jobs/a-5", json!({"kind": "a"})).await.is(201);
    server.pass(Duration::from_secs(8));
    server.patch("a-4", json!({"status": "processing"})).await.is(200);
    server.patch("a-4", json!({"status": "failed"})).await.is(200);
    // Many changes of a job in one commit, or in some.
    server
        .post(
            "/batch",
            json!([
                {"op": "create", "id": "b-1", "kind": "b", "status": "processing"},
                {"op": "patch", "id": "b-1", "status": "completed"},
                {"op": "create", "id": "b-2", "kind": "b"},
            ]),
        )
        .await
        .is(200);
    server.post("/jobs/b-2/cancel", json!({})).await.is(200);
    // So much of the first minute is over.
    server.pass(Duration::from_secs(10));
    let throughput = |windows: [[u64; 4]; 2]| {
        let [five, hour] =
            windows.map(|[created, completed, failed, cancelled]| (created, completed, failed, cancelled));
        json!({
            "last_5_minutes": window(240.0, five.0, five.1, five.2, five.3),
            "last_hour": window(3540.0, hour.0, hour.1, hour.2, hour.3)
        })
    };
    let (of_a, of_b) = ([5, 3, 1, 0], [2, 1, 0, 1]);
    let now = stats(server).await;
    assert_eq!((&now["as_of"], &now["jobs"]), (&json!("2026-11-23T08:01:00.000Z"), &jobs(1, 0, 4, 1, 1)));
    assert_eq!(now["throughput"], throughput([[7, 4, 1, 1]; 2]));
    let told = |of: &Value| only(of, &["kind", "jobs", "throughput"]);
    let expected = [
        json!({"kind": "a", "jobs": jobs(1, 0, 3, 1, 0), "throughput": throughput([of_a; 2])}),
        json!({"kind": "b", "jobs": jobs(0, 0, 1, 0, 1), "throughput": throughput([of_b; 2])}),
    ];
    let kinds = now["kinds"].as_array().unwrap();
    assert_eq!(kinds.iter().map(told).collect::<Vec<_>>(), expected);
    let is_near = |told: &Value, p50: f64, p95: f64, jobs: u64| {
        let near = |name, exact: f64| (told[name].as_f64().unwrap() - exact).abs() <= exact / 32.0;
        assert!(near("p50", p50) && near("p95", p95) && told["jobs"] == jobs, "{told}");
    };
    is_near(&kinds[0]["duration_seconds"], 12.0, 20.0, 3);
    is_near(&kinds[0]["wait_seconds"], 0.0, 8.0, 4);
    is_near(&kinds[1]["duration_seconds"], 0.0, 0.0, 1);

    let restarted = server.restarted().await;
    assert_eq!(stats(&restarted).await, now, "nothing of it is forgotten");
    restarted.delete("/jobs/a-1").await.is(204);
    restarted.pass(Duration::from_secs(300));
    let later = stats(&restarted).await;
    assert_eq!(later["jobs"], jobs(1, 0, 3, 1, 1));
    assert_eq!(later["throughput"], throughput([[0; 4], [7, 4, 1, 1]]), "what is gone has been there");
    restarted.pass(Duration::from_secs(3600));
    assert_eq!(stats(&restarted).await["throughput"], throughput([[0; 4]; 2]));
    assert_eq!(stats(&restarted).await["kinds"][0]["duration_seconds"], now["kinds"][0]["duration_seconds"]);
    restarted.get("/stats?kind=a").await.names("kind");
    restarted.stop().await;
});

each_engine!(what_takes_as_long_as_others_is_said_to, |server| async move {
    let eta = async |server: &Server, id: &str| server.read(id).await["eta_seconds"].clone();
    server.put("/jobs/first", json!({"kind": "k", "status": "processing"})).await.is(201);
    assert_eq!(eta(server, "first").await, json!(null), "nothing is known yet");
    for (id, seconds) in [("a", 16), ("b", 40), ("c", 60)] {
        complete(server, id, "k", seconds).await;
    }
    assert_eq!(eta(server, "first").await, json!(null), "it had begun before");
    // Forty, or what the histogram has for it.
    let usual = 39..=42;
    let body = json!({"kinds": ["k"], "worker": "w", "lease_seconds": 600});
    server.put("/jobs/j", json!({"kind": "k"})).await.is(201);
    assert_eq!(eta(server, "j").await, json!(null), "nobody is at it");
    let claimed = server.post("/jobs/claim", body).await.is(200).json();
    let expected = claimed["eta_seconds"].as_u64().unwrap();
    assert!(usual.contains(&expected), "{claimed}");
    let version = claimed["version"].as_u64().unwrap();
    server.pass(Duration::from_secs(10));
    let changed = server.patch("j", json!({"attempt": 1, "stage": "probe"})).await.is(200).json();
    assert_eq!((&changed["eta_seconds"], &changed["version"]), (&json!(expected - 10), &json!(version + 1)));
    let restarted = server.restarted().await;
    assert_eq!(eta(&restarted, "j").await, json!(expected - 10));
    // Others that end meanwhile change nothing for it; its own pace does.
    complete(&restarted, "d", "k", 1).await;
    complete(&restarted, "e", "k", 1).await;
    restarted.patch("j", json!({"attempt": 1, "log": "x"})).await.is(200);
    assert_eq!(eta(&restarted, "j").await, json!(expected - 12));
    restarted.patch("j", json!({"attempt": 1, "progress_pct": 50})).await.is(200);
    assert_eq!(eta(&restarted, "j").await, json!(12));
    restarted.patch("j", json!({"attempt": 1, "progress_pct": 0})).await.is(200);
    restarted.pass(Duration::from_secs(100));
    restarted.patch("j", json!({"attempt": 1, "stage": "late"})).await.is(200);
    assert_eq!(eta(&restarted, "j").await, json!(0), "as long as others and longer");
    restarted.patch("j", json!({"attempt": 1, "status": "queued"})).await.is(200);
    assert_eq!(eta(&restarted, "j").await, json!(null));
    restarted.patch("j", json!({"attempt": 2, "status": "processing"})).await.is(200);
    let again = eta(&restarted, "j").await.as_u64().unwrap();
    assert!((15..=17).contains(&again), "the median of five is another one: {again}");
    restarted.patch("j", json!({"attempt": 2, "status": "completed"})).await.is(200);
    assert_eq!(eta(&restarted, "j").await, json!(null));
    // One of another kind is another matter, and so is one that is begun as it is made.
    restarted.put("/jobs/other", json!({"kind": "other", "status": "processing"})).await.is(201);
    assert_eq!(eta(&restarted, "other").await, json!(null));
    let made = restarted.put("/jobs/last", json!({"kind": "k", "status": "processing"})).await.is(201).json();
    assert!(made["eta_seconds"].is_u64(), "{made}");
    restarted.stop().await;
});
