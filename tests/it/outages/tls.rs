//! Connections to the database are encrypted, and to nobody else than wanted.

use std::process::Command;

use super::start_and_stop;
use crate::harness::postgres::Database;

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
        let started = start_and_stop(&url).await;
        assert_eq!(started.is_ok(), is_used, "{url}: {started:?}");
    }
}
