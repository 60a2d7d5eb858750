//! `verify.sh`, the write-up's own verification.

use crate::process::{Gateway, VARIABLES, read};
use std::process::Output;
use tokio::process::Command;

const SETTINGS: &[(&str, &str)] = &[
    ("INITIAL_BACKOFF_SECONDS", "0.1"),
    ("REQUEST_TIMEOUT_SECONDS", "1"),
    ("RATE_LIMIT_REQUESTS_PER_WINDOW", "40"),
    ("RATE_LIMIT_WINDOW_SECONDS", "4"),
    ("FLAKY_FAILURE_RATE", "0.3"),
];

async fn verify(gateway: &Gateway) -> (Option<i32>, String) {
    let mut script = Command::new("bash");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/verify.sh"));
    script.args(
        [Some(gateway.url.as_str()), gateway.backend.as_deref()]
            .into_iter()
            .flatten(),
    );
    for name in VARIABLES {
        script.env_remove(name);
    }
    script.envs(SETTINGS.iter().copied());
    script
        .env("RECOVERY_TIMEOUT_SECONDS", "1")
        .env("no_proxy", "*");
    let Output {
        status,
        stdout,
        stderr,
    } = script.output().await.unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code(), text)
}

#[tokio::test]
async fn the_script_passes_and_leaves_the_backend_as_it_was() {
    let gateway = Gateway::start(SETTINGS);
    let (code, text) = verify(&gateway).await;
    assert_eq!(code, Some(0), "{text}");
    let starting = |word| text.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((starting("PASS"), starting("FAIL")), (24, 0), "{text}");
    assert_eq!(starting("NOTE"), 0, "it is fresh: {text}");
    let url = format!("{}/behaviour", gateway.backend.as_deref().unwrap());
    assert_eq!(
        read(gateway.client.get(url)).await.json()["failure_rate"],
        0.3
    );
}

#[tokio::test]
async fn the_script_fails_where_there_is_no_rate_limit() {
    let mut settings = SETTINGS.to_vec();
    settings.push(("RATE_LIMIT_ENABLED", "false"));
    let gateway = Gateway::start(&settings);
    let (code, text) = verify(&gateway).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FAIL  over the limit it is 429"), "{text}");
    assert!(
        text.contains("PASS  after 5 failed requests in a row it is OPEN"),
        "{text}"
    );
}

#[tokio::test]
async fn the_script_fails_where_the_breaker_hardly_ever_opens_and_tells_of_earlier_requests() {
    let mut settings = SETTINGS.to_vec();
    settings.push(("FAILURE_THRESHOLD", "1000"));
    let gateway = Gateway::start(&settings);
    read(gateway.get("/api/v1/data")).await;
    let (code, text) = verify(&gateway).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("FAIL  after 5 failed requests in a row it is OPEN"),
        "{text}"
    );
    let note = "NOTE  this gateway is not fresh (requests before this run: 1)";
    assert!(text.contains(note), "{text}");
}

#[tokio::test]
async fn the_script_says_when_nobody_is_there() {
    let mut gateway = Gateway::start(SETTINGS);
    gateway.url = "http://127.0.0.1:1".to_owned();
    let (code, text) = verify(&gateway).await;
    assert_eq!(
        (code, text.as_str()),
        (Some(2), "no gateway answers at http://127.0.0.1:1\n")
    );
}
