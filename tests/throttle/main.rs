#![cfg(feature = "throttle")]
#![allow(missing_docs)]

mod defaults;

use buttress::{Classify, Error, Kind, Now, Outcome, Throttle, Time};
use buttress::{
    guard::{Admission, End, Guard, GuardBase, GuardLayer},
    throttle::ThrottleBuilder,
};
use std::{io, time::Duration};
use tower::{Layer, Service, ServiceExt, service_fn};

const OVERLOADED: End = End::Done(Outcome::Overloaded { retry_after: None });
const SUCCESS: End = End::Done(Outcome::Success);
/// Well away from zero.
const START: u64 = 3_600_000_000_000;

fn builder() -> ThrottleBuilder {
    Throttle::builder("search").seed(7)
}

fn at(millis: u64) -> Now {
    Now::at(Time::from_nanos(START + millis * 1_000_000))
}

/// Makes a call at this time that ends at once; false if it was held back.
fn call(throttle: &Throttle, millis: u64, end: End) -> bool {
    match throttle.admit(&(), &at(millis)) {
        Admission::Admitted(()) => {
            throttle.settle((), end, &at(millis));
            true
        }
        Admission::Refused(rejected) => {
            assert_eq!(
                (rejected.kind(), rejected.policy()),
                (Kind::Throttled, "search")
            );
            assert_eq!(rejected.retry_after(), None);
            false
        }
        Admission::Wait(never) => match never {},
    }
}

/// One call in each millisecond of this stretch; how many were sent.
fn calls(throttle: &Throttle, from: u64, until: u64, end: End) -> u64 {
    (from..until).filter(|t| call(throttle, *t, end)).count() as u64
}

#[test]
fn the_first_refusals_of_a_rare_client_hold_nothing_back() {
    let throttle = builder().minimum_calls(20).build().unwrap();
    assert_eq!(calls(&throttle, 0, 20, OVERLOADED), 20);
    assert!(calls(&throttle, 20, 1_000, OVERLOADED) < 980);
}

#[test]
fn what_was_held_back_when_the_hundredth_had_the_same_number_is_forgotten() {
    let throttle = builder().build().unwrap();
    assert!(calls(&throttle, 0, 1_000, OVERLOADED) < 1_000);
    // 2^32 hundredths of a second later. Then one call of many is refused, which holds back none.
    let later = (1 << 32) * 10;
    assert_eq!(calls(&throttle, later + 500, later + 990, SUCCESS), 490);
    assert!(call(&throttle, later + 990, OVERLOADED));
    assert_eq!(calls(&throttle, later + 991, later + 1_300, SUCCESS), 309);
}

#[test]
fn a_dead_service_still_gets_the_share_above_the_cap() {
    let throttle = builder().build().unwrap();
    calls(&throttle, 0, 1_000, OVERLOADED);
    let sent = calls(&throttle, 1_000, 11_000, OVERLOADED);
    assert!((1_850..2_150).contains(&sent), "{sent}");
}

#[test]
fn a_service_is_sent_what_it_accepts_times_the_multiplier() {
    for multiplier in [2.0, 1.5, 1.1] {
        // The cap alone would let through one of each 1000.
        let throttle = builder().multiplier(multiplier).max_rejection(0.999);
        let throttle = throttle.minimum_calls(0).build().unwrap();
        // It accepts two hundred calls a second at most, one in each five milliseconds.
        let (mut sent, mut accepted, mut room) = (0, 0, false);
        for t in 0..30_000 {
            room |= t % 5 == 0;
            if call(&throttle, t, if room { SUCCESS } else { OVERLOADED }) {
                sent += u64::from(t >= 5_000);
                accepted += u64::from(t >= 5_000 && room);
                room = false;
            }
        }
        let times = sent as f64 / accepted as f64;
        let expected = multiplier * 0.98..multiplier + 0.06;
        assert!(expected.contains(&times), "{multiplier}: {times}");
    }
}

/// That is when those that were refused have left the window, and some more.
#[test]
fn everything_is_sent_again_within_two_windows_of_a_total_outage() {
    for (window, every) in [(1_000, 1), (1_000, 10), (10_000, 10), (120_000, 100)] {
        for seed in 0..10 {
            let throttle = builder().seed(seed).window(Duration::from_millis(window));
            let throttle = throttle.build().unwrap();
            let outage = 10 * window;
            for t in (0..outage).step_by(every) {
                call(&throttle, t, OVERLOADED);
            }
            let mut back = 0;
            for t in (0..5 * window).step_by(every) {
                if !call(&throttle, outage + t, SUCCESS) {
                    back = t;
                }
            }
            let expected = window / 2..=2 * window;
            assert!(expected.contains(&back), "{window} {every} {seed}: {back}");
        }
    }
}

#[test]
fn idleness_forgets_an_outage() {
    let throttle = builder().build().unwrap();
    calls(&throttle, 0, 5_000, OVERLOADED);
    assert_eq!(calls(&throttle, 6_100, 6_103, OVERLOADED), 3);
    let throttle = builder().build().unwrap();
    calls(&throttle, 0, 5_000, OVERLOADED);
    assert_eq!(calls(&throttle, 86_400_000, 86_401_000, SUCCESS), 1_000);
}

#[test]
fn only_refusals_by_the_service_hold_calls_back() {
    for end in [
        SUCCESS,
        End::Done(Outcome::Failure),
        End::Done(Outcome::Ignored),
        End::Done(Outcome::Refused),
        End::TimedOut,
        End::Cancelled,
        End::RequestFailed,
        End::Panicked,
        End::NeverStarted,
    ] {
        let throttle = builder().build().unwrap();
        assert_eq!(calls(&throttle, 0, 3_000, end), 3_000, "{end:?}");
    }
}

#[test]
fn cancelled_calls_are_neither_accepted_nor_refused() {
    let throttle = builder().build().unwrap();
    for t in 0..500 {
        call(&throttle, t, OVERLOADED);
        let Admission::Admitted(()) = throttle.admit(&(), &at(2 * t / 1_000)) else {
            continue;
        };
        throttle.settle((), End::Cancelled, &at(t));
    }
    let sent = calls(&throttle, 500, 10_500, OVERLOADED);
    assert!((1_850..2_150).contains(&sent), "{sent}");
}

#[test]
fn a_clock_that_jumps_does_not_hold_calls_back_for_ever() {
    let throttle = builder().build().unwrap();
    calls(&throttle, 10_000_000, 10_001_000, OVERLOADED);
    // Hours back, and hours ahead.
    assert_eq!(calls(&throttle, 0, 1_000, SUCCESS), 1_000);
    assert_eq!(calls(&throttle, 90_000_000, 90_001_000, SUCCESS), 1_000);
    let _ = throttle.admit(&(), &Now::at(Time::from_nanos(u64::MAX)));
    throttle.settle((), OVERLOADED, &Now::at(Time::from_nanos(u64::MAX)));
    let _ = throttle.admit(&(), &Now::at(Time::from_nanos(0)));
}

#[test]
fn a_seed_repeats_the_choices() {
    let choices = |seed| {
        let throttle = builder().seed(seed).build().unwrap();
        (0..2_000)
            .map(|t| call(&throttle, t, OVERLOADED))
            .collect::<Vec<_>>()
    };
    assert_eq!(choices(1), choices(1));
    assert_ne!(choices(1), choices(2));
}

#[test]
fn a_cap_of_zero_only_watches() {
    let throttle = builder().max_rejection(0.0).build().unwrap();
    assert_eq!(calls(&throttle, 0, 1_000, OVERLOADED), 1_000);
    assert_eq!(throttle.snapshot().overloaded_total, 1_000);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |builder: ThrottleBuilder| builder.build().unwrap_err().field().to_owned();
    for bad in [0.0, 0.999, -1.0, 1001.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(builder().multiplier(bad)), "multiplier");
    }
    for bad in [1.0, -0.1, 0.9999, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(builder().max_rejection(bad)), "max_rejection");
    }
    for bad in [Duration::ZERO, Duration::from_millis(9), Duration::MAX] {
        assert_eq!(refused(builder().window(bad)), "window");
    }
    let calls = builder().minimum_calls(u32::MAX).build().unwrap();
    assert!(call(&calls, 0, OVERLOADED));
}

#[tokio::test(start_paused = true)]
async fn the_layer_learns_from_the_classifier_and_clones_share_what_it_learnt() {
    #[derive(Clone)]
    struct BusyIsOverload;
    impl Classify<(), Error<io::Error>> for BusyIsOverload {
        fn classify(&self, result: Result<&(), &Error<io::Error>>) -> Outcome {
            match result {
                Ok(()) => Outcome::Success,
                Err(_) => Outcome::Overloaded { retry_after: None },
            }
        }
    }
    let throttle = builder().build().unwrap();
    let busy = || service_fn(async |()| Err::<(), _>(Error::Service(io::Error::other("busy"))));
    let layers: [GuardLayer<_, _>; 2] = [(); 2].map(|()| throttle.layer().classify(BusyIsOverload));
    let mut services = layers.map(|layer| layer.layer(busy()));
    let mut held_back = 0;
    for i in 0..400 {
        let service = &mut services[i % 2];
        let answer = service.ready().await.unwrap().call(()).await;
        held_back += u64::from(matches!(answer, Err(Error::Rejected(_))));
    }
    let seen = throttle.clone().snapshot();
    assert_eq!((seen.name, seen.calls, seen.accepted), ("search", 400, 0));
    assert_eq!(
        (seen.rejected_total, seen.overloaded_total),
        (held_back, 400 - held_back)
    );
    assert!(held_back > 250 && seen.probability == 0.8, "{seen:?}");
    tokio::time::advance(Duration::from_millis(1_001)).await;
    assert_eq!(
        (throttle.snapshot().calls, throttle.snapshot().probability),
        (0, 0.0)
    );
    let ok = throttle.run(async || Ok::<_, Error<io::Error>>(())).await;
    assert!(ok.is_ok());
}

#[test]
fn threads_count_together() {
    let throttle = builder().build().unwrap();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..10_000 {
                    throttle.settle((), SUCCESS, &at(1));
                    throttle.settle((), OVERLOADED, &at(1));
                }
            });
        }
    });
    assert_eq!(throttle.snapshot().overloaded_total, 40_000);
}
