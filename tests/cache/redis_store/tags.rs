//! Many entries, invalidated by one name.

use super::{server::Server, support::*};
use buttress::cache::{AcquireOptions, InvalidationMode, Store};

#[tokio::test]
async fn a_tag_takes_its_own_entries_with_it_and_no_others() {
    let server = Server::start();
    let store = connect(&server).await;
    let of_items = [tagged("1", "items"), tagged("2", "items")];
    let others = [tagged("1", "users"), key("1"), key("items")];
    for entry in of_items.iter().chain(&others) {
        put(&store, entry, "old").await;
    }
    invalidate_tag(&store, "items", InvalidationMode::Drop).await;
    for entry in &of_items {
        assert!(look(&store, entry).await.is_none());
        let (granted, known) = leased(acquire(&store, entry).await);
        assert!(known.is_none());
        assert!(fill(&store, entry, granted, "new").await);
        assert_eq!(fresh(acquire(&store, entry).await).value, "new");
    }
    for entry in &others {
        assert_eq!(fresh(acquire(&store, entry).await).value, "old");
    }
}

#[tokio::test]
async fn what_a_tag_keeps_is_known_to_be_outdated_until_it_is_dropped() {
    let server = Server::start();
    let store = connect(&server).await;
    let page = tagged("page", "items");
    put(&store, &page, "old").await;
    let ends = || server.ask::<u64>(&["PEXPIRETIME", "app:v:{t=items}:page"]);
    let before = ends();
    for _ in 0..2 {
        invalidate_tag(&store, "items", InvalidationMode::Keep).await;
        assert!(look(&store, &page).await.unwrap().outdated);
        assert_eq!(ends(), before);
    }
    let (granted, known) = leased(acquire(&store, &page).await);
    assert!(known.unwrap().outdated);
    store.release(&page, granted).await.unwrap();

    invalidate_tag(&store, "items", InvalidationMode::Drop).await;
    assert!(look(&store, &page).await.is_none());
    // A tag that nothing was stored under leaves nothing.
    server.ask::<()>(&["FLUSHALL"]);
    invalidate_tag(&store, "items", InvalidationMode::Keep).await;
    invalidate_tag(&store, "items", InvalidationMode::Drop).await;
    assert_eq!(server.ask::<i64>(&["DBSIZE"]), 0);
}

// Redis may evict it, and must not thereby bring back what had been invalidated.
#[tokio::test]
async fn what_was_stored_or_leased_under_a_tag_that_was_lost_counts_for_nothing() {
    let server = Server::start();
    let store = connect(&server).await;
    let (one, two) = (tagged("1", "items"), tagged("2", "items"));
    put(&store, &one, "old").await;
    let racing = lease(&store, &two).await;
    server.ask::<()>(&["DEL", "app:t:{t=items}"]);
    assert!(look(&store, &one).await.is_none());
    assert!(!fill(&store, &two, racing, "old").await);

    // Nor when the tag is made anew by the next one who asks.
    let granted = lease(&store, &one).await;
    assert_eq!(server.ask::<i64>(&["EXISTS", "app:t:{t=items}"]), 1);
    assert!(look(&store, &one).await.is_none());
    assert!(fill(&store, &one, granted, "new").await);
    assert_eq!(look(&store, &one).await.unwrap().value, "new");
}

#[tokio::test]
async fn a_tag_outlives_every_entry_and_every_lease_under_it() {
    let server = Server::start();
    let store = connect(&server).await;
    let ends = |key: &str| server.ask::<i64>(&["PEXPIRETIME", key]);
    let tag = "app:t:{t=items}";
    put(&store, &tagged("1", "items"), "x").await;
    let first = ends(tag);
    assert!(first > ends("app:v:{t=items}:1"));
    // A short lease does not shorten it, a longer one makes it last longer.
    let ask = async |key, lease| {
        store
            .acquire(&tagged(key, "items"), AcquireOptions::new(lease))
            .await
            .unwrap()
    };
    let _ = ask("2", MS).await;
    assert_eq!(ends(tag), first);
    let _ = ask("3", 60 * S).await;
    assert!(ends(tag) >= ends("app:l:{t=items}:3"));
    let second = ends(tag);
    put(&store, &tagged("4", "items"), "x").await;
    invalidate_tag(&store, "items", InvalidationMode::Keep).await;
    assert_eq!(ends(tag), second);
}
