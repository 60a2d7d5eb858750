//! Redis is restarted: what it holds then may be what it had dropped before.

use super::{server::Server, support::*};
use buttress::cache::{AcquireOptions, Acquired, InvalidationMode, Store};

#[tokio::test]
async fn a_lease_from_before_a_restart_fills_nothing() {
    let mut server = Server::start();
    let store = connect(&server).await;
    let (seven, page) = (key("7"), tagged("page", "items"));
    let leases = [lease(&store, &seven).await, lease(&store, &page).await];
    server.restart();
    eventually("it is connected again", async || {
        try_fill(&store, &key("other"), lease_of_nobody(&store).await, "")
            .await
            .is_ok()
    })
    .await;
    for (key, lease) in [&seven, &page].into_iter().zip(leases) {
        assert!(!fill(&store, key, lease, "old").await);
        assert!(look(&store, key).await.is_none());
    }
}

/// Polls for one.
async fn lease_of_nobody(store: &Texts) -> buttress::redis::RedisLease {
    for i in 0.. {
        let key = key(&format!("nobody {i}"));
        if let Ok(Acquired::Leased { lease, .. }) =
            store.acquire(&key, AcquireOptions::new(S)).await
        {
            return lease;
        }
        tokio::time::sleep(5 * MS).await;
    }
    unreachable!()
}

#[tokio::test]
async fn what_a_restart_brings_back_counts_for_nothing_fresh_stale_or_leased() {
    let mut server = Server::start();
    let store = connect(&server).await;
    let (seven, page, other) = (key("7"), tagged("page", "items"), tagged("other", "items"));
    put(&store, &seven, "old").await;
    put(&store, &page, "old").await;
    let racing = lease(&store, &other).await;
    server.ask::<()>(&["SAVE"]);
    // Dropped and acknowledged, and then forgotten by the crash.
    invalidate(&store, &seven, InvalidationMode::Drop).await;
    invalidate_tag(&store, "items", InvalidationMode::Keep).await;
    server.restart();
    assert_eq!(server.ask::<i64>(&["EXISTS", "app:v:{k=7}"]), 1);
    assert_eq!(server.ask::<i64>(&["EXISTS", "app:l:{t=items}:other"]), 1);
    connected(&store).await;

    for key in [&seven, &page] {
        assert!(look(&store, key).await.is_none());
        let (granted, known) = leased(acquire(&store, key).await);
        assert!(known.is_none());
        // Not even as outdated.
        invalidate(&store, key, InvalidationMode::Keep).await;
        assert!(look(&store, key).await.is_none());
        assert!(!fill(&store, key, granted, "old").await);
    }
    assert!(!fill(&store, &other, racing, "old").await);
    // The old lease binds nobody.
    let granted = lease(&store, &other).await;
    assert!(fill(&store, &other, granted, "new").await);
    assert_eq!(fresh(acquire(&store, &other).await).value, "new");
}

// As when a replica is promoted, and the connection to it survives.
#[tokio::test]
async fn a_change_of_the_history_of_writes_is_noticed_on_a_connection_that_lasts() {
    let server = Server::with(&["--enable-debug-command", "local"]);
    let store = connect(&server).await;
    let seven = key("7");
    put(&store, &seven, "old").await;
    let early = store
        .acquire(&seven, AcquireOptions::new(S).early())
        .await
        .unwrap();
    let (racing, _) = leased(early);
    server.ask::<()>(&["DEBUG", "CHANGE-REPL-ID"]);
    eventually("it is noticed", async || {
        look(&store, &seven).await.is_none()
    })
    .await;
    assert!(!fill(&store, &seven, racing, "old").await);
    invalidate(&store, &seven, InvalidationMode::Drop).await;
    put(&store, &seven, "new").await;
}
