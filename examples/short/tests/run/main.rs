//! The short examples run to their end, and say what they should.
#![allow(missing_docs, clippy::unwrap_used)]

mod build;

use std::{path::Path, process::Command};

/// Runs an example; its lines.
fn lines(name: &'static str) -> Vec<String> {
    let output = Command::new(build::executable(name)).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn own_guard_refuses_what_it_cannot_pay_and_charges_for_no_failure() {
    let said = lines("own_guard");
    let expected = [
        "what? Ok(\"42\"), 40 cents left",
        "why? Err(Service(\"it does not know\")), 40 cents left",
        "how? Err(Rejected(Rejected { kind: RateLimited, policy: \"purse\", retry_after: None, \
         reached_service: false, is_callers_limit: false })), 40 cents left",
        "who? Ok(\"42\"), 0 cents left",
    ];
    assert_eq!(said, expected);
}

#[test]
fn axum_layers_retries_and_limits() {
    let said = lines("axum_layers");
    assert!(said[0].starts_with("serving http://127.0.0.1:"), "{said:?}");
    assert_eq!(said[1..4], ["200 OK, retry after None"; 3], "{said:?}");
    assert!(
        said[4].starts_with("429 Too Many Requests, retry after Some("),
        "{said:?}"
    );
    assert_eq!(said[5], "3 retries");
}

#[test]
fn tonic_layers_limit_the_server_and_guard_the_client() {
    let said = lines("tonic_layers");
    assert_eq!(said[..3], ["Serving"; 3], "{said:?}");
    assert!(said[3].starts_with("the server says: ResourceExhausted, health: rate limited"));
    assert_eq!(said[4], "not called: health: circuit open");
}

#[test]
fn http_client_retries_then_stops_calling() {
    let said = lines("http_client");
    assert_eq!(said[0], "well: 200 OK");
    assert_eq!(
        said[1..4],
        ["ill: 500 Internal Server Error"; 3],
        "{said:?}"
    );
    assert!(said[4].starts_with("well: not called, orders: circuit open, retry after"));
    // Two each, until two calls in a row are lost.
    assert_eq!(said[5], "4 retries");
}

#[test]
fn postgres_call_times_out_and_opens() {
    let said = lines("postgres_call");
    let (mistakes, said) = said.split_at(3);
    assert!(
        mistakes
            .iter()
            .all(|line| line.starts_with("Postgres says: ")),
        "{mistakes:?}"
    );
    assert_eq!(said[..2], ["slept for 0 s", "slept for 0.01 s"], "{said:?}");
    assert_eq!(said[2..5], ["orders-db: timed out"; 3], "{said:?}");
    assert!(
        said[5].starts_with("orders-db: circuit open, retry after"),
        "{said:?}"
    );
    assert_eq!(said[6], "Open");
}

#[test]
fn cache_aside_loads_once_and_answers_while_the_source_is_away() {
    let said = lines("cache_aside");
    assert_eq!(said[..2], ["1000 answers", "1 query"]);
    assert!(
        said[2].starts_with("away: 101 (prices; fwd=stale"),
        "{said:?}"
    );
    assert!(said[2].ends_with("detail=sie)"), "{said:?}");
    assert_eq!(said[3], "invalidated: the database is away");
}

#[test]
fn http_cache_keeps_what_may_be_kept_until_a_write() {
    let expected = [
        "version 1: pages; fwd=uri-miss; stored",
        "version 1: pages; hit",
        "version 2: pages; fwd=uri-miss; stored",
        "version 3: pages; fwd=uri-miss",
        "version 4: pages; fwd=uri-miss",
    ];
    assert_eq!(lines("http_cache"), expected);
}

#[cfg(unix)]
#[test]
fn redis_tiered_shares_and_invalidates() {
    let expected = [
        "here: tea, Loaded { stored: true, reason: Missing }",
        "there: tea, Fresh",
        "there: green tea, Loaded { stored: true, reason: Missing }",
        "here: green tea, Fresh",
    ];
    assert_eq!(lines("redis_tiered"), expected);
}

#[test]
fn priorities_serves_what_matters() {
    let said = lines("priorities");
    let served = |line: &str| -> u32 {
        let number = line.split_whitespace().nth(1);
        number.and_then(|number| number.parse().ok()).unwrap()
    };
    assert!(
        served(&said[0]) >= 380 && served(&said[1]) <= 40,
        "{said:?}"
    );
}

#[test]
fn per_client_behind_proxy_tells_clients_apart() {
    let expected = [
        "203.0.113.1: 200 OK",
        "203.0.113.1: 200 OK",
        "203.0.113.1: 429 Too Many Requests",
        "203.0.113.2: 200 OK",
    ];
    assert_eq!(lines("per_client_behind_proxy"), expected);
}

#[test]
fn deadline_across_services_hands_on_what_is_left() {
    let expected = ["less than 250 ms left: true"];
    assert_eq!(lines("deadline_across_services"), expected);
}

#[test]
fn keyed_breaker_opens_for_one_host() {
    let said = lines("keyed_breaker");
    assert_eq!(said[3..5], ["db-2: not asked, circuit open", "db-1: a row"]);
    assert_eq!(said[5..], ["db-1 is Closed", "db-2 is Open"]);
}

#[test]
fn waiting_limiter_keeps_to_the_quota_and_refuses_the_hopeless() {
    let said = lines("waiting_limiter");
    let with = |what: &str| said.iter().filter(|line| line.contains(what)).count();
    for after in [
        "after 0 s",
        "after 1 s",
        "after 2 s",
        "refused at once, 3 s",
    ] {
        assert_eq!(with(after), 3, "{said:?}");
    }
}

#[test]
fn metrics_and_health_tell_of_an_open_breaker() {
    let said = lines("metrics_and_health");
    assert_eq!(said[..2], ["up", "down: no database"]);
    let trips = r#"buttress_circuit_breaker_trips_total{policy="database"} 1"#;
    assert!(said.iter().any(|line| line == trips), "{said:?}");
}

#[test]
fn the_short_examples_stay_short_and_are_all_built() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 60, "{}: {lines} lines", path.display());
            let file = path.file_name().unwrap().to_string_lossy();
            assert!(manifest.contains(&format!("path = \"{file}\"")), "{file}");
        }
    }
}
