//! Stale answers, which all instances have in common.

use crate::{servers::Redis, shared::support::*, support::*};
use buttress::{Error, Outcome, cache::InvalidationMode};
use std::{collections::BTreeMap, time::Instant};

#[tokio::test]
async fn what_is_stale_is_answered_while_one_instance_looks_for_a_new_answer() {
    let redis = Redis::start().unwrap();
    let terms = || patient().freshness(windows(200 * MS, 60 * SECOND, 60 * SECOND));
    let both = instances(&redis, terms).await;
    let source = Source::new();
    assert_eq!(
        source.ask(&both[0]).await,
        (Ok(1), "items; fwd=uri-miss; stored".into())
    );
    source.hold_up();
    for cache in &both {
        eventually("it is stale", async || {
            let (answer, status) = source.ask(cache).await;
            assert_eq!(answer, Ok(1));
            assert!(status.starts_with("items; hit; ttl="), "{status}");
            status.ends_with("; detail=swr")
        })
        .await;
    }
    eventually("it is loaded", async || source.loads() == 2).await;
    for cache in both.iter().cycle().take(50) {
        let (answer, status) = source.ask(cache).await;
        assert_eq!(answer, Ok(1));
        assert!(status.ends_with("; detail=swr"), "{status}");
    }
    assert_eq!(source.loads(), 2, "one looks, for both instances");
    source.let_go(1);
    for cache in &both {
        eventually("it is new", async || source.ask(cache).await.0 == Ok(2)).await;
    }
    eventually("every load but the first was a refresh", async || {
        let refreshes = both[0].snapshot().refreshes_total + both[1].snapshot().refreshes_total;
        refreshes == u64::from(source.loads()) - 1
    })
    .await;
}

// cases 54, 56, 58
#[tokio::test]
async fn a_stale_answer_is_better_than_an_error_on_every_instance_and_is_not_stored_again() {
    let redis = Redis::start().unwrap();
    let terms = || patient().freshness(windows(100 * MS, MS, 600 * SECOND));
    let both = instances(&redis, terms).await;
    let source = Source::new();
    let _ = source.ask(&both[0]).await;
    let stored = || command::<BTreeMap<String, Vec<u8>>>(&redis, &["HGETALL", "app:v:{k=7}"]);
    let expiry = || command::<i64>(&redis, &["PEXPIRETIME", "app:v:{k=7}"]);
    let before = (stored(), expiry());
    source.broken(true);
    for cache in &both {
        eventually("it is stale", async || {
            let (answer, status) = source.ask(cache).await;
            assert_eq!(answer, Ok(1), "{status}");
            status.starts_with("items; fwd=stale; ttl=-") && status.ends_with("; detail=sie")
        })
        .await;
    }
    let (loads, began) = (source.loads(), Instant::now());
    for cache in both.iter().cycle().take(200) {
        assert_eq!(source.ask(cache).await.0, Ok(1));
    }
    // The shortest pause is half of the first, 125 ms; each instance has its own.
    let most = 2 * (1 + began.elapsed().as_millis() / 62);
    assert!(u128::from(source.loads() - loads) <= most, "it backs off");
    assert_eq!((stored(), expiry()), before);
    assert!(both[0].snapshot().if_error_total > 0);

    source.broken(false);
    for cache in &both {
        let recovered = async || source.ask(cache).await.0.is_ok_and(|answer| answer > 1);
        eventually("it is loaded again", recovered).await;
    }
}

#[tokio::test]
async fn after_its_time_a_stale_answer_is_none_and_errors_are_not_stored() {
    let redis = Redis::start().unwrap();
    let terms = patient().freshness(windows(100 * MS, MS, 400 * MS));
    let (cache, source) = (instance(&redis, terms).await, Source::new());
    let before = Instant::now();
    let _ = source.ask(&cache).await;
    let stored = Instant::now();
    source.broken(true);
    // Its lease was granted between the two.
    let (end, least) = (stored + 500 * MS, before + 490 * MS);
    loop {
        let began = Instant::now();
        match source.ask(&cache).await.0 {
            Ok(answer) => assert!(answer == 1 && began < end),
            Err(error) => break assert_eq!(error, Error::Service(Broken)),
        }
    }
    assert!(Instant::now() > least, "nor is it gone too soon");
    eventually("it is gone", async || names(&redis).is_empty()).await;
    source.broken(false);
    let (answer, status) = source.ask(&cache).await;
    assert_eq!(
        (answer, &*status),
        (Ok(source.loads()), "items; fwd=uri-miss; stored")
    );
}

#[tokio::test]
async fn an_error_that_is_the_callers_own_is_not_answered_with_something_stale() {
    let redis = Redis::start().unwrap();
    let terms = patient().freshness(windows(50 * MS, MS, 600 * SECOND));
    let (cache, source) = (instance(&redis, terms).await, Source::new());
    let _ = source.ask(&cache).await;
    let theirs = |answer: Result<&u32, &Error<Broken>>| match answer {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Ignored,
    };
    eventually("it is stale", async || {
        let failed = cache.lookup("7").classify(theirs);
        let answer = failed.run(|| async { Err(Error::Service(Broken)) }).await;
        answer.is_err()
    })
    .await;
    assert_eq!(lease(&redis), None);
    source.broken(true);
    assert!(source.ask(&cache).await.1.ends_with("; detail=sie"));
}

#[tokio::test]
async fn what_was_invalidated_is_gone_or_kept_for_errors_as_it_was_told() {
    let redis = Redis::start().unwrap();
    let [here, there] = instances(&redis, patient).await;
    let source = Source::new();
    let _ = source.ask(&here).await;
    here.invalidate_with("7", InvalidationMode::Keep)
        .await
        .unwrap();
    source.broken(true);
    let (answer, status) = source.ask(&there).await;
    assert_eq!(answer, Ok(1));
    assert!(status.ends_with("; detail=sie"), "{status}");
    here.invalidate("7").await.unwrap();
    assert_eq!(
        source.ask(&there).await.0,
        Err(Error::Service(Broken)),
        "known to be outdated, and not to be kept"
    );
}
