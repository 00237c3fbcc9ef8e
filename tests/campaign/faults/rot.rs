//! Bits that flip anywhere in a closed store: in values, keys, the structure of tables and what is free.

use std::{collections::BTreeMap, fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Api;
use crate::{
    campaign::{
        given,
        process::{self, Launch, Server},
    },
    random::Random,
};

const JOBS: u64 = 30;

/// What came of one flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// Nothing that anybody sees is other than it was.
    Nothing,
    /// The service does not start, and says why.
    NoStart,
    /// Some answers are refused, and the log says why.
    Refused,
    /// Some job is not found, not listed, or has lost its input, and only `milepost verify` says why.
    Missing,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_are_found_out_or_do_no_harm() {
    flip(25).await;
}

/// `make faults`: MILEPOST_ROT_FLIPS of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn rot_campaign() {
    flip(given("MILEPOST_ROT_FLIPS").unwrap_or(1000)).await;
}

async fn flip(flips: u32) {
    let directory = TempDir::new().unwrap();
    let store = directory.path().join("store");
    let server = Launch::serve(&store, &directory.path().join("log")).listening().await;
    let told = fill(&server).await;
    assert!(server.stop().await.success());
    let whole = fs::read(store.join("milepost.db")).unwrap();
    let seed = given("MILEPOST_ROT_SEED").unwrap_or(7);
    let mut random = Random::new(seed);
    let mut founds: BTreeMap<Found, u32> = BTreeMap::new();
    for _ in 0..flips {
        let (byte, bit) = (random.below(whole.len() as u64) as usize, random.below(8));
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << bit;
        let damaged = directory.path().join("damaged");
        fs::create_dir_all(&damaged).unwrap();
        fs::write(damaged.join("milepost.db"), bytes).unwrap();
        let what = format!("bit {bit} of byte {byte} of {}, seed {seed}", whole.len());
        let named = verify(&damaged).await;
        let found = look_at(&damaged, &directory.path().join("damaged.log"), &told, &what).await;
        // Whatever anybody can see of it is named to whoever asks.
        assert!(found == Found::Nothing || named.is_some(), "{what}: {found:?}, and nothing is damaged");
        if found == Found::Missing {
            println!("{what}: {found:?}: {}", named.unwrap_or_default().trim());
        }
        *founds.entry(found).or_default() += 1;
        fs::remove_dir_all(damaged).unwrap();
    }
    println!("{flips} flips: {founds:?}");
}

/// What `milepost verify` says of a store, if that is not whole.
async fn verify(store: &Path) -> Option<String> {
    let place = store.to_str().unwrap();
    let output = process::run(env!("CARGO_BIN_EXE_milepost"), &["verify", "--store", place]).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (told, complaint) = (text(&output.stdout), text(&output.stderr));
    match output.status.code() {
        Some(0) => None,
        code => {
            assert!(code == Some(1) && !complaint.contains("panicked"), "{told}{complaint}");
            Some(format!("{told}{complaint}"))
        }
    }
}

/// Jobs of all sorts, and what is told of each.
async fn fill(server: &Server) -> BTreeMap<String, Value> {
    let api = Api::of(server);
    for number in 0..JOBS {
        let job = format!("job-{number}");
        let new = json!({"kind": format!("kind-{}", number % 3), "input": {"of": job, "text": "x".repeat(number as usize * 40)},
            "labels": {"user": number.to_string()}});
        assert_eq!(api.ask(Method::PUT, &format!("/jobs/{job}"), Some(new)).await.0, 201);
        for change in 0..number % 6 {
            assert_eq!(api.patch(&job, change, number as usize * 10).await.0, 200);
        }
        if number % 4 == 0 {
            let end = json!({"status": "completed", "result": {"of": job}});
            assert_eq!(api.ask(Method::PATCH, &format!("/jobs/{job}"), Some(end)).await.0, 200);
        }
    }
    read(&api)
        .await
        .into_iter()
        .map(|(job, (status, document))| {
            assert_eq!(status, 200);
            (job, document)
        })
        .collect()
}

async fn read(api: &Api) -> BTreeMap<String, (u16, Value)> {
    let mut told = BTreeMap::new();
    for number in 0..JOBS {
        let job = format!("job-{number}");
        let heard = api.get(&format!("/jobs/{job}?logs=all&input=1")).await;
        told.insert(job, heard);
    }
    told
}

/// Starts a service on a damaged store and looks at everything.
async fn look_at(store: &Path, log: &Path, told: &BTreeMap<String, Value>, what: &str) -> Found {
    let _none_yet = fs::remove_file(log);
    let server = match Launch::serve(store, log).start().listening().await {
        Ok(server) => server,
        Err((status, logged)) => {
            assert_eq!(status.code(), Some(1), "{what}: {logged}");
            assert!(!logged.contains("panicked"), "{what}: {logged}");
            assert!(!logged.is_empty(), "{what}: it does not say why it does not start");
            return Found::NoStart;
        }
    };
    let api = Api::of(&server);
    let (mut refused, mut missing) = (false, false);
    for (job, (status, document)) in read(&api).await {
        match status {
            200 if document == told[&job] => {}
            // A row whose key has flipped is another job's, and nothing else says that there was one.
            200 => {
                let mut without = told[&job].clone();
                without["input"] = Value::Null;
                assert_eq!(document, without, "{what}: {job} is another one");
                missing = true;
            }
            404 => missing = true,
            _ => {
                assert!(matches!(status, 500 | 503), "{what}: {status} {document}");
                refused = true;
            }
        }
    }
    let (status, listed) = api.get("/jobs?limit=500").await;
    match listed["jobs"].as_array() {
        Some(jobs) => missing |= jobs.len() as u64 != JOBS,
        None => {
            assert!(matches!(status, 500 | 503), "{what}: {status} {listed}");
            refused = true;
        }
    }
    // Whatever becomes of changes, they come to an end, and the service lives on.
    for job in told.keys() {
        let (status, answer) = api.patch(job, 1000, 50).await;
        assert!(matches!(status, 200 | 404 | 409 | 500 | 503), "{what}: {status} {answer}");
    }
    assert_eq!(api.get("/livez").await.0, 200, "{what}");
    let stopped = server.stop().await;
    assert!(stopped.code().is_some(), "{what}: {stopped}");
    let logged = fs::read_to_string(log).unwrap();
    assert!(!logged.contains("panicked"), "{what}: {logged}");
    if refused {
        assert!(logged.contains("ERROR"), "{what}: nothing is said: {logged}");
        return Found::Refused;
    }
    if missing { Found::Missing } else { Found::Nothing }
}
