//! Many who want the same, in one process and in several.

use crate::{servers::Redis, shared::support::*, support::*};
use buttress::{
    Error, Kind,
    cache::{Cache, Store},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::task::JoinHandle;

type Calls = Vec<JoinHandle<(Answer, String)>>;

/// So many calls on each instance, all of them begun while the load is held up.
pub(crate) async fn gather<St: Store<u32>>(
    source: &Source,
    instances: &[Instance<St>],
    each: usize,
) -> Calls {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut calls = Vec::new();
    for _ in 0..each {
        for cache in instances {
            let (source, cache, begun) = (source.clone(), cache.clone(), Arc::clone(&begun));
            calls.push(tokio::spawn(async move {
                begun.fetch_add(1, SeqCst);
                source.ask(&cache).await
            }));
        }
    }
    let all = async || begun.load(SeqCst) == calls.len() && source.loads() > 0;
    eventually("all have asked", all).await;
    calls
}

/// What all of them get when the load ends.
async fn crowd<St: Store<u32>>(instances: &[Instance<St>], each: usize) -> (Source, Vec<String>) {
    let source = Source::new();
    source.hold_up();
    let calls = gather(&source, instances, each).await;
    source.let_go(1_000);
    let mut statuses = Vec::new();
    for call in calls {
        let (answer, status) = call.await.unwrap();
        assert_eq!(answer, Ok(1), "{status}");
        statuses.push(status);
    }
    (source, statuses)
}

fn loads<St: Store<u32>>(instances: &[Instance<St>]) -> u64 {
    instances
        .iter()
        .map(|cache| cache.snapshot().loads_total)
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_misses_are_one_load() {
    let redis = Redis::start().unwrap();
    let cache = [instance(&redis, patient()).await];
    let (source, statuses) = crowd(&cache, 10_000).await;
    assert_eq!((source.loads(), loads(&cache)), (1, 1));
    let led = |status: &&String| **status == "items; fwd=uri-miss; stored";
    assert_eq!(statuses.iter().filter(led).count(), 1);
    assert_eq!(cache[0].snapshot().in_flight, 0);
    assert_eq!(lease(&redis), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_misses_on_four_instances_are_one_load() {
    let redis = Redis::start().unwrap();
    let mut four = Vec::new();
    for _ in 0..4 {
        four.push(instance(&redis, patient()).await);
    }
    let (source, _) = crowd(&four, 2_500).await;
    assert_eq!((source.loads(), loads(&four)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_misses_on_four_instances_with_memory_are_one_load() {
    let redis = Redis::start().unwrap();
    let mut four = Vec::new();
    for _ in 0..4 {
        four.push(tiered(&redis, patient()).await);
    }
    let (source, _) = crowd(&four, 2_500).await;
    assert_eq!((source.loads(), loads(&four)), (1, 1));
    // By now every instance has it in its memory.
    for cache in &four {
        assert_eq!((source.ask(cache).await.0, cache.store().len()), (Ok(1), 1));
    }
}

// cases 52, 56
#[tokio::test]
async fn a_load_that_fails_fails_for_all_in_its_process_and_is_not_kept() {
    let redis = Redis::start().unwrap();
    let (cache, source) = ([instance(&redis, patient()).await], Source::new());
    source.hold_up();
    source.broken(true);
    let mut calls = gather(&source, &cache, 1_000).await;
    let [cache] = cache;
    source.let_go(1_000);
    let leader = calls.remove(0).await.unwrap().0;
    assert_eq!(leader, Err(Error::Service(Broken)));
    for call in calls {
        let answer = call.await.unwrap().0;
        let Err(Error::Rejected(rejected)) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (rejected.kind(), rejected.policy()),
            (Kind::LoadFailed, "items")
        );
        assert!(rejected.reached_service());
    }
    assert_eq!((source.loads(), cache.snapshot().collapsed_total), (1, 999));
    assert_eq!(names(&redis), [""; 0], "neither the error nor a lease");
    source.broken(false);
    let (answer, status) = source.ask(&cache).await;
    assert_eq!(
        (answer, &*status),
        (Ok(source.loads()), "items; fwd=uri-miss; stored")
    );
}

#[tokio::test]
async fn an_instance_whose_neighbour_failed_tries_itself_and_does_not_wait_for_the_lease_to_end() {
    let redis = Redis::start().unwrap();
    let [here, there] = instances(&redis, patient).await;
    let (broken, well) = (Source::new(), Source::new());
    broken.hold_up();
    broken.broken(true);
    let failing = ask(&broken, &here);
    eventually("it loads", async || broken.loads() == 1).await;
    let waiting = ask(&well, &there);
    eventually("it waits", async || there.snapshot().in_flight == 1).await;
    broken.let_go(1);
    assert!(failing.await.unwrap().0.is_err());
    let (took, answer) = timed(waiting).await;
    assert_eq!(answer.unwrap().0, Ok(1));
    assert!(took < LEASE / 4, "{took:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_to_be_kept_is_not_and_leaves_no_lease() {
    let redis = Redis::start().unwrap();
    let cache = instance(&redis, patient()).await;
    for load in 1..=3 {
        let cached = cache
            .lookup("7")
            .freshness(|_: &u32| None)
            .run(move || async move { Ok::<_, Error<Broken>>(load) })
            .await
            .unwrap();
        assert_eq!(
            (cached.value, &*cached.status.to_string()),
            (load, "items; fwd=uri-miss")
        );
        assert_eq!(names(&redis), [""; 0]);
    }
}

#[tokio::test]
async fn that_something_is_not_there_is_an_answer_too() {
    let redis = Redis::start().unwrap();
    let users: Cache<Option<u32>, _> = patient().store(store(&redis)).build().unwrap();
    let nobody = || async { Ok::<_, Error<Broken>>(None) };
    eventually("it is stored", async || {
        let found = users.run("ada", nobody).await.unwrap();
        assert_eq!(found.value, None);
        found.status.hit()
    })
    .await;
}
