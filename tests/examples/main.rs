//! The small examples run to their end, and say what they should.
#![cfg(feature = "full")]
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
         reached_service: false })), 40 cents left",
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
    assert_eq!(said[5], "6 retries");
}

#[test]
fn postgres_call_times_out_and_opens() {
    let said = lines("postgres_call");
    assert_eq!(said[..2], ["slept for 0 s", "slept for 0.01 s"], "{said:?}");
    assert_eq!(said[2..5], ["orders-db: timed out"; 3], "{said:?}");
    assert!(
        said[5].starts_with("orders-db: circuit open, retry after"),
        "{said:?}"
    );
    assert_eq!(said[6], "Open");
}

#[test]
fn the_small_examples_stay_small() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in examples.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 60, "{}: {lines} lines", path.display());
        }
    }
}
