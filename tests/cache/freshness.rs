//! What is answered at which age.

use crate::support::*;
use buttress::{Error, Outcome, cache::Freshness};
use std::time::Duration;
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn what_is_fresh_is_answered_without_a_load() {
    let (cache, source) = (cache(), Source::new());
    assert_eq!(
        source.ask(&cache).await,
        (Ok(1), "items; fwd=uri-miss; stored".into())
    );
    advance(9_999 * MS).await;
    assert_eq!(
        source.ask(&cache).await,
        (Ok(1), "items; hit; ttl=0".into())
    );
    let snapshot = cache.snapshot();
    assert_eq!(
        (
            snapshot.loads_total,
            snapshot.fresh_total,
            snapshot.stored_total
        ),
        (1, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_is_answered_while_one_load_looks_for_a_new_answer() {
    let (cache, source) = (cache(), Source::taking(SECOND));
    let _ = source.ask(&cache).await;
    advance(10 * SECOND).await;
    for _ in 0..10 {
        let (answer, status) = source.ask(&cache).await;
        assert_eq!(
            (answer, &*status),
            (Ok(1), "items; hit; ttl=-1; detail=swr")
        );
    }
    settle().await;
    assert_eq!(source.loads(), 2, "one looks, the others know");
    advance(SECOND).await;
    settle().await;
    let (answer, status) = source.ask(&cache).await;
    // Its age counts from the beginning of its load.
    assert_eq!((answer, &*status), (Ok(2), "items; hit; ttl=9"));
    assert_eq!(cache.snapshot().refreshes_total, 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_takes_long_makes_its_answer_older_not_later_stale() {
    let (cache, source) = (cache(), Source::taking(4 * SECOND));
    let _ = source.ask(&cache).await;
    advance(5_999 * MS).await;
    assert_eq!(source.ask(&cache).await.1, "items; hit; ttl=0");
    advance(MS).await;
    assert_eq!(source.ask(&cache).await.1, "items; hit; ttl=0; detail=swr");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_better_than_an_error_until_it_is_too_old() {
    let (cache, source) = (cache(), Source::new());
    let _ = source.ask(&cache).await;
    source.broken(true);
    advance(60 * SECOND).await;
    let (answer, status) = source.ask(&cache).await;
    assert_eq!(
        (answer, &*status),
        (Ok(1), "items; fwd=stale; ttl=-50; detail=sie")
    );
    assert_eq!(cache.snapshot().if_error_total, 1);
    advance(50 * SECOND).await;
    assert_eq!(source.ask(&cache).await.0, Err(Error::Service(Broken)));
    source.broken(false);
    let (answer, status) = source.ask(&cache).await;
    assert_eq!(
        (answer, &*status),
        (Ok(4), "items; fwd=uri-miss; stored"),
        "errors are not stored"
    );
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_mistake_is_not_answered_with_a_stale_answer() {
    let (cache, source) = (cache(), Source::new());
    let _ = source.ask(&cache).await;
    advance(60 * SECOND).await;
    source.broken(true);
    let mistakes = |result: Result<&u32, &Error<Broken>>| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Ignored,
    };
    let load = source.clone();
    let answer = cache
        .lookup("7")
        .classify(mistakes)
        .run(move || load.load());
    assert_eq!(answer.await.unwrap_err(), Error::Service(Broken));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_says_that_the_service_is_unwell_is_not_stored_and_gives_way_to_a_stale_one()
{
    let cache = cache();
    let zero_is_unwell = |result: Result<&u32, &Error<Broken>>| match result {
        Ok(0) | Err(_) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    };
    let ask = async |answer: u32| {
        let load = move || async move { Ok::<_, Error<Broken>>(answer) };
        let cached = cache
            .lookup("7")
            .classify(zero_is_unwell)
            .run(load)
            .await
            .unwrap();
        (cached.value, cached.status.is_stale())
    };
    assert_eq!(ask(0).await, (0, false));
    assert_eq!(ask(5).await, (5, false), "zero was not stored");
    advance(30 * SECOND).await;
    assert_eq!(ask(0).await, (5, true));
}

// Negative entries too.
#[tokio::test(start_paused = true)]
async fn an_answer_may_be_kept_for_a_time_of_its_own_or_not_at_all() {
    let (cache, source) = (cache(), Source::new());
    let keep = |n: &u32| match n {
        1 => None,
        2 => Some(Freshness::fresh(SECOND)),
        _ => Some(Freshness::fresh(Duration::MAX)),
    };
    let ask = async || {
        let load = source.clone();
        let cached = cache.lookup("7").freshness(keep).run(move || load.load());
        cached.await.unwrap().value
    };
    assert_eq!(ask().await, 1);
    assert_eq!(
        (ask().await, ask().await),
        (2, 2),
        "the first was not stored"
    );
    advance(SECOND).await;
    assert_eq!((ask().await, ask().await), (3, 3));
    advance(10_000 * SECOND).await;
    assert_eq!(ask().await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_dead_source_is_asked_about_once_a_second() {
    let (cache, source) = (cache(), Source::new());
    let _ = source.ask(&cache).await;
    source.broken(true);
    advance(12 * SECOND).await;
    for _ in 0..800 {
        assert_eq!(source.ask(&cache).await.0, Ok(1));
        advance(100 * MS).await;
    }
    let loads = source.loads() - 1;
    // Once a second in the end, or a little more often, for pauses are jittered.
    assert!((70..=150).contains(&loads), "{loads} loads in 80 s");
    source.broken(false);
    for _ in 0..15 {
        let _ = source.ask(&cache).await;
        advance(100 * MS).await;
    }
    assert!(
        source.ask(&cache).await.0.unwrap() > 1,
        "it is noticed when the source is back"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_source_that_hangs_if_there_is_a_stale_answer() {
    let (cache, source) = (cache(), Source::new());
    let timeout = buttress::Timeout::new("db", SECOND);
    let ask = async |key: u32| {
        let (source, timeout) = (source.clone(), timeout.clone());
        let load = move || async move { timeout.run(async || source.load().await).await };
        let start = tokio::time::Instant::now();
        let cached = cache.run(&key.to_string(), load).await.unwrap();
        (cached.status.is_stale(), start.elapsed())
    };
    for key in 0..20 {
        ask(key).await;
    }
    advance(60 * SECOND).await;
    source.hold_up();
    let mut waited = 0;
    for round in 0..5 {
        for key in 0..20 {
            let (stale, took) = ask(key).await;
            assert!(stale);
            waited += u32::from(!took.is_zero());
        }
        advance(round * 300 * MS).await;
    }
    assert_eq!(waited, 3, "then it is known");
    source.let_go(1_000);
    advance(2 * SECOND).await;
    for key in 0..20 {
        assert!(ask(key).await.1.is_zero());
    }
    settle().await;
    for key in 0..20 {
        assert!(!ask(key).await.0, "{key} is fresh again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_a_lot_is_refreshed_before_it_is_stale() {
    let cache = terms().early_refresh(1.0).seed(7).build().unwrap();
    let source = Source::taking(500 * MS);
    let _ = source.ask(&cache).await;
    for _ in 0..2_000 {
        let (_, status) = source.ask(&cache).await;
        assert!(
            status.contains("; hit; ttl=") && !status.contains("detail"),
            "{status}"
        );
        advance(50 * MS).await;
        settle().await;
    }
    // 100 s, in which each answer would be fresh for 10 s.
    let loads = source.loads();
    assert!((11..=30).contains(&loads), "{loads}");
}

#[tokio::test(start_paused = true)]
async fn answers_that_were_loaded_together_do_not_go_stale_together() {
    let cache = terms().jitter(0.5).seed(3).build::<u32>().unwrap();
    for key in 0..1_000_u32 {
        let load = move || async move { Ok::<_, Error<Broken>>(key) };
        cache.run(&key.to_string(), load).await.unwrap();
    }
    let stale = async || {
        let mut stale = 0;
        for key in 0..1_000_u32 {
            let load = move || async move { Err::<u32, _>(Error::Service(Broken)) };
            let cached = cache.run(&key.to_string(), load).await.unwrap();
            stale += u32::from(cached.status.is_stale());
        }
        stale
    };
    advance(4_999 * MS).await;
    assert_eq!(stale().await, 0);
    advance(2_500 * MS).await;
    assert!((400..600).contains(&stale().await));
    advance(2_501 * MS).await;
    assert_eq!(stale().await, 1_000, "never later");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_for_years_finds_nothing_fresh() {
    let (cache, source) = (cache(), Source::new());
    let _ = source.ask(&cache).await;
    advance(Duration::from_secs(20 * 365 * 86_400)).await;
    assert_eq!(source.ask(&cache).await.0, Ok(2));
}
