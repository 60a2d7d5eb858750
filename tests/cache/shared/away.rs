//! Redis is killed and comes back empty.

use crate::{servers::Redis, shared::crowds::gather, shared::support::*, support::*};
use buttress::{
    Error,
    cache::{KeyRef, Store},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const TIMEOUT: Duration = Duration::from_millis(100);
const LOAD: Duration = Duration::from_millis(20);

/// What a machine that is busy with something else may add.
pub(crate) const SLACK: Duration = Duration::from_millis(400);

/// Asks until it is told to stop, each time for another key; returns how long each call took.
fn caller<St: Store<u32>>(cache: &Instance<St>, stop: &Arc<AtomicBool>, name: usize) -> Caller {
    let (cache, stop) = (cache.clone(), Arc::clone(stop));
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let task = tokio::spawn(async move {
        let mut took = Vec::new();
        while !stop.load(SeqCst) {
            // Every other one was there before, if Redis was.
            let key = format!("{name} {}", took.len() / 2);
            let load = || async {
                tokio::time::sleep(LOAD).await;
                Ok::<_, Error<Broken>>(7)
            };
            let (time, answer) = timed(cache.run(&key, load)).await;
            assert_eq!(answer.unwrap().value, 7);
            took.push(time);
            counted.fetch_add(1, SeqCst);
        }
        took
    });
    Caller { calls, task }
}

struct Caller {
    calls: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<Duration>>,
}

/// Calls all the time, while Redis is killed and comes back, twice.
async fn killed<St: Store<u32>>(mut redis: Redis, cache: Instance<St>) {
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8).map(|name| caller(&cache, &stop, name)).collect();
    let more = async |calls: usize| {
        let goals: Vec<_> = callers
            .iter()
            .map(|caller| caller.calls.load(SeqCst) + calls)
            .collect();
        eventually("calls are answered", async || {
            let mut reached = callers.iter().zip(&goals);
            reached.all(|(caller, goal)| caller.calls.load(SeqCst) >= *goal)
        })
        .await;
    };
    for _ in 0..2 {
        more(20).await;
        let hits = cache.snapshot().fresh_total;
        assert!(hits > 0);
        redis.kill().unwrap();
        more(20).await;
        assert!(!cache.snapshot().store_up);
        redis.restart().unwrap();
        let back = Instant::now();
        let hits = cache.snapshot().fresh_total;
        eventually("it is used again", async || {
            cache.snapshot().fresh_total > hits
        })
        .await;
        assert!(back.elapsed() < 2 * SECOND + SLACK, "{:?}", back.elapsed());
    }
    stop.store(true, SeqCst);
    for caller in callers {
        let mut took = caller.task.await.unwrap();
        took.sort();
        let (slowest, usual) = (took[took.len() - 1], took[took.len() / 2]);
        assert!(slowest <= TIMEOUT + LOAD + SLACK, "{slowest:?}");
        assert!(usual <= TIMEOUT + LOAD, "{usual:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_killed_and_comes_back_every_call_is_answered_and_none_waits_for_it() {
    let redis = Redis::start().unwrap();
    let cache = instance(&redis, terms().store_timeout(TIMEOUT)).await;
    killed(redis, cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_memory_over_it_none_waits_for_a_redis_that_is_killed_and_comes_back_either() {
    let redis = Redis::start().unwrap();
    let cache = tiered(&redis, terms().store_timeout(TIMEOUT)).await;
    killed(redis, cache).await;
}

#[tokio::test]
async fn a_crowd_before_a_dead_redis_is_one_load_for_those_who_came_before_it_and_one_for_the_others()
 {
    let mut redis = Redis::start().unwrap();
    let cache = [instance(&redis, terms()).await];
    redis.kill().unwrap();
    let source = Source::new();
    source.hold_up();
    let calls = gather(&source, &cache, 1_000).await;
    source.let_go(1_000);
    for call in calls {
        assert!(call.await.unwrap().0.is_ok());
    }
    // Those who came after it had begun may not share it: they share the next.
    assert!(source.loads() <= 2, "{}", source.loads());
}

// I11
#[tokio::test]
async fn a_write_that_redis_does_not_hear_of_is_pending_and_can_be_repeated() {
    let mut redis = Redis::start().unwrap();
    let [here, there] = instances(&redis, || terms().store_timeout(TIMEOUT)).await;
    let source = Source::new();
    let tagged = KeyRef::new("7").tagged("items");
    for hangs in [true, false] {
        let _ = source.ask(&there).await;
        match hangs {
            true => redis.suspend().unwrap(),
            false => redis.kill().unwrap(),
        }
        let (took, pending) = timed(here.invalidate("7")).await;
        assert!(took <= TIMEOUT + SLACK, "{took:?}");
        let said = pending.unwrap_err().to_string();
        assert!(said.starts_with("the invalidation is pending: "), "{said}");
        assert!(here.invalidate(tagged).await.is_err());
        assert!(here.invalidate_tag("items").await.is_err());
        match hangs {
            true => redis.resume().unwrap(),
            false => redis.restart().unwrap(),
        }
        // What a relay does with what was written down beside the write.
        eventually("it is repeated", async || {
            let told = [
                here.invalidate("7").await.is_ok(),
                here.invalidate(tagged).await.is_ok(),
                here.invalidate_tag("items").await.is_ok(),
            ];
            told == [true; 3]
        })
        .await;
        let newest = source.loads() + 1;
        eventually("the other is told", async || {
            let (answer, status) = source.ask(&there).await;
            assert!(answer.unwrap() >= newest, "old, and told: {status}");
            status.contains("hit")
        })
        .await;
    }
    let snapshot = here.snapshot();
    assert!(
        snapshot.invalidations_pending_total >= 6
            && snapshot.invalidations_total >= snapshot.invalidations_pending_total + 6
    );
}

// A store that was never there.
#[tokio::test]
async fn an_instance_that_starts_while_redis_is_away_answers_and_finds_it_when_it_comes() {
    let mut redis = Redis::start().unwrap();
    redis.kill().unwrap();
    let cache = terms().store(store(&redis)).build().unwrap();
    let source = Source::new();
    for load in 1..=20 {
        let (answer, status) = source.ask(&cache).await;
        assert_eq!(
            (answer, &*status),
            (Ok(load), "items; fwd=uri-miss; detail=store-unavailable")
        );
    }
    redis.restart().unwrap();
    eventually("it is used", async || {
        source.ask(&cache).await.1.contains("hit")
    })
    .await;
}
