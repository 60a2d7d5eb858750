//! Each limit window by window, and the alternatives in the simulation.

use super::{
    scenarios::{Course, Table},
    sim::Service::Lognormal,
};
use buttress::{
    Time,
    load_shed::limit::{
        Adaptive, Aimd, Fixed, Gradient2, Limit, NextWindow, SampleWindow, Vegas, WindowProgress,
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
    window
}

/// The same with one call in flight, and a limit nobody ran into.
fn idle(limit: usize, millis: f64) -> SampleWindow {
    let mut window = busy(1, millis);
    window.limit = limit;
    window.saturated_share = 0.0;
    window.used = false;
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
fn calls_that_are_lost_halve_the_adaptive_limit_even_when_it_is_not_used() {
    let mut limit = Adaptive::new();
    let mut window = idle(20, 10.0);
    window.peak_in_flight = 20;
    window.lost = 50;
    assert_eq!(limit.on_window(&window, Time::from_nanos(0)), 10);
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
fn a_search_measures_only_after_the_calls_from_before_have_ended() {
    let mut limit = Adaptive::new();
    // The first time that a high start is used, it is looked at.
    let n1 = limit.on_window(&busy(20, 20.0), Time::from_nanos(0));
    assert_eq!(n1, 9);
    let close = limit.close();
    assert_eq!(close.drained, Some(9));
    let so_far = |in_flight, elapsed| WindowProgress {
        elapsed: Duration::from_millis(elapsed),
        in_flight,
        ..WindowProgress::default()
    };
    assert!(!close.is_over(&so_far(10, 999)));
    assert!(close.is_over(&so_far(9, 0)) && close.is_over(&so_far(20, 1_000)));
    // What those calls took is not looked at; flat latency means that there was no queue.
    assert_eq!(limit.on_window(&busy(9, 1_000.0), Time::from_nanos(0)), 9);
    assert_eq!(limit.close().drained, None);
    assert_eq!(limit.on_window(&busy(9, 20.0), Time::from_nanos(0)), 20);
    assert_eq!(limit.base_latency(), Some(Duration::from_millis(20)));
}

/// An adaptive limit of 20 that knows a base latency of 11 ms.
fn steady() -> Adaptive {
    let mut limit = Adaptive::new();
    assert_eq!(limit.on_window(&busy(20, 20.0), Time::from_nanos(0)), 9);
    assert_eq!(limit.on_window(&busy(9, 20.0), Time::from_nanos(0)), 9);
    assert_eq!(limit.on_window(&busy(9, 11.0), Time::from_nanos(0)), 20);
    limit
}

#[test]
fn a_terrible_latency_halves_the_limit_though_there_were_permits_to_spare() {
    let (mut limit, mut window) = (steady(), idle(20, 100.0));
    window.peak_in_flight = 16;
    assert_eq!(limit.on_window(&window, Time::from_nanos(1)), 8);
    let (mut limit, mut window) = (steady(), idle(20, 80.0));
    window.peak_in_flight = 16;
    assert_eq!(limit.on_window(&window, Time::from_nanos(1)), 20);
}

#[test]
fn two_windows_out_of_proportion_start_a_search_and_time_does() {
    let second = |n: u64| Time::from_nanos(n * 1_000_000_000);
    let mut limit = steady();
    let n = limit.on_window(&busy(20, 100.0), second(1));
    assert_eq!(limit.close().drained, None);
    assert_eq!(limit.on_window(&busy(n, 100.0), second(2)), 8);
    assert_eq!(limit.close().drained, Some(8));

    let mut limit = steady();
    let mut n = 20;
    for time in 1..=5 {
        n = limit.on_window(&busy(n, 20.0), second(time));
        assert_eq!(limit.close().drained, None, "{time}");
    }
    limit.on_window(&busy(n, 20.0), second(6));
    assert!(limit.close().drained.is_some());
}

#[test]
fn a_window_closes_after_its_ends_and_one_turnover_or_after_its_time_with_a_few() {
    let close = NextWindow::after(50);
    let at = |ends, millis, peak| {
        close.is_over(&WindowProgress {
            elapsed: Duration::from_millis(millis),
            ends,
            in_flight: 0,
            peak_in_flight: peak,
            limit: 200,
        })
    };
    assert!(at(50, 100, 10) && !at(49, 100, 10) && !at(50, 99, 10));
    assert!(!at(50, 100, 51) && at(51, 100, 51) && at(200, 100, 400));
    assert!(at(20, 1_000, 200) && !at(19, 1_000, 10));
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
        20
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
    fn goodput<L: Limit>(new: impl Fn() -> L) -> (f64, f64) {
        let mut table = Table::default();
        let course = Course {
            new: &new,
            seed: 1,
            by_arrivals: false,
        };
        course.steps("it", Lognormal(1.0), 10, &mut table);
        (table.mean("it 2x goodput"), table.mean("it 10x goodput"))
    }
    for (name, (twice, tenfold)) in [
        ("fixed", goodput(|| Fixed(15))),
        ("Vegas", goodput(Vegas::new)),
        ("gradient", goodput(Gradient2::new)),
    ] {
        println!("{name} {twice} {tenfold}");
        assert!(twice > 0.95 && tenfold > 0.95, "{name}: {twice} {tenfold}");
    }
}
