//! The timeout of one request.

use buttress::{
    Error, Kind,
    timeout::{Deadline, Timeout},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
type Answer = Result<(), Error<&'static str>>;

fn kind(answer: Answer) -> Option<Kind> {
    match answer {
        Ok(()) => None,
        Err(Error::Rejected(rejected)) => Some(rejected.kind()),
        Err(Error::Service(error)) => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_request_sets_the_limit_within_the_timeouts_and_the_deadline() {
    let timeout = Timeout::new("api", 300 * MS);
    let layer = timeout.layer().limit_by(|req: &Duration| *req);
    let service = layer.layer(service_fn(async |_: Duration| -> Answer {
        sleep(1_000 * MS).await;
        Ok(())
    }));
    for (asked, within, ends, expected) in [
        (100, 5_000, 100, Kind::TimedOut),
        (5_000, 5_000, 300, Kind::TimedOut),
        (100, 50, 50, Kind::DeadlineExceeded),
        (0, 5_000, 0, Kind::TimedOut),
    ] {
        let start = Instant::now();
        let call = service.clone().oneshot(asked * MS);
        let answer = Deadline::within(within * MS).scope(call).await;
        assert_eq!(kind(answer), Some(expected));
        assert_eq!(start.elapsed(), ends * MS);
    }
    let start = Instant::now();
    let answer = service.oneshot(Duration::MAX).await;
    assert_eq!(kind(answer), Some(Kind::TimedOut));
    assert_eq!(start.elapsed(), 300 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_run_sets_it_too() {
    let timeout = Timeout::new("api", 300 * MS);
    for (asked, ends) in [(Duration::ZERO, 0), (100 * MS, 100), (Duration::MAX, 300)] {
        let start = Instant::now();
        let work = async || -> Answer {
            sleep(1_000 * MS).await;
            Ok(())
        };
        assert_eq!(
            kind(timeout.run_within(asked, work).await),
            Some(Kind::TimedOut)
        );
        assert_eq!(start.elapsed().as_millis(), ends);
    }
    assert_eq!(timeout.snapshot().timed_out_total, 3);
}
