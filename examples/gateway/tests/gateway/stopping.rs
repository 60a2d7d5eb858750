//! Ctrl-C, and the signal that service managers send.

use crate::{
    outside::{Act, Outside},
    process::{Gateway, eventually},
};
use std::time::Duration;

async fn slow() -> Outside {
    Outside::start(|_| {
        let end = Act::Answer("0\r\n\r\n".to_owned());
        Act::Stream(
            vec!["first ", "last"],
            Duration::from_millis(300),
            Box::new(end),
        )
    })
    .await
}

#[tokio::test]
async fn it_finishes_the_requests_that_run_and_takes_no_more() {
    for signal in ["INT", "TERM"] {
        let backend = slow().await;
        let mut gateway = Gateway::start(&[("BACKEND_URL", &backend.url)]);
        let running = tokio::spawn(gateway.get("/api/v1/data").send());
        eventually("the backend is asked", async || backend.hits() == 1).await;
        gateway.signal(signal);
        eventually("new connections are refused", async || {
            let new = reqwest::Client::builder().no_proxy().build().unwrap();
            new.get(format!("{}/health", gateway.url))
                .send()
                .await
                .is_err()
        })
        .await;
        let response = running.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.unwrap(), "first last");
        assert!(gateway.ended().await.success());
    }
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_them() {
    let backend = Outside::start(|_| Act::Hang).await;
    let settings = [
        ("BACKEND_URL", backend.url.as_str()),
        ("REQUEST_TIMEOUT_SECONDS", "60"),
    ];
    let mut gateway = Gateway::start(&settings);
    let running = tokio::spawn(gateway.get("/api/v1/data").send());
    eventually("the backend is asked", async || backend.hits() == 1).await;
    gateway.signal("INT");
    gateway.line("Ctrl-C again");
    gateway.signal("INT");
    assert!(!gateway.ended().await.success());
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_it_up() {
    let mut gateway = Gateway::start(&[]);
    // The client keeps its connection open.
    assert_eq!(gateway.data().await.status, 200);
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
}
