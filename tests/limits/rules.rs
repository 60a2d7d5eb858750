//! Each limit window by window, and the alternatives in front of a service.

use super::{
    cell::{Cell, Happens, Times},
    world::World,
};
use buttress::{
    LoadShed, Time,
    load_shed::limit::{
        Adaptive, Aimd, Fixed, Gradient2, Latencies, Limit, NextWindow, SampleWindow, Vegas,
        WindowProgress,
    },
};
use std::time::Duration;

/// A window of 100 calls, all of this latency in milliseconds, at its limit.
fn busy(limit: usize, millis: f64) -> SampleWindow {
    let latency = millis / 1e3;
    let lasted = 100.0 * latency / limit as f64;
    let mut window = SampleWindow::starting(Time::from_nanos(0), limit);
    window.ended = Time::from_nanos((lasted * 1e9) as u64);
    window.completions = 100;
    window.in_flight_integral = 100.0 * latency;
    window.latency_sum = 100.0 * latency;
    window.latency_squares = 100.0 * latency * latency;
    window.latency_min = latency;
    window.peak_in_flight = limit;
    window.saturated_share = 1.0;
    window.used = true;
    window.within = latencies(latency);
    window.at_limit = latencies(latency);
    window
}

fn latencies(seconds: f64) -> Latencies {
    let mut latencies = Latencies::default();
    (latencies.count, latencies.mean, latencies.trimmed) = (100, seconds, seconds);
    latencies
}

/// The same with one call in flight, and a limit nobody ran into.
fn idle(limit: usize, millis: f64) -> SampleWindow {
    let mut window = busy(1, millis);
    window.limit = limit;
    window.saturated_share = 0.0;
    window.used = false;
    window.at_limit = Latencies::default();
    window
}

fn all() -> Vec<Box<dyn Limit>> {
    vec![
        Box::new(Fixed(20)),
        Box::new(Adaptive::new()),
        Box::new(Aimd::new()),
        Box::new(Vegas::new()),
        Box::new(Gradient2::new()),
    ]
}

#[test]
fn traffic_that_does_not_use_the_limit_does_not_raise_it() {
    for mut limit in all() {
        let before = limit.initial();
        let mut now = Time::from_nanos(0);
        for _ in 0..1_000 {
            now = now.after(Duration::from_secs(1));
            let after = limit.on_window(&idle(before, 10.0), now);
            assert!(after <= before, "{limit:?}");
        }
    }
}

#[test]
fn a_service_that_becomes_faster_gets_its_limit_back() {
    let mut limits = all();
    for limit in limits.iter_mut().skip(1) {
        let mut n = limit.initial();
        for millis in [50.0, 10.0] {
            for i in 0..2_000 {
                // Ten workers: beyond ten, latency is in proportion.
                let millis = millis * (n as f64 / 10.0).max(1.0);
                n = limit.on_window(&busy(n, millis), Time::from_nanos(i * 1_000_000_000));
            }
        }
        assert!((10..=1_000).contains(&n), "{n}: {limit:?}");
    }
}

#[test]
fn no_window_however_odd_breaks_a_limit() {
    for mut limit in all() {
        let mut n = limit.initial();
        for i in 0..1_000_u64 {
            let mut window = busy(
                n,
                [0.0, 10.0, f64::NAN, f64::INFINITY, -1.0][i as usize % 5],
            );
            if i % 7 == 0 {
                window = SampleWindow::starting(Time::from_nanos(u64::MAX), n);
            }
            window.lost = [0, 1, 1_000, u64::MAX][i as usize % 4];
            n = limit.on_window(
                &window,
                Time::from_nanos(if i % 11 == 0 { 0 } else { u64::MAX / 2 + i }),
            );
            assert!((1..=10_000).contains(&n), "{n} {limit:?}");
            let _ = (limit.close(), limit.base_latency());
        }
        for i in 0..2_000 {
            let millis = 10.0 * (n as f64 / 10.0).max(1.0);
            n = limit.on_window(&busy(n, millis), Time::from_nanos(i * 1_000_000_000));
        }
        assert!((10..=1_000).contains(&n), "afterwards {n} {limit:?}");
    }
}

#[test]
fn when_most_calls_are_lost_the_adaptive_limit_halves_even_when_it_is_not_used() {
    let mut limit = Adaptive::new();
    let mut window = idle(20, 10.0);
    window.peak_in_flight = 16;
    window.lost = 150;
    assert_eq!(limit.on_window(&window, Time::from_nanos(1)), 8);
    // One who leaves a quiet service says nothing.
    let mut quiet = idle(8, 10.0);
    (quiet.completions, quiet.lost, quiet.peak_in_flight) = (0, 1, 1);
    assert_eq!(limit.on_window(&quiet, Time::from_nanos(2)), 8);
    // With fewer lost, a lower limit is tried, and kept if fewer are lost under it.
    let mut window = busy(8, 10.0);
    window.lost = 50;
    assert_eq!(limit.on_window(&window, Time::from_nanos(2)), 4);
    let n = limit.on_window(&busy(4, 10.0), Time::from_nanos(3));
    assert!(n < 4, "{n}");
}

#[test]
fn the_refusals_of_one_round_trip_are_one_event() {
    let mut limit = Aimd::new();
    let mut window = busy(20, 10.0);
    window.overloaded = 8;
    assert_eq!(limit.on_window(&window, Time::from_nanos(0)), 18);
    assert_eq!(limit.on_window(&busy(18, 10.0), Time::from_nanos(0)), 19);
    let mut slow = Aimd::new().timeout(Duration::from_millis(100));
    assert_eq!(slow.on_window(&busy(20, 200.0), Time::from_nanos(0)), 18);
}

#[test]
fn two_limits_and_the_latencies_under_them_tell_the_parallelism() {
    let second = |n: u64| Time::from_nanos(n * 1_000_000_000);
    // Ten workers of 10 ms: beyond ten, latency is in proportion.
    let seen = |n: usize| busy(n, 10.0 * (n as f64 / 10.0).max(1.0));
    let mut limit = Adaptive::new();
    // The first time that the limit is used, half of it is tried.
    assert_eq!(limit.on_window(&seen(20), second(1)), 10);
    // That is where it lies or above, so half of that is; and there nothing waits.
    assert_eq!(limit.on_window(&seen(10), second(2)), 5);
    let n = limit.on_window(&seen(5), second(3));
    assert!((14..=20).contains(&n), "{n}");
    assert_eq!(limit.base_latency(), Some(Duration::from_millis(10)));
    // Nothing is tried while nothing is new, then what is known.
    assert_eq!(limit.on_window(&seen(n), second(3)), n);
    let tried = limit.on_window(&seen(n), second(30));
    assert!((9..=11).contains(&tried), "{tried}");
    let again = limit.on_window(&seen(tried), second(31));
    assert!(again.abs_diff(n) <= 1, "{again} after {n}");
    // Twice in a row out of proportion: at once.
    let soon = |millis: u64| Time::from_nanos(31_000_000_000 + millis * 1_000_000);
    assert_eq!(limit.on_window(&seen(again), soon(200)), again);
    assert_eq!(limit.on_window(&busy(again, 100.0), soon(400)), again);
    assert!(limit.on_window(&busy(again, 100.0), soon(600)) < again);
}

#[test]
fn a_window_closes_by_its_ends_and_their_latency_or_by_time() {
    let next = NextWindow::after(50);
    let at = |within, at_limit, millis, latency| {
        next.is_over(&WindowProgress {
            elapsed: Duration::from_millis(millis),
            within,
            at_limit,
            latency,
            lost: 0,
        })
    };
    // Where hardly any are at the limit, twice as many others do.
    assert!(at(100, 0, 100, 0.05) && !at(99, 0, 100, 0.05) && !at(100, 0, 99, 0.01));
    assert!(at(50, 50, 100, 0.05) && !at(200, 49, 100, 0.05));
    // Two latencies.
    assert!(!at(100, 100, 199, 0.1) && at(100, 100, 200, 0.1));
    assert!(at(0, 0, 1_000, 0.0) && !at(0, 0, 999, 0.0));
    let lost = |lost, within| {
        next.is_over(&WindowProgress {
            elapsed: Duration::from_millis(100),
            within,
            lost,
            ..WindowProgress::default()
        })
    };
    assert!(lost(10, 9) && !lost(9, 0) && !lost(10, 10));
}

#[test]
fn limits_that_cannot_work_are_refused() {
    assert_eq!(
        Adaptive::new().starting_at(0).unwrap_err().field(),
        "initial"
    );
    assert_eq!(Adaptive::new().within(0, 5).unwrap_err().field(), "min");
    assert_eq!(Adaptive::new().within(6, 5).unwrap_err().field(), "max");
    assert_eq!(Adaptive::new().within(30, 50).unwrap().initial(), 30);
    assert_eq!(
        Adaptive::new().starting_at(usize::MAX).unwrap().initial(),
        10_000
    );
    assert_eq!(Aimd::new().up_to(0, 5).unwrap_err().field(), "initial");
    assert_eq!(Aimd::new().up_to(6, 5).unwrap_err().field(), "max");
    for bad in [0.0, 1.0, f64::NAN, -1.0] {
        assert_eq!(Aimd::new().backoff(bad).unwrap_err().field(), "backoff");
    }
    assert_eq!(Vegas::new().up_to(0, 5).unwrap_err().field(), "initial");
    assert_eq!(Vegas::new().up_to(6, 5).unwrap_err().field(), "max");
    assert_eq!(Gradient2::new().within(0, 1, 5).unwrap_err().field(), "min");
    assert_eq!(
        Gradient2::new().within(2, 1, 5).unwrap_err().field(),
        "initial"
    );
    assert_eq!(Gradient2::new().within(1, 6, 5).unwrap_err().field(), "max");
}

#[test]
fn the_alternatives_hold_a_plain_overload_of_ten_workers() {
    let rules: [(&str, Box<dyn Limit>); 3] = [
        ("fixed", Box::new(Fixed(15))),
        ("Vegas", Box::new(Vegas::new())),
        ("gradient", Box::new(Gradient2::new())),
    ];
    for (name, rule) in rules {
        let cell = Cell {
            workers: 10,
            times: Times::Exponential,
            mean: 0.01,
            load: 2.0,
            queued: true,
            patience: 1.0,
            streams: 0,
            happens: Happens::Nothing,
            seconds: 40.0,
            seed: 1,
        };
        let shed = LoadShed::builder("it").limit(rule).build().unwrap();
        let served = World::new(cell, shed).run().served as f64 / (38.0 * 1_000.0);
        assert!(served > 0.95, "{name}: {served}");
    }
}
