//! No more than so many at once.

use crate::service::{Servers, Service, read};
use std::time::Duration;

#[tokio::test]
async fn of_a_thousand_at_once_a_hundred_are_served_and_the_rest_pushed_back() {
    let servers = Servers::start();
    let service = Service::before(&servers, &[("POSTGRES_TIMEOUT_SECONDS", "20")]);
    // Nobody is answered while the table is locked.
    let lock = servers
        .sql("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        .await;
    let mut asked: Vec<_> = (1..=1000)
        .map(|id| {
            let get = service.client.get(format!("{}/data/{id}", service.url));
            tokio::spawn(read(get))
        })
        .collect();
    // Those that are pushed back are so at once, while the others wait.
    let mut refused = 0;
    crate::service::eventually("the rest are pushed back", async || {
        let mut waiting = Vec::new();
        for answer in asked.drain(..) {
            if !answer.is_finished() {
                waiting.push(answer);
                continue;
            }
            let answer = answer.await.unwrap();
            let (status, why) = answer.error();
            assert!(status == 503 && why.contains("too many"), "{answer:?}");
            assert_eq!(answer.header("retry-after"), "1");
            assert!(answer.cache().starts_with("items; "), "{answer:?}");
            refused += 1;
        }
        asked = waiting;
        refused == 900
    })
    .await;
    // Health is not limited.
    assert_eq!(service.health().await.0, 200);
    lock.batch_execute("COMMIT").await.unwrap();
    for answer in asked {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    let again = service.get("/data/7").await;
    assert!(
        again.status == 200 && again.took < Duration::from_secs(5),
        "{again:?}"
    );
}
