//! Who may load, and whose answer is taken.

use super::{server::Server, support::*};
use buttress::cache::{AcquireOptions, Acquired, InvalidationMode, Store};

// I9
#[tokio::test]
async fn of_many_who_ask_at_once_one_gets_the_lease_whatever_the_instance() {
    let server = Server::start();
    let stores = [connect(&server).await, connect(&server).await];
    for round in 0..20 {
        let seven = key(&round.to_string());
        let asked = (0..16).map(|i| acquire(&stores[i % 2], &seven));
        let answers = futures::future::join_all(asked).await;
        let leases = answers
            .iter()
            .filter(|answer| matches!(answer, Acquired::Leased { .. }));
        assert_eq!(leases.count(), 1);
        let waiting = answers
            .into_iter()
            .filter(|answer| !matches!(answer, Acquired::Leased { .. }));
        for answer in waiting {
            let (lasts, known) = busy(answer);
            assert!(lasts > 9 * S && lasts <= 10 * S && known.is_none());
        }
    }
}

// I2
#[tokio::test]
async fn a_lease_that_has_expired_fills_nothing_not_even_under_the_next_ones_name() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    let answer = store.acquire(&seven, AcquireOptions::new(S)).await.unwrap();
    let (slow, _) = leased(answer);
    let lasts = busy(acquire(&store, &seven).await).0;
    assert!(lasts <= S, "{lasts:?}");
    eventually("it has expired", async || {
        server.ask::<i64>(&["EXISTS", "app:l:{k=7}"]) == 0
    })
    .await;
    let next = lease(&store, &seven).await;
    assert!(!fill(&store, &seven, slow, "slow").await);
    assert!(look(&store, &seven).await.is_none());
    assert!(fill(&store, &seven, next, "next").await);
    assert_eq!(look(&store, &seven).await.unwrap().value, "next");
}

#[tokio::test]
async fn a_lease_fills_one_entry_once() {
    let server = Server::start();
    let store = connect(&server).await;
    let (seven, eight) = (key("7"), key("8"));
    let of_eight = lease(&store, &eight).await;
    let _of_seven = lease(&store, &seven).await;
    assert!(!fill(&store, &seven, of_eight, "8").await);
    assert!(look(&store, &seven).await.is_none());
}

#[tokio::test]
async fn a_load_that_an_invalidation_overtook_is_not_stored_in_any_mode() {
    let server = Server::start();
    let (store, writer) = (connect(&server).await, connect(&server).await);
    let page = tagged("page", "items");
    for mode in [InvalidationMode::Drop, InvalidationMode::Keep] {
        for by_tag in [false, true] {
            let before = lease(&store, &page).await;
            match by_tag {
                true => invalidate_tag(&writer, "items", mode).await,
                false => invalidate(&writer, &page, mode).await,
            }
            // It binds nobody any more: the next one need not wait for it.
            let after = lease(&store, &page).await;
            assert!(!fill(&store, &page, before, "old").await);
            assert!(look(&store, &page).await.is_none());
            assert!(fill(&store, &page, after, "new").await);
            assert_eq!(look(&store, &page).await.unwrap().value, "new");
            invalidate(&writer, &page, InvalidationMode::Drop).await;
        }
    }
}

#[tokio::test]
async fn whoever_asks_early_gets_the_lease_and_all_others_the_fresh_entry() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    put(&store, &seven, "old").await;
    let early = async || {
        store
            .acquire(&seven, AcquireOptions::new(10 * S).early())
            .await
            .unwrap()
    };
    let (granted, known) = leased(early().await);
    assert_eq!(known.unwrap().value, "old");
    assert_eq!(fresh(early().await).value, "old");
    assert_eq!(fresh(acquire(&store, &seven).await).value, "old");
    assert!(fill(&store, &seven, granted, "new").await);
    assert_eq!(fresh(acquire(&store, &seven).await).value, "new");
    // A stale one is waited for, early or not.
    invalidate(&store, &seven, InvalidationMode::Keep).await;
    let _granted = lease(&store, &seven).await;
    assert!(busy(early().await).1.unwrap().outdated);
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_anybodys_but_only_its_holder_can_do_so() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    let first = lease(&store, &seven).await;
    invalidate(&store, &seven, InvalidationMode::Drop).await;
    let second = lease(&store, &seven).await;
    store.release(&seven, first).await.unwrap();
    busy(acquire(&store, &seven).await);
    store.release(&seven, second).await.unwrap();
    let third = lease(&store, &seven).await;
    assert!(fill(&store, &seven, third, "x").await);
}
