//! Leaders that are dropped in mid-load.

use crate::{servers::Redis, shared::support::*, support::*};

// case 53
#[tokio::test]
async fn a_leader_that_is_dropped_is_followed_by_the_next_with_its_lease() {
    let redis = Redis::start().unwrap();
    let (cache, source) = (instance(&redis, patient()).await, Source::new());
    source.hold_up();
    let mut leader = ask(&source, &cache);
    eventually("it loads", async || source.loads() == 1).await;
    let held = lease(&redis);
    assert!(held.is_some());
    let mut followers: Vec<_> = (0..4).map(|_| ask(&source, &cache)).collect();
    settle().await;
    for loads in 2..=4 {
        leader.abort();
        // The first of those who wait: the same lease, and no question to Redis.
        leader = followers.remove(0);
        eventually("the next one loads", async || source.loads() == loads).await;
        assert_eq!(lease(&redis), held);
    }
    source.let_go(1);
    assert_eq!(
        leader.await.unwrap(),
        (Ok(4), "items; fwd=uri-miss; stored".into())
    );
    assert_eq!(
        followers.remove(0).await.unwrap(),
        (Ok(4), "items; fwd=uri-miss; stored; collapsed".into())
    );
    assert_eq!(lease(&redis), None);
    assert!(source.ask(&cache).await.1.starts_with("items; hit; ttl="));
}

// case 53
#[tokio::test]
async fn another_instance_takes_over_and_does_not_wait_for_the_lease_to_end() {
    let redis = Redis::start().unwrap();
    let [here, there] = instances(&redis, patient).await;
    let source = Source::new();
    source.hold_up();
    let leader = ask(&source, &here);
    eventually("it loads", async || source.loads() == 1).await;
    let other = ask(&source, &there);
    eventually("the other waits", async || there.snapshot().in_flight == 1).await;
    let held = lease(&redis);
    leader.abort();
    let (took, ()) = timed(eventually("the other loads", async || source.loads() == 2)).await;
    assert!(took < LEASE / 4, "{took:?}");
    assert_ne!(lease(&redis), held);
    source.let_go(1);
    assert_eq!(
        other.await.unwrap(),
        (Ok(2), "items; fwd=uri-miss; stored".into())
    );
}

// An instance that dies gives nothing back.
#[tokio::test]
async fn a_lease_that_nobody_gives_back_binds_nobody_for_longer_than_it_lasts() {
    let redis = Redis::start().unwrap();
    let [here, there] = instances(&redis, || patient().lease(300 * MS)).await;
    let source = Source::new();
    source.hold_up();
    let _hangs = ask(&source, &here);
    eventually("it loads", async || source.loads() == 1).await;
    let other = ask(&source, &there);
    eventually("the other loads", async || source.loads() == 2).await;
    source.let_go(2);
    assert!(other.await.unwrap().0.is_ok());
}
