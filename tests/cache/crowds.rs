//! Many who want the same.

use crate::support::*;
use buttress::{Error, Kind, cache::Cache, timeout::Deadline};
use futures::future::{join, join_all};
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn ten_thousand_misses_are_one_load() {
    let (cache, source) = (cache(), Source::taking(SECOND));
    let answers = join_all((0..10_000).map(|_| source.ask(&cache))).await;
    assert!(answers.iter().all(|(answer, _)| *answer == Ok(1)));
    assert_eq!(source.loads(), 1);
    let collapsed = |(_, status): &&(Answer, String)| status.ends_with("; collapsed");
    assert_eq!(answers.iter().filter(collapsed).count(), 9_999);
    assert_eq!(
        (cache.snapshot().collapsed_total, cache.snapshot().in_flight),
        (9_999, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_misses_on_many_threads_are_one_load() {
    let (cache, source) = (cache(), Source::new());
    source.hold_up();
    let ask = || {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move { source.ask(&cache).await.0 })
    };
    let asked: Vec<_> = (0..10_000).map(|_| ask()).collect();
    while source.loads() == 0 {
        tokio::task::yield_now().await;
    }
    source.let_go(10_000);
    for answer in asked {
        assert_eq!(answer.await.unwrap(), Ok(1));
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_fails_for_all_who_shared_it_and_is_not_kept() {
    let (cache, source) = (cache(), Source::taking(SECOND));
    source.broken(true);
    let answers = join_all((0..100).map(|_| source.ask(&cache))).await;
    assert_eq!(source.loads(), 1);
    assert_eq!(answers[0].0, Err(Error::Service(Broken)));
    for (answer, _) in &answers[1..] {
        let Err(Error::Rejected(rejected)) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (rejected.kind(), rejected.policy()),
            (Kind::LoadFailed, "items")
        );
        assert!(rejected.reached_service());
    }
    source.broken(false);
    assert_eq!(source.ask(&cache).await.0, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_below_is_shared_as_what_it_is() {
    let cache = cache();
    let breaker = buttress::CircuitBreaker::new("db");
    breaker.force_open();
    let ask = || {
        let breaker = breaker.clone();
        cache.run("7", move || async move {
            tokio::task::yield_now().await;
            breaker.run(async || Ok::<u32, Error<Broken>>(1)).await
        })
    };
    for answer in join_all((0..3).map(|_| ask())).await {
        let Err(Error::Rejected(rejected)) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (rejected.kind(), rejected.policy()),
            (Kind::CircuitOpen, "db")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_dropped_is_followed_by_the_next() {
    let (cache, source) = (cache(), Source::new());
    source.hold_up();
    let ask = || {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move { source.ask(&cache).await })
    };
    let leader = ask();
    settle().await;
    let followers = [ask(), ask(), ask()];
    settle().await;
    assert_eq!(source.loads(), 1);
    leader.abort();
    settle().await;
    assert_eq!(
        source.loads(),
        2,
        "a follower loads, without waiting for the lease to run out"
    );
    source.let_go(1);
    for follower in followers {
        assert_eq!(follower.await.unwrap().0, Ok(2));
    }
    // What it loaded was stored: the lease had been handed over.
    assert_eq!(source.ask(&cache).await.1, "items; hit; ttl=10");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_dropped_with_nobody_behind_it_leaves_no_lease() {
    let (cache, source) = (cache(), Source::new());
    source.hold_up();
    let leader = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { source.ask(&cache).await }
    });
    settle().await;
    leader.abort();
    settle().await;
    source.let_go(1);
    let start = tokio::time::Instant::now();
    assert_eq!(source.ask(&cache).await.0, Ok(2));
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);
    assert_eq!(cache.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_panics_is_followed_by_the_next() {
    let (cache, source) = (cache(), Source::new());
    let (panicking, go) = (cache.clone(), source.clone());
    go.hold_up();
    let leader = tokio::spawn(async move {
        let load = move || async move {
            go.load().await?;
            panic!("boom")
        };
        panicking.run::<Error<Broken>, _, _>("7", load).await
    });
    settle().await;
    let follower = source.ask(&cache);
    let boom = async {
        settle().await;
        source.let_go(2);
        assert!(leader.await.is_err());
    };
    assert_eq!(join(follower, boom).await.0.0, Ok(2));
    assert_eq!(cache.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_ran_out_of_time_does_not_fail_those_who_have_some() {
    let (cache, source) = (cache(), Source::taking(SECOND));
    let timed = {
        let cache = cache.clone();
        let timeout = buttress::Timeout::new("db", 10 * SECOND);
        let load = source.clone();
        async move {
            let run = cache.run("7", move || async move {
                timeout.run(async || load.load().await).await
            });
            Deadline::within(500 * MS).scope(run).await
        }
    };
    let (impatient, patient) = join(timed, source.ask(&cache)).await;
    let Err(Error::Rejected(rejected)) = impatient else {
        panic!("{impatient:?}")
    };
    assert_eq!(rejected.kind(), Kind::DeadlineExceeded);
    assert_eq!(patient.0, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_ends_after_its_callers_deadline_is_stored_or_gives_its_lease_back() {
    let (cache, source) = (cache(), Source::taking(SECOND));
    let ask = async || {
        let began = tokio::time::Instant::now();
        let late = Deadline::within(500 * MS).scope(source.ask(&cache));
        (late.await.0, began.elapsed())
    };
    source.broken(true);
    for _ in 0..2 {
        let (answer, took) = ask().await;
        assert_eq!((answer, took), (Err(Error::Service(Broken)), SECOND));
    }
    source.broken(false);
    assert_eq!(ask().await.0, Ok(3));
    assert_eq!(source.ask(&cache).await.0, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_never_ends_is_waited_for_no_longer_than_its_lease() {
    for hung in 1..5 {
        let cache: Cache<u32> = terms().lease(2 * SECOND).build().unwrap();
        let source = Source::new();
        let all = join_all((0..hung).map(|_| cache.run("7", std::future::pending::<Answer>)));
        let start = tokio::time::Instant::now();
        let ask = async {
            settle().await;
            source.ask(&cache).await
        };
        tokio::select! {
            _ = all => panic!("they hang"),
            (answer, _) = ask => assert_eq!(answer, Ok(1)),
        }
        // However many of those hang who asked before.
        assert!(
            start.elapsed() <= 2_002 * MS,
            "{hung} {:?}",
            start.elapsed()
        );
    }
}

/// Each answer is written over while it is read, so it is neither stored nor for those who asked
/// later than it was read; a failure is for all.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_more_than_the_load_under_way_and_the_next() {
    for broken in [false, true] {
        let (cache, source) = (cache(), Source::taking(SECOND));
        source.broken(broken);
        let mut calls = Vec::new();
        for _ in 0..200 {
            let (asked, source) = (cache.clone(), source.clone());
            calls.push(tokio::spawn(async move {
                let start = tokio::time::Instant::now();
                assert_eq!(source.ask(&asked).await.0.is_err(), broken);
                start.elapsed()
            }));
            tokio::time::sleep(50 * MS).await;
            cache.invalidate("7").await.unwrap();
        }
        let longest = join_all(calls).await.into_iter().map(Result::unwrap).max();
        // Who asks just after a load has begun waits for it, and for a whole one.
        let expected = if broken { SECOND } else { 2 * SECOND - 50 * MS };
        assert_eq!(longest, Some(expected));
        // One load after the other, in 10 s of questions: nobody loads beside somebody.
        assert_eq!(source.loads(), if broken { 10 } else { 11 });
    }
}

#[tokio::test(start_paused = true)]
async fn followers_of_many_keys_do_not_wait_for_each_other() {
    let cache = cache();
    let loads = (0..100).map(|key: u32| {
        let cache = &cache;
        async move {
            let load = move || async move {
                tokio::time::sleep(SECOND).await;
                Ok::<_, Error<Broken>>(key)
            };
            cache.run(&key.to_string(), load).await.unwrap().value
        }
    });
    let start = tokio::time::Instant::now();
    let answers = join_all(loads).await;
    assert_eq!(answers, (0..100).collect::<Vec<_>>());
    assert!(start.elapsed() < 2 * SECOND);
    advance(SECOND).await;
}
