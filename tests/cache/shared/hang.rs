//! Redis is stopped: it takes connections and questions, and never answers.

use crate::{servers::Redis, shared::away::SLACK, shared::support::*, support::*};
use buttress::cache::{Cache, Store};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_millis(200);

/// What calls cost while Redis hangs and when it goes on; each for its own key, so that none shares
/// another's load.
async fn costs<St: Store<u32>>(redis: &Redis, cache: &Instance<St>) {
    let source = Source::new();
    let mut key = 0;
    let mut call = async || {
        let source = source.clone();
        key += 1;
        let (took, answer) = timed(cache.run(&key.to_string(), move || source.load())).await;
        answer.unwrap();
        took
    };
    call().await;
    redis.suspend().unwrap();
    let mut first = Vec::new();
    while cache.snapshot().store_up {
        first.push(call().await);
    }
    // So many failures in a row open the breaker.
    assert!(first.len() <= 6, "{first:?}");
    assert!(first.iter().all(|took| *took <= TIMEOUT + SLACK));

    let (mut then, began) = (Vec::new(), Instant::now());
    while began.elapsed() < 1000 * MS || then.len() < 200 {
        then.push(call().await);
        tokio::time::sleep(2 * MS).await;
    }
    then.sort();
    let (usual, slowest) = (then[then.len() / 2], then[then.len() - 1]);
    assert!(usual <= 5 * MS, "{usual:?}");
    // A probe now and then: one in half a second or more.
    assert!(slowest <= TIMEOUT + SLACK, "{slowest:?}");
    let probes = then.iter().filter(|took| **took >= TIMEOUT / 2).count();
    let most = 2 + began.elapsed().as_millis() / 400;
    assert!(probes as u128 <= most, "{probes} of {}", then.len());

    redis.resume().unwrap();
    let back = Instant::now();
    eventually("it is used again", async || {
        source.ask(cache).await.1.contains("hit")
    })
    .await;
    assert!(back.elapsed() < 2 * SECOND + SLACK, "{:?}", back.elapsed());
    assert!(cache.snapshot().store_up);
}

#[tokio::test]
async fn a_redis_that_hangs_costs_its_timeout_at_first_and_then_nothing() {
    let redis = Redis::start().unwrap();
    let cache: Cache<u32, _> = instance(&redis, terms().store_timeout(TIMEOUT)).await;
    costs(&redis, &cache).await;
}

#[tokio::test]
async fn memory_over_a_redis_that_hangs_costs_no_more() {
    let redis = Redis::start().unwrap();
    let cache = tiered(&redis, terms().store_timeout(TIMEOUT)).await;
    costs(&redis, &cache).await;
}

#[tokio::test]
async fn a_redis_that_hangs_in_mid_load_does_not_hold_up_its_answer() {
    let redis = Redis::start().unwrap();
    let cache = instance(&redis, terms().store_timeout(TIMEOUT)).await;
    let source = Source::new();
    source.hold_up();
    let call = ask(&source, &cache);
    eventually("it loads", async || source.loads() == 1).await;
    redis.suspend().unwrap();
    source.let_go(1);
    let (took, answer) = timed(call).await;
    assert_eq!(answer.unwrap(), (Ok(1), "items; fwd=uri-miss".into()));
    assert!(took <= TIMEOUT + SLACK, "{took:?}");
    redis.resume().unwrap();
}

#[tokio::test]
async fn a_source_that_fails_while_redis_hangs_is_answered_with_what_was_known() {
    let redis = Redis::start().unwrap();
    let terms = terms().freshness(windows(100 * MS, MS, 60 * SECOND));
    let cache = instance(&redis, terms.store_timeout(TIMEOUT)).await;
    let source = Source::new();
    let _ = source.ask(&cache).await;
    source.broken(true);
    source.hold_up();
    tokio::time::sleep(101 * MS).await;
    let call = ask(&source, &cache);
    eventually("it loads", async || source.loads() == 2).await;
    redis.suspend().unwrap();
    source.let_go(1);
    let (answer, status) = call.await.unwrap();
    assert_eq!(answer, Ok(1));
    assert!(status.ends_with("; detail=sie"), "{status}");
    redis.resume().unwrap();
}
