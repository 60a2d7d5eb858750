//! Leaders that are dropped in mid-load.

use crate::{servers::Redis, shared::support::*, support::*};
use buttress::{
    Error,
    cache::{KeyRef, Store},
};
use std::time::Duration;

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

/// As over a store in memory: what was dropped while it led, by its key or by its tag, is not handed
/// on by a leader that goes away.
async fn does_not_hand_on_what_was_dropped<St: Store<u32>>(cache: &Instance<St>, by_tag: bool) {
    let source = Source::new();
    let key = KeyRef::new("7").tagged("all");
    let ask = || {
        let (source, cache) = (source.clone(), cache.clone());
        tokio::spawn(async move { source.ask_for(&cache, key).await.0 })
    };
    assert_eq!(ask().await.unwrap(), Ok(1));
    tokio::time::sleep(150 * MS).await;
    source.hold_up();
    let leader = ask();
    eventually("it loads", async || source.loads() == 2).await;
    for other in ["1", "2", "3"] {
        let broken = async || Err::<u32, _>(Error::Service(Broken));
        assert!(cache.run(other, broken).await.is_err());
    }
    match by_tag {
        true => cache.invalidate_tag("all").await.unwrap(),
        false => cache.invalidate(key).await.unwrap(),
    }
    let after = ask();
    settle().await;
    leader.abort();
    // Nothing stale is there for it, so it loads as well.
    eventually("the next one loads", async || source.loads() == 3).await;
    source.broken(true);
    source.let_go(1);
    assert_eq!(after.await.unwrap(), Err(Error::Service(Broken)));
}

#[tokio::test]
async fn a_leader_that_goes_away_does_not_hand_on_what_was_dropped() {
    let redis = Redis::start().unwrap();
    let terms = || patient().freshness(windows(100 * MS, Duration::ZERO, 1_000 * SECOND));
    for by_tag in [false, true] {
        does_not_hand_on_what_was_dropped(&instance(&redis, terms()).await, by_tag).await;
        command::<()>(&redis, &["FLUSHALL"]);
        does_not_hand_on_what_was_dropped(&tiered(&redis, terms()).await, by_tag).await;
        command::<()>(&redis, &["FLUSHALL"]);
    }
}
