//! A thousand connections, one limit, one breaker.

use crate::{
    outside::{Act, Outside},
    process::{Gateway, eventually},
};
use std::{collections::HashMap, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const CONNECTIONS: usize = 1_000;
const REQUEST: &[u8] = b"GET /api/v1/data HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n";

/// Opens all connections, then sends one request on each, all at once; counts the statuses.
async fn ask_all(gateway: &Gateway) -> HashMap<u16, usize> {
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(TcpStream::connect(address).await.unwrap());
    }
    let mut asking = JoinSet::new();
    for mut connection in connections {
        asking.spawn(async move {
            connection.write_all(REQUEST).await.unwrap();
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).await.unwrap();
            let status = std::str::from_utf8(&answer[9..12]).unwrap();
            status.parse::<u16>().unwrap()
        });
    }
    let mut statuses = HashMap::new();
    while let Some(status) = asking.join_next().await {
        *statuses.entry(status.unwrap()).or_default() += 1;
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_share_one_limit() {
    let gateway = Gateway::start(&[("RATE_LIMIT_REQUESTS_PER_WINDOW", "100")]);
    let statuses = ask_all(&gateway).await;
    assert_eq!(statuses, HashMap::from([(200, 100), (429, 900)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_share_one_breaker_and_one_probe() {
    let backend = Outside::start(|n| match n {
        1..=5 => Act::unavailable(),
        _ => Act::Late(Duration::from_secs(2), Box::new(Act::ok())),
    })
    .await;
    let gateway = Gateway::start(&[
        ("BACKEND_URL", &backend.url),
        ("MAX_RETRIES", "0"),
        ("RATE_LIMIT_REQUESTS_PER_WINDOW", "100000"),
        ("REQUEST_TIMEOUT_SECONDS", "5"),
        ("RECOVERY_TIMEOUT_SECONDS", "6"),
    ]);
    for _ in 0..5 {
        gateway.data().await;
    }
    let statuses = ask_all(&gateway).await;
    assert_eq!(statuses, HashMap::from([(503, CONNECTIONS)]));
    assert_eq!(backend.hits(), 5);

    tokio::time::sleep(Duration::from_millis(6100)).await;
    let statuses = ask_all(&gateway).await;
    assert_eq!(statuses, HashMap::from([(200, 1), (503, CONNECTIONS - 1)]));
    assert_eq!(backend.hits(), 6);
    eventually("closed", async || gateway.state().await == "CLOSED").await;
}
