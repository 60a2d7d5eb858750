//! Servers of its own, and Ctrl-C.

use crate::service::{Servers, Service, read};
use std::{net::TcpStream, path::Path};

#[tokio::test]
async fn without_urls_it_boots_servers_and_removes_them_at_the_end() {
    let temporary = std::env::temp_dir().join(format!("data-service-{}", std::process::id()));
    std::fs::create_dir_all(&temporary).unwrap();
    let directory = temporary.to_str().unwrap();
    for signal in ["INT", "TERM"] {
        let mut service = Service::start(&[("TMPDIR", directory)]);
        let said = service.said.join("\n");
        assert!(said.contains("private Postgres at postgres://"), "{said}");
        assert!(said.contains("private Redis at redis://"), "{said}");
        assert_eq!(service.get("/data/7").await.status, 200);
        assert_eq!(service.health().await.0, 200);
        service.signal(signal);
        assert!(service.ended().await.success());
        assert_eq!(Path::new(directory).read_dir().unwrap().count(), 0);
        let port = said.rsplit(':').next().unwrap().trim().parse().unwrap();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
    std::fs::remove_dir_all(&temporary).unwrap();
}

#[tokio::test]
async fn it_finishes_the_requests_that_run() {
    let servers = Servers::start();
    let mut service = Service::before(&servers, &[("POSTGRES_TIMEOUT_SECONDS", "10")]);
    let lock = servers
        .sql("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        .await;
    let running = tokio::spawn(read(service.client.get(format!("{}/data/7", service.url))));
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let watch = servers.sql("").await;
    crate::service::eventually("the request is there", async || {
        watch
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
    })
    .await;
    service.signal("INT");
    service.line("Draining");
    lock.batch_execute("COMMIT").await.unwrap();
    assert_eq!(running.await.unwrap().json()["id"], 7);
    assert!(service.ended().await.success());
}
