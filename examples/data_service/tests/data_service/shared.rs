//! Several instances share what they know.

use crate::service::{Servers, Service};

#[tokio::test]
async fn what_one_instance_has_read_the_others_need_not() {
    let servers = Servers::start();
    let (here, there) = (
        Service::before(&servers, &[]),
        Service::before(&servers, &[]),
    );
    for path in ["/data/7", "/data?limit=5", "/data/1001"] {
        let first = here.get(path).await;
        assert!(first.cache().contains("stored"), "{first:?}");
        let second = there.get(path).await;
        assert!(second.cache().contains("hit"), "{second:?}");
        assert_eq!(first.body, second.body);
    }
}

#[tokio::test]
async fn many_misses_at_once_are_one_query_in_all_instances_together() {
    let servers = Servers::start();
    // So that a slow machine does not make them go alone.
    let settings = [
        ("MAX_CONCURRENT", "1000"),
        ("POSTGRES_TIMEOUT_SECONDS", "10"),
        ("REDIS_TIMEOUT_SECONDS", "5"),
    ];
    let services = [0, 1, 2, 3].map(|_| Service::before(&servers, &settings));
    servers.sql("ALTER SYSTEM SET log_statement = 'all'").await;
    let admin = servers.sql("SELECT pg_reload_conf()").await;
    // Backends take the setting up with their next statement.
    let lock = servers
        .sql("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        .await;
    let asked = services.iter().cycle().take(400).map(|service| {
        let get = service.client.get(format!("{}/data/7", service.url));
        tokio::spawn(crate::service::read(get))
    });
    let asked: Vec<_> = asked.collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    crate::service::eventually("somebody waits for the lock", async || {
        admin
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
    })
    .await;
    // All of them are there.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    lock.batch_execute("COMMIT").await.unwrap();
    for answer in asked {
        assert_eq!(answer.await.unwrap().json()["id"], 7);
    }
    let log = servers.postgres.log();
    let queries = log
        .lines()
        .filter(|line| line.contains("execute ") && line.contains("WHERE id ="));
    assert_eq!(queries.count(), 1, "{log}");
}
