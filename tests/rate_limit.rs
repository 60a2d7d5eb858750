#![cfg(feature = "rate-limit")]
#![allow(missing_docs)]

use buttress::{
    Error, Kind, RateLimiter, Rejected,
    guard::{End, Guard, Policy},
    Now, Time,
    rate_limit::Algorithm,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<(), Error<Infallible>>;

#[tokio::test(start_paused = true)]
async fn the_call_above_the_quota_is_refused_with_the_time_to_come_back() {
    let limiter = RateLimiter::new("api", 2, SECOND).unwrap();
    assert!(limiter.run(async || Answer::Ok(())).await.is_ok());
    tokio::time::advance(Duration::from_millis(300)).await;
    assert!(limiter.run(async || Answer::Ok(())).await.is_ok());
    let refused = limiter.run(async || Answer::Ok(())).await;
    let Err(Error::Rejected(rejected)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(rejected.kind(), Kind::RateLimited);
    assert_eq!(rejected.policy(), "api");
    let wait = rejected.retry_after().unwrap();
    assert_eq!(wait, Duration::from_millis(700));
    tokio::time::advance(wait).await;
    assert!(limiter.run(async || Answer::Ok(())).await.is_ok());
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.allowed, snapshot.rejected), (3, 1));
}
