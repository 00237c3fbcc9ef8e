//! Timelines as their readers see them, however the entries came and wherever an engine keeps them.

use serde_json::{Value, json};

use crate::harness::{On, Server, eventually};

/// Where a job stood with each entry that is kept, and how many are not.
async fn statuses(server: &Server, id: &str) -> (Vec<String>, u64) {
    let answer = server.get(&format!("/jobs/{id}/timeline")).await.is(200).json();
    let status = |entry: &Value| entry["status"].as_str().unwrap().to_owned();
    (answer["timeline"].as_array().unwrap().iter().map(status).collect(), answer["dropped"].as_u64().unwrap())
}

/// Looks whether the last ones of these are kept, as many as must be, and no more than there is reason for.
async fn tells_the_end_of(server: &Server, all: &[&str]) {
    const KEPT: usize = 256;
    let (kept, dropped) = statuses(server, "j").await;
    assert_eq!(kept.len() + usize::try_from(dropped).unwrap(), all.len());
    assert!(kept.len() >= all.len().min(KEPT) && kept.len() < 3 * KEPT, "{} of {}", kept.len(), all.len());
    assert_eq!(kept, all[all.len() - kept.len()..]);
}

each_engine!(a_timeline_ends_with_what_came_last_however_it_came, |server| async move {
    let flip = |number: usize| if number.is_multiple_of(2) { "processing" } else { "queued" };
    server.job("j", "k").await;
    let mut all = vec!["queued"];
    for number in 0..20 {
        server.patch("j", json!({"status": flip(number)})).await.is(200);
        all.push(flip(number));
        tells_the_end_of(server, &all).await;
    }
    // Many for one commit, more than a row of a timeline has.
    for many in [3, 150, 7, 400, 1] {
        let first = all.len() - 1;
        let flips: Vec<_> = (first..first + many).map(flip).collect();
        let operation = |status: &&str| json!({"op": "patch", "id": "j", "status": status});
        let answer = server.post("/batch", json!(flips.iter().map(operation).collect::<Vec<_>>())).await.is(200).json();
        assert!(answer["results"].as_array().unwrap().iter().all(|result| result["status"] == 200));
        all.extend(flips);
        tells_the_end_of(server, &all).await;
    }
    // Refused, and so nothing that happened.
    server
        .patch("j", json!({"status": "completed"}))
        .header("if-match", "\"v1\"")
        .await
        .refused(412, "version_mismatch");
    server.patch("j", json!({"status": "completed"})).await.is(200);
    all.push("completed");
    tells_the_end_of(server, &all).await;
    server.delete("/jobs/j").await.is(204);
    server.get("/jobs/j/timeline").await.refused(404, "job_not_found");
    if server.stands_on(On::Postgres) {
        let emptied = async || (server.value("SELECT count(*) FROM timeline_rows").await == "0").then_some(());
        eventually(emptied).await.expect("its rows are taken out");
    }
});
