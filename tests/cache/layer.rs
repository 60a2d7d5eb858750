//! The cache as a tower layer.

use crate::support::*;
use buttress::{Error, Outcome};
use std::sync::Arc;
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

type Mock = mock::Mock<u32, u32>;

#[tokio::test(start_paused = true)]
async fn a_hit_is_answered_while_the_service_is_not_ready_and_holds_nothing_of_it() {
    let cache = cache();
    let layer = cache.layer(|req: &u32| Some(*req));
    let (mut service, mut handle) =
        mock::spawn_with(|inner: Mock| layer.layer(inner.map_err(|_| Error::Service(Broken))));
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    assert_request_eq!(handle, 7).send_response(70);
    settle().await;
    assert!(matches!(assert_ready!(call.poll()), Ok(70)));

    handle.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut hit = task::spawn(service.call(7));
    assert!(matches!(assert_ready!(hit.poll()), Ok(70)));
    // Another key waits for the service.
    let mut miss = task::spawn(service.call(8));
    assert_pending!(miss.poll());
    handle.allow(1);
    assert!(miss.is_woken());
    assert_pending!(miss.poll());
    assert_request_eq!(handle, 8).send_response(80);
    settle().await;
    assert!(matches!(assert_ready!(miss.poll()), Ok(80)));
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_key_pass_by() {
    let (cache, source) = (cache(), Source::new());
    let service = service_fn(move |_: Option<u32>| source.load());
    let mut cached = cache.layer(|req: &Option<u32>| *req).layer(service);
    let mut ask = async |req| cached.ready().await.unwrap().call(req).await.unwrap();
    assert_eq!([ask(None).await, ask(None).await], [1, 2]);
    assert_eq!([ask(Some(7)).await, ask(Some(7)).await], [3, 3]);
    assert_eq!(
        (
            cache.snapshot().bypassed_total,
            cache.snapshot().fresh_total
        ),
        (2, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_written_is_none() {
    struct Half(u32);
    impl std::fmt::Display for Half {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("half")?;
            if self.0 == 0 {
                Ok(())
            } else {
                Err(std::fmt::Error)
            }
        }
    }
    let (cache, source) = (cache(), Source::new());
    let service = service_fn(move |_: u32| source.load());
    let mut cached = cache.layer(|req: &u32| Some(Half(*req))).layer(service);
    let mut ask = async |req| cached.ready().await.unwrap().call(req).await.unwrap();
    assert_eq!(
        [ask(0).await, ask(1).await, ask(1).await, ask(0).await],
        [1, 2, 3, 1]
    );
}

#[tokio::test(start_paused = true)]
async fn all_layers_services_and_clones_of_a_cache_share_it() {
    let (cache, source) = (cache(), Source::new());
    let service = service_fn(move |_: u32| source.load());
    let key = |req: &u32| Some(*req);
    for _ in 0..3 {
        let cached = cache.clone().layer(key).layer(service.clone());
        assert_eq!(cached.clone().oneshot(7).await, Ok(1));
        assert_eq!(cached.oneshot(7).await, Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_says_what_a_stale_answer_is_better_than() {
    let cache = cache();
    let service = service_fn(|req: (u32, u32)| async move { Ok::<_, Error<Broken>>(req.1) });
    let zero_is_unwell = |result: Result<&u32, &Error<Broken>>| match result {
        Ok(0) | Err(_) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    };
    let layer = cache
        .layer(|req: &(u32, u32)| Some(req.0))
        .classify(zero_is_unwell);
    let mut cached = layer.layer(service);
    let mut ask = async |answer| {
        cached
            .ready()
            .await
            .unwrap()
            .call((7, answer))
            .await
            .unwrap()
    };
    assert_eq!((ask(5).await, ask(6).await), (5, 5));
    tokio::time::advance(60 * SECOND).await;
    assert_eq!(
        (ask(0).await, ask(8).await),
        (5, 5),
        "for a while the source is left alone"
    );
    tokio::time::advance(SECOND).await;
    assert_eq!(ask(8).await, 8);
}

#[tokio::test(start_paused = true)]
async fn the_load_in_the_background_outlives_its_caller_and_has_no_deadline() {
    use buttress::timeout::Deadline;
    let (cache, source) = (cache(), Source::taking(SECOND));
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let service = service_fn({
        let (source, seen) = (source.clone(), seen.clone());
        move |_: u32| {
            seen.lock().unwrap().push(Deadline::current().is_some());
            source.load()
        }
    });
    let cached = cache.layer(|req: &u32| Some(*req)).layer(service);
    let ask = || Deadline::within(2 * SECOND).scope(cached.clone().oneshot(7));
    assert_eq!(ask().await, Ok(1));
    tokio::time::advance(12 * SECOND).await;
    assert_eq!(ask().await, Ok(1));
    tokio::time::advance(SECOND).await;
    settle().await;
    tokio::time::advance(SECOND).await;
    settle().await;
    assert_eq!(ask().await, Ok(2));
    assert_eq!(*seen.lock().unwrap(), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_broken_before_it_is_called_says_so() {
    let cache = cache();
    let layer = cache.layer(|req: &u32| Some(*req));
    let (mut service, mut handle) =
        mock::spawn_with(|inner: Mock| layer.layer(inner.map_err(|_| Error::Service(Broken))));
    handle.send_error("gone");
    assert_ready_ok!(service.poll_ready());
    let answer = service.call(7).await;
    assert!(matches!(answer, Err(Error::Service(Broken))));
}
