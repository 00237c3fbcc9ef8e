//! Connections to the database are encrypted, and to nobody else than wanted.

use std::process::Command;

use milepost::{
    app::{App, StartError},
    clock::Clock,
    config::{Config, Flags},
};

use crate::harness::postgres::Database;

/// What becomes of a service with this URL.
async fn start(url: &str) -> Result<(), StartError> {
    let flags = Flags { config: None, listen: Some("127.0.0.1:0".into()), store: Some(url.into()) };
    let mut config = Config::load(&flags, []).unwrap();
    config.postgres.connect_seconds = 2;
    let app = App::open(config, Clock::system()).await?;
    app.serve().await?.shutdown().await.unwrap();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_who_the_url_says_or_is_not_used() {
    let database = tokio::task::spawn_blocking(|| Database::start(&["fsync=off", "ssl=on"])).await.unwrap();
    let (place, root) = database.url().split_once("?sslrootcert=").unwrap();
    let by_name = place.replace("127.0.0.1", "localhost");
    // Two authorities of the same name: another key.
    let other = tempfile::tempdir().unwrap();
    let other_root = other.path().join("root.crt");
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=throwaway authority", "-keyout"]);
    command.arg(other.path().join("key")).arg("-out").arg(&other_root);
    assert!(command.output().unwrap().status.success());
    let other_root = other_root.to_str().unwrap();
    for (url, is_used) in [
        (format!("{place}?sslmode=disable"), false),
        (format!("{place}?sslmode=prefer"), true),
        (format!("{place}?sslmode=require"), true),
        (format!("{place}?sslmode=require&sslrootcert={root}"), true),
        (format!("{place}?sslmode=require&sslrootcert={other_root}"), false),
        (format!("{place}?sslmode=verify-ca&sslrootcert={root}"), true),
        (format!("{place}?sslmode=verify-ca&sslrootcert={other_root}"), false),
        (format!("{place}?sslmode=verify-full&sslrootcert={root}"), true),
        (format!("{place}?sslmode=verify-full"), false),
        (format!("{place}?sslmode=verify-full&sslrootcert=/nowhere"), false),
        // Its certificate is for the address.
        (format!("{by_name}?sslmode=verify-full&sslrootcert={root}"), false),
        (format!("{by_name}?sslmode=verify-ca&sslrootcert={root}"), true),
    ] {
        let started = start(&url).await;
        assert_eq!(started.is_ok(), is_used, "{url}: {started:?}");
    }
}
