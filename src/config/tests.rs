use std::{fs, net::SocketAddr};

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load(file: &str, pairs: &[(&str, &str)], flags: Flags) -> Result<Config, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("milepost.toml");
    fs::write(&path, file).unwrap();
    let flags = Flags { config: Some(path.clone()), ..flags };
    let shown = |problem: &Problem| problem.to_string().replace(&path.display().to_string(), "FILE");
    Config::load(&flags, variables(pairs)).map_err(|problems| problems.0.iter().map(shown).collect())
}

fn problems(file: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    load(file, pairs, Flags::default()).unwrap_err()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_built_in_file_is_a_valid_configuration() {
    let config = Config::load(&Flags::default(), []).unwrap();
    assert_eq!(config.http.listen, address("127.0.0.1:8080"));
    assert_eq!(config.store.url, StoreUrl::Directory("./data".into()));
    assert_eq!(config.http.cors_origins, []);
    assert_eq!(config.auth.mode, AuthMode::LoopbackOnly);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[http]\nlisten = '127.0.0.1:1'\ndrain_seconds = 1\nbody_read_seconds = 1\n[store]\nurl = 'a'";
    let variables = [("MILEPOST_LISTEN", "127.0.0.1:2"), ("MILEPOST_HTTP_DRAIN_SECONDS", "2")];
    let flags = Flags { listen: Some("127.0.0.1:3".into()), ..Flags::default() };
    let config = load(file, &variables, flags).unwrap();
    assert_eq!(config.http.listen, address("127.0.0.1:3"));
    assert_eq!(config.http.drain_seconds, 2);
    assert_eq!(config.http.body_read_seconds, 1);
    assert_eq!(config.http.header_read_seconds, 75);
    assert_eq!(config.store.url, StoreUrl::Directory("a".into()));
}

#[test]
fn a_variable_names_the_file_unless_a_flag_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("milepost.toml");
    fs::write(&path, "[http]\ndrain_seconds = 7").unwrap();
    let named = [(OsString::from("MILEPOST_CONFIG"), path.clone().into_os_string())];
    assert_eq!(Config::load(&Flags::default(), named.clone()).unwrap().http.drain_seconds, 7);
    assert_eq!(load("", &[("MILEPOST_CONFIG", "/nowhere")], Flags::default()).unwrap().http.drain_seconds, 10);
}

#[test]
fn every_key_has_a_variable_and_no_variable_has_two_keys() {
    let table: toml::Table = toml::from_str(DEFAULTS).unwrap();
    let mut names = std::collections::BTreeMap::new();
    for (section, keys) in &table {
        for (key, value) in keys.as_table().unwrap() {
            let text = match (value.as_str(), value.as_array()) {
                (Some(text), _) => text.to_owned(),
                (_, Some(items)) => items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(","),
                (None, None) => value.to_string(),
            };
            let name = format!("MILEPOST_{section}_{key}").to_uppercase();
            assert_eq!(names.insert(name, text), None);
        }
    }
    // Setting every key to its default finds no problem, so every name is known and none is taken for a service link.
    let all: Vec<_> = names.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let set = load("", &all, Flags::default()).unwrap();
    assert_eq!(format!("{set:?}"), format!("{:?}", Config::load(&Flags::default(), []).unwrap()));
    let broken: Vec<_> = names.keys().map(|name| (name.as_str(), "\u{7}")).collect();
    // Any text is a directory; an array takes text and looks at its items.
    assert_eq!(problems("", &broken).len(), names.len() - 1);
}

#[test]
fn lists_come_from_a_variable_with_commas() {
    let origins = [("MILEPOST_HTTP_CORS_ORIGINS", "https://a.example, http://localhost:3000")];
    let config = load("", &origins, Flags::default()).unwrap();
    let origins: Vec<_> = config.http.cors_origins.iter().map(CorsOrigin::as_str).collect();
    assert_eq!(origins, ["https://a.example", "http://localhost:3000"]);
}

#[test]
fn all_problems_are_reported_at_once_with_where_they_are() {
    let file = "
        [http]
        json_depth_max = 121
        connections_max = 'many'
        conections_max = 3
        [lists]
        page_jobs = 600
        [htp]
        listen = '127.0.0.1:1'
        [log]
        format = 'xml'
        filter = 'milepost=loud'
    ";
    let variables =
        [("MILEPOST_HTP_LISTEN", "127.0.0.1:1"), ("MILEPOST_STORE", "postgres://app:hunter2@db:x/milepost")];
    let flags = Flags { listen: Some("localhost".into()), ..Flags::default() };
    let found = load(file, &variables, flags).unwrap_err();
    for problem in [
        "FILE, http.json_depth_max: invalid value: integer `121`, expected a whole number from 1 to 120",
        "FILE, http.connections_max: invalid type: string \"many\", expected a whole number from 1 to 1000000",
        "FILE, http.conections_max: there is no such key; `milepost default-config` shows all of them",
        "FILE, htp: there is no such section; `milepost default-config` shows all of them",
        "FILE, log.format: unknown variant `xml`, expected one of `auto`, `pretty`, `json`",
        "FILE, lists.page_jobs: lists.page_jobs is 600, which is more than lists.page_jobs_max, 500",
        "MILEPOST_HTP_LISTEN: there is no such variable; they are MILEPOST_CONFIG, _LISTEN, _STORE and \
         MILEPOST_<SECTION>_<KEY>",
        "MILEPOST_STORE: is no URL of PostgreSQL, such as postgres://user:password@host/database",
        "--listen: invalid value: string \"localhost\", expected an IP address and a port, such as 127.0.0.1:8080 or \
         [::1]:8080",
    ] {
        assert!(found.iter().any(|line| line == problem), "{problem:?} is not in {found:#?}");
    }
    assert!(found.iter().any(|line| line.starts_with("FILE, log.filter: must be levels for targets")), "{found:#?}");
    assert_eq!(found.len(), 10, "{found:#?}");
    assert!(!found.concat().contains("hunter2"));
}

#[test]
fn a_store_is_a_directory_or_a_database() {
    let at = |url: &str| load("", &[("MILEPOST_STORE", url)], Flags::default()).map(|config| config.store.url);
    let Ok(url @ StoreUrl::Postgres(_)) = at("postgres://app:hunter2@db/milepost") else { panic!("a database") };
    assert!(!format!("{url:?}").contains("hunter2"));
    assert!(matches!(at("postgresql://a,b/milepost?target_session_attrs=read-write"), Ok(StoreUrl::Postgres(_))));
    let neither = "MILEPOST_STORE: must be a directory or a postgres:// URL";
    assert_eq!(at("mysql://db/milepost"), Err(vec![neither.to_owned()]));
    assert_eq!(at(""), Err(vec![neither.to_owned()]));
    assert_eq!(at("postgres://"), Err(vec!["MILEPOST_STORE: names no host".to_owned()]));
    let mode = "MILEPOST_STORE: has an sslmode that is none of disable, prefer, require, verify-ca and verify-full";
    assert_eq!(at("postgres://db/a?sslmode=maybe"), Err(vec![mode.to_owned()]));
}

#[test]
fn a_database_is_looked_at_as_closely_as_its_url_says() {
    use tokio_postgres::config::{SslMode, TargetSessionAttrs};
    let looked_at = |query: &str| {
        let url = DatabaseUrl::parse(&format!("postgres://a@db/milepost?{query}")).unwrap();
        (url.connect.get_ssl_mode(), url.verify, url.root_certificates)
    };
    let file = Some(PathBuf::from("/etc/ca pem"));
    for (query, expected) in [
        ("", (SslMode::Prefer, Verify::Nothing, None)),
        ("sslmode=disable", (SslMode::Disable, Verify::Nothing, None)),
        ("connect_timeout=3&sslmode=require", (SslMode::Require, Verify::Nothing, None)),
        ("sslmode=require&sslrootcert=/etc/ca%20pem", (SslMode::Require, Verify::Authority, file.clone())),
        ("sslrootcert=/etc/ca%20pem", (SslMode::Require, Verify::Authority, file.clone())),
        (
            "sslmode=verify-ca&sslrootcert=/etc/ca%20pem&target_session_attrs=read-write",
            (SslMode::Require, Verify::Authority, file.clone()),
        ),
        ("sslmode=verify-full&sslrootcert=/etc/ca%20pem", (SslMode::Require, Verify::Host, file)),
        ("sslmode=verify-full&sslrootcert=system", (SslMode::Require, Verify::Host, None)),
    ] {
        assert_eq!(looked_at(query), expected, "{query}");
    }
    let attributes = |url: &str| DatabaseUrl::parse(url).map(|url| url.connect.get_target_session_attrs());
    assert_eq!(
        attributes("postgres://a@x,y/m"),
        Ok(TargetSessionAttrs::ReadWrite),
        "of some, the one that takes writes"
    );
    assert_eq!(attributes("postgres://a@x/m"), Ok(TargetSessionAttrs::Any));
    assert!(attributes("postgres://a@x,y/m?target_session_attrs=read-only").is_err());
}

#[test]
fn a_value_that_another_one_overrides_is_checked_too() {
    let found = problems("[http]\nlisten = 8080", &[("MILEPOST_HTTP_LISTEN", "127.0.0.1:1")]);
    assert_eq!(found, ["FILE, http.listen: invalid type: integer `8080`, expected a string"]);
}

#[test]
fn two_variables_for_one_key_are_one_too_many() {
    let found = problems("", &[("MILEPOST_LISTEN", "127.0.0.1:1"), ("MILEPOST_HTTP_LISTEN", "127.0.0.1:1")]);
    assert_eq!(found, ["MILEPOST_LISTEN: sets the same key as MILEPOST_HTTP_LISTEN; keep one of them"]);
}

#[test]
fn what_kubernetes_tells_about_a_service_of_our_name_is_not_for_us() {
    let links = [
        ("MILEPOST_SERVICE_HOST", "10.0.0.7"),
        ("MILEPOST_SERVICE_PORT_HTTP", "80"),
        ("MILEPOST_PORT", "tcp://10.0.0.7:80"),
        ("MILEPOST_PORT_80_TCP_ADDR", "10.0.0.7"),
    ];
    assert!(load("", &links, Flags::default()).is_ok());
}

#[test]
fn what_clients_are_told_is_not_for_us() {
    let told = [
        ("MILEPOST_URL", "http://milepost:8080"),
        ("MILEPOST_JOB_ID", "j"),
        ("MILEPOST_ATTEMPT", "1"),
        ("MILEPOST_KIND", "k"),
        ("MILEPOST_INPUT", "{}"),
        ("MILEPOST_INPUT_CLIP", "/v/1.mp4"),
    ];
    assert!(load("", &told, Flags::default()).is_ok());
    assert_eq!(problems("", &[("MILEPOST_URI", "x")]).len(), 1);
}

#[test]
fn an_address_that_others_reach_needs_consent() {
    let found = problems("", &[("MILEPOST_LISTEN", "0.0.0.0:8080")]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("MILEPOST_LISTEN: 0.0.0.0:8080 can be reached from other machines"), "{found:?}");
    assert!(found[0].contains("MILEPOST_AUTH_MODE=none"), "{found:?}");
    let consent = [("MILEPOST_LISTEN", "0.0.0.0:8080"), ("MILEPOST_AUTH_MODE", "none")];
    assert!(load("", &consent, Flags::default()).is_ok());
    for loopback in ["127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(load("", &[("MILEPOST_LISTEN", loopback)], Flags::default()).is_ok(), "{loopback}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_named_by_its_line_without_its_text() {
    let found = problems("[http]\ndrain_seconds = 1\npassword = hunter2\n", &[]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("FILE: line 3 is not TOML: "), "{found:?}");
    assert!(!found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn a_key_outside_a_section_is_told_where_keys_stand() {
    let found = problems("listen = '127.0.0.1:1'\nhttp = 3", &[]);
    let rule = "must be a section, such as [http], with keys below it";
    assert_eq!(found, [format!("FILE, http: {rule}"), format!("FILE, listen: {rule}")]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let flags = Flags { config: Some("/nowhere/milepost.toml".into()), ..Flags::default() };
    let found = Config::load(&flags, []).unwrap_err().to_string();
    assert!(found.contains("/nowhere/milepost.toml: cannot be read: "), "{found}");
}
