//! One callback hears what all policies do.

use buttress::{
    CircuitBreaker, Error, ErrorsAsFailures, Kind, LoadShed, RateLimiter, Retry, Timeout,
    circuit_breaker::{Reason, State},
    events::{self, Event, Listener},
    retry::Backoff,
};
use std::{
    future::pending,
    io,
    sync::{Arc, Mutex},
    thread::yield_now,
    time::Duration,
};
use tokio_test::block_on;
use tower::{Layer, ServiceExt, service_fn};

type E = Error<io::Error>;

async fn ok() -> Result<u32, E> {
    Ok(7)
}

async fn gone() -> Result<u32, E> {
    Err(Error::Service(io::Error::other("gone")))
}

/// The policy that an event is about. Tests share the process, so each has names of its own.
fn policy(event: &Event) -> &'static str {
    match event {
        Event::Rejected { rejected, .. } => rejected.policy(),
        Event::StateChanged { policy, .. } | Event::Retried { policy, .. } => policy,
        other => panic!("{other:?}"),
    }
}

struct Heard(Arc<Mutex<Vec<Event>>>, Listener);

impl Heard {
    fn of(policies: &'static [&'static str]) -> Self {
        let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
        let list = Arc::clone(&heard);
        let listener = events::on_event(move |event| {
            if policies.contains(&policy(event)) {
                list.lock().unwrap().push(event.clone());
            }
        });
        Self(heard, listener)
    }

    fn end(self) -> Vec<Event> {
        self.1.remove();
        let events = self.0.lock().unwrap();
        events.clone()
    }
}

#[test]
fn a_trip_and_what_it_refuses_are_told_once_however_many_layers_are_outside() {
    let heard = Heard::of(&["trips", "outer"]);
    let breaker = CircuitBreaker::builder("trips").consecutive_failures(2);
    let (breaker, outer) = (breaker.build().unwrap(), CircuitBreaker::new("outer"));
    for _ in 0..2 {
        let _ = block_on(breaker.run(gone));
    }
    let refused = block_on(outer.run(async || breaker.run(ok).await));
    assert!(matches!(refused, Err(Error::Rejected(_))));
    breaker.reset();
    breaker.reset();
    let events = heard.end();
    let [opened, rejected, closed] = &events[..] else {
        panic!("{events:?}");
    };
    let Event::StateChanged { transition, .. } = opened else {
        panic!("{opened:?}");
    };
    assert_eq!(
        (transition.from, transition.to),
        (State::Closed, State::Open)
    );
    assert_eq!(transition.reason, Reason::ConsecutiveFailures);
    assert!(
        matches!(rejected, Event::Rejected { rejected, .. } if rejected.kind() == Kind::CircuitOpen)
    );
    let Event::StateChanged { transition, .. } = closed else {
        panic!("{closed:?}");
    };
    assert_eq!(
        (transition.to, transition.reason),
        (State::Closed, Reason::Reset)
    );
}

#[tokio::test(start_paused = true)]
async fn rejections_sheds_timeouts_and_retries_are_told_of_closures_and_layers() {
    let heard = Heard::of(&["quota", "room", "slow", "again"]);
    let limiter = RateLimiter::new("quota", 1, Duration::from_secs(60)).unwrap();
    let shed = LoadShed::builder("room").fixed(1).build().unwrap();
    let timeout = Timeout::new("slow", Duration::from_millis(10));
    let backoff = Backoff::constant(Duration::ZERO);
    let retry = Retry::builder("again").attempts(2).backoff(backoff);
    let retry = retry.build().unwrap();

    for _ in 0..2 {
        let _ = limiter.run(ok).await;
    }
    let _ = shed.run(async || shed.run(ok).await).await;
    let _ = timeout.run(pending::<Result<u32, E>>).await;
    let _ = retry.run(gone).await;
    let service = service_fn(async |_: u8| gone().await);
    let service = retry.layer().classify(ErrorsAsFailures).layer(service);
    let _ = service.oneshot(1).await;
    assert!(retry.run(ok).await.is_ok(), "success tells of nothing");

    let events = heard.end();
    let told: Vec<String> = events
        .iter()
        .map(|event| match event {
            Event::Rejected { rejected, .. } => format!("{}", rejected.kind()),
            Event::Retried { attempt, .. } => format!("attempt {attempt}"),
            other => format!("{other:?}"),
        })
        .collect();
    let kinds = [Kind::RateLimited, Kind::Overloaded, Kind::TimedOut];
    let mut wanted: Vec<String> = kinds.map(|kind| kind.to_string()).into();
    wanted.extend(["attempt 2".to_owned(), "attempt 2".to_owned()]);
    assert_eq!(told, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_off_after_its_head_is_told_to_its_reader_only() {
    struct Stalls;
    impl http_body::Body for Stalls {
        type Data = bytes::Bytes;
        type Error = io::Error;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, io::Error>>> {
            std::task::Poll::Pending
        }
    }
    let heard = Heard::of(&["stalls"]);
    let timeout = Timeout::new("stalls", Duration::from_millis(10));
    let layer = timeout.layer().http().whole();
    let service = layer.layer(service_fn(async |_: http::Request<()>| {
        Ok::<_, E>(http::Response::new(Stalls))
    }));
    let answer = service.oneshot(http::Request::new(())).await.unwrap();
    let read = http_body_util::BodyExt::collect(answer.into_body()).await;
    assert!(read.is_err());
    assert_eq!(timeout.snapshot().timed_out_total, 1);
    assert!(heard.end().is_empty());
}

#[test]
fn callbacks_are_told_in_the_order_in_which_they_came() {
    let told: Arc<Mutex<Vec<u32>>> = Arc::default();
    let listeners: Vec<_> = (0..3)
        .map(|n| {
            let told = Arc::clone(&told);
            events::on_event(move |event| {
                if policy(event) == "in order" {
                    told.lock().unwrap().push(n);
                }
            })
        })
        .collect();
    let breaker = CircuitBreaker::new("in order");
    breaker.force_open();
    assert!(block_on(breaker.run(ok)).is_err());
    listeners.into_iter().for_each(Listener::remove);
    assert_eq!(*told.lock().unwrap(), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_callback_that_panics_harms_no_call_and_no_other_callback() {
    let panics = events::on_event(|event| assert_ne!(policy(event), "panics", "as it should"));
    let heard = Heard::of(&["panics"]);
    let breaker = CircuitBreaker::new("panics");
    breaker.force_open();
    for _ in 0..2 {
        assert!(matches!(block_on(breaker.run(ok)), Err(Error::Rejected(_))));
    }
    panics.remove();
    assert_eq!(heard.end().len(), 3);
}

#[test]
fn a_callback_may_use_the_policy_that_it_is_told_of_and_is_not_told_of_that() {
    let breaker = CircuitBreaker::new("used within");
    let (told, inside) = (Arc::new(Mutex::new(0)), breaker.clone());
    let count = Arc::clone(&told);
    let listener = events::on_event(move |event| {
        if policy(event) == "used within" {
            *count.lock().unwrap() += 1;
            // It would wait for itself if a lock were held, and call itself if it were told.
            inside.force_closed();
            inside.force_open();
            let _ = inside.snapshot();
            assert!(block_on(inside.run(ok)).is_err());
            events::on_event(|_| {}).remove();
        }
    });
    breaker.force_open();
    assert!(block_on(breaker.run(ok)).is_err());
    listener.remove();
    assert!(block_on(breaker.run(ok)).is_err());
    assert_eq!(*told.lock().unwrap(), 2);
}

#[test]
fn what_a_callback_is_refused_is_not_held_against_the_call_that_it_is_told_of() {
    let (open, noisy) = (CircuitBreaker::new("open"), CircuitBreaker::new("noisy"));
    open.force_open();
    let listener = events::on_event(move |event| {
        if policy(event) == "noisy" {
            assert!(block_on(open.run(ok)).is_err());
        }
    });
    let outer = CircuitBreaker::new("outside");
    let answer = block_on(outer.run(async || {
        noisy.force_open();
        gone().await
    }));
    listener.remove();
    assert!(matches!(answer, Err(Error::Service(_))));
    assert_eq!(outer.snapshot().failures_total, 1);
}

#[test]
fn a_callback_is_dropped_when_it_is_removed_and_stays_when_its_handle_is_dropped() {
    let held = Arc::new(());
    let (kept, also) = (Arc::clone(&held), Arc::clone(&held));
    let listener = events::on_event(move |_| assert!(Arc::strong_count(&kept) > 0));
    let _ = events::on_event(move |_| assert!(Arc::strong_count(&also) > 0));
    assert_eq!(Arc::strong_count(&held), 3);
    listener.remove();
    // Another test's thread may be telling it of something at this very moment.
    while Arc::strong_count(&held) > 2 {
        yield_now();
    }
    assert_eq!(Arc::strong_count(&held), 2);
}
