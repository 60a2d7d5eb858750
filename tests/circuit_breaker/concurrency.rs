//! Many threads.

use super::*;
use buttress::circuit_breaker::State;
use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread,
};

#[test]
fn totals_are_exact_however_many_threads_count() {
    for builder in [
        plain().window(10 * MILLI).minimum_calls(1_000_000),
        plain().count_window(50).minimum_calls(50),
    ] {
        let builder = builder.failure_rate(1.0);
        let breaker = builder.without_consecutive_failures().build().unwrap();
        thread::scope(|s| {
            for t in 0..4_u32 {
                let breaker = &breaker;
                s.spawn(move || {
                    for n in 0..20_000 {
                        call(breaker, if (n + t) % 4 == 0 { UNWELL } else { WELL });
                    }
                });
            }
        });
        let snapshot = breaker.snapshot();
        assert_eq!(
            (snapshot.successes_total, snapshot.failures_total),
            (60_000, 20_000)
        );
        assert_eq!(
            (snapshot.state, snapshot.rejected_total),
            (State::Closed, 0)
        );
    }
}

#[test]
fn while_it_is_open_nothing_passes_on_any_thread() {
    let breaker = plain()
        .consecutive_failures(1)
        .open_for(3_600 * SECOND)
        .build()
        .unwrap();
    let opened = AtomicBool::new(false);
    let (passed, rejected) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..50_000 {
                    // Read before: what is let in after it was seen open is wrong.
                    let was_open = opened.load(SeqCst);
                    match admit(&breaker) {
                        Ok(permit) => {
                            passed.fetch_add(u64::from(was_open), SeqCst);
                            end(&breaker, permit, WELL);
                        }
                        Err(_) => _ = rejected.fetch_add(1, SeqCst),
                    }
                }
            });
        }
        s.spawn(|| {
            call(&breaker, UNWELL);
            opened.store(true, SeqCst);
        });
    });
    assert_eq!(passed.into_inner(), 0);
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.rejected_total, snapshot.trips_total),
        (rejected.into_inner(), 1)
    );
}

#[test]
fn probes_are_never_more_than_allowed_and_one_trip_is_one_trip() {
    const PROBES: usize = 3;
    let builder = plain()
        .consecutive_failures(1)
        .open_for(MILLI)
        .open_growth(1.0);
    let breaker = builder.probes(PROBES as u32).build().unwrap();
    let mut events = breaker.transitions();
    let half_open = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    for round in 0..60 {
        call(&breaker, UNWELL);
        assert_eq!(breaker.snapshot().trips_total, round + 1);
        while breaker.state() != State::HalfOpen {
            thread::yield_now();
        }
        // Nobody ends before all have tried, so what is let in is in at once.
        let permits: Vec<_> = thread::scope(|s| {
            let tries: Vec<_> = (0..4)
                .map(|_| {
                    s.spawn(|| {
                        let all = (0..5).filter_map(|_| admit(&breaker).ok());
                        let all: Vec<_> = all.collect();
                        let now = half_open.fetch_add(all.len(), SeqCst) + all.len();
                        most.fetch_max(now, SeqCst);
                        all
                    })
                })
                .collect();
            tries.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(permits.len(), PROBES);
        half_open.store(0, SeqCst);
        thread::scope(|s| {
            for permit in permits {
                s.spawn(|| end(&breaker, permit, WELL));
            }
        });
        assert_eq!(breaker.state(), State::Closed);
    }
    assert_eq!(most.into_inner(), PROBES);
    // Open, half-open, closed: three a round.
    assert_eq!(events.borrow_and_update().epoch, 3 * 60);
}
