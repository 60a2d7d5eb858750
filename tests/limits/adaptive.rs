//! What adaptive limits used to fail at, each as a service that did it: in virtual time, with the
//! real load shed.

use super::{
    cell::{Cell, Happens, Outcomes, Times},
    world::World,
};
use buttress::{LoadShed, load_shed::limit::Adaptive};

const CELL: Cell = Cell {
    workers: 4,
    times: Times::Constant,
    mean: 0.02,
    load: 2.0,
    queued: true,
    patience: 1.0,
    streams: 0,
    happens: Happens::Nothing,
    seconds: 30.0,
    seed: 1,
};

fn ran(cell: Cell, rule: Adaptive) -> Outcomes {
    World::new(cell, LoadShed::builder("it").limit(rule).build().unwrap()).run()
}

/// What is served by the adaptive limit, by what is served by a fixed one that knows the service.
fn goodput(cell: Cell) -> f64 {
    let c = cell.workers as f64;
    let fixed = (c + 2.0 * c.sqrt() + 2.0).ceil() as usize + cell.streams;
    let known = LoadShed::builder("known").fixed(fixed).build().unwrap();
    let possible = World::new(cell, known).run().served;
    ran(cell, Adaptive::new()).served as f64 / possible as f64
}

#[test]
fn streams_that_stay_open_shut_nobody_out() {
    for streams in [5, 20, 100] {
        for queued in [true, false] {
            // Ten quick calls a second.
            let cell = Cell {
                load: 10.0 * 0.02 / 4.0,
                seconds: 120.0,
                queued,
                streams,
                ..CELL
            };
            let idle = ran(cell, Adaptive::new());
            assert_eq!(
                (idle.served, idle.shed),
                (idle.offered, 0),
                "{streams} {queued}"
            );
            assert_eq!(idle.long_lived, streams);
            let busy = goodput(Cell { load: 2.0, ..cell });
            assert!(busy > 0.95, "{busy} beside {streams} {queued}");
        }
    }
}

#[test]
fn calls_that_never_end_are_bounded() {
    let shed = |most| {
        let builder = LoadShed::builder("it").long_lived(most);
        let cell = Cell {
            streams: 200,
            load: 0.1,
            ..CELL
        };
        World::new(cell, builder.build().unwrap()).run()
    };
    assert_eq!(shed(1_000).long_lived, 200);
    // Those above the bound count as all others do, so no more come in.
    let bounded = shed(50);
    assert!(
        (50..=50 + bounded.highest).contains(&bounded.long_lived),
        "{bounded:?}"
    );
}

#[test]
fn one_or_two_slow_workers_are_found_from_a_cold_start() {
    for workers in [1, 2] {
        // A minute has fewer calls the longer they take, and the first seconds count as much.
        for (mean, least) in [(0.02, 0.95), (0.05, 0.88), (0.1, 0.8)] {
            for times in [Times::Constant, Times::Even] {
                for queued in [true, false] {
                    let cell = Cell {
                        workers,
                        mean,
                        times,
                        queued,
                        seconds: 60.0,
                        ..CELL
                    };
                    let good = goodput(cell);
                    assert!(good > least, "{good}: {cell:?}");
                }
            }
        }
    }
}

#[test]
fn calls_that_take_seconds_are_no_streams() {
    for (workers, mean, patience) in [(32, 2.0, 10.0), (32, 3.0, 10.0), (4, 3.0, 30.0)] {
        let cell = Cell {
            workers,
            mean,
            patience,
            seconds: 600.0,
            ..CELL
        };
        let good = goodput(cell);
        assert!(good > 0.85, "{good}: {cell:?}");
    }
}

#[test]
fn a_limit_of_one_or_two_grows_in_front_of_slow_calls() {
    for mean in [0.1, 0.4, 1.0] {
        for times in [Times::Constant, Times::Exponential] {
            let cell = Cell {
                workers: 100,
                mean,
                times,
                patience: 10.0,
                seconds: 200.0,
                queued: false,
                ..CELL
            };
            let seen = ran(cell, Adaptive::new().starting_at(1).unwrap());
            assert!(seen.limit >= 80, "{}: {cell:?}", seen.limit);
        }
    }
}

#[test]
fn many_workers_keep_their_limit() {
    for (workers, times) in [(200, Times::Constant), (400, Times::Even)] {
        let cell = Cell {
            workers,
            times,
            mean: 0.05,
            seconds: 15.0,
            ..CELL
        };
        let good = goodput(cell);
        assert!(good > 0.97, "{good}: {cell:?}");
        let limit = ran(cell, Adaptive::new()).limit;
        assert!((workers..2 * workers).contains(&limit), "{limit}");
    }
}

#[test]
fn a_few_slow_calls_among_quick_ones_do_not_shed_at_half_the_load() {
    for (times, mean) in [(Times::Bimodal, 0.029_75), (Times::Lognormal, 0.02)] {
        for seed in [1, 2, 3] {
            let cell = Cell {
                workers: 64,
                times,
                mean,
                load: 0.5,
                queued: false,
                seed,
                ..CELL
            };
            let seen = ran(cell, Adaptive::new());
            let shed = seen.shed as f64 / seen.offered as f64;
            assert!(shed < 0.01, "{shed}: {cell:?}");
        }
    }
}

#[test]
fn a_start_may_be_anywhere_and_a_warm_one_sheds_nothing() {
    let cell = Cell {
        workers: 200,
        times: Times::Exponential,
        mean: 0.05,
        load: 0.8,
        queued: false,
        seconds: 10.0,
        ..CELL
    };
    for initial in [1, 20, 267, 1_000] {
        let seen = ran(cell, Adaptive::new().starting_at(initial).unwrap());
        let shed = seen.shed as f64 / seen.offered as f64;
        let most = match initial {
            // It doubles, at first once a second.
            1 => 0.6,
            20 => 0.05,
            _ => 0.0,
        };
        assert!(shed <= most, "{shed} from {initial}");
    }
}

#[test]
fn failures_that_come_fast_prove_no_capacity() {
    for queued in [true, false] {
        // Ten places, and what finds none fails within a millisecond.
        let cell = Cell {
            workers: 10,
            mean: 0.1,
            load: 10.0,
            happens: Happens::NoQueue,
            queued,
            ..CELL
        };
        let seen = ran(cell, Adaptive::new());
        assert!(seen.highest <= 40, "{seen:?}");
    }
}

#[test]
fn calls_that_hang_now_and_then_do_not_lower_the_limit_for_the_others() {
    let cell = Cell {
        workers: 32,
        happens: Happens::Hangs,
        ..CELL
    };
    // Fixed, it is taken by those that hang until their callers leave.
    assert!(goodput(cell) > 2.0);
}

#[test]
fn it_is_back_two_seconds_after_a_pause_a_slowdown_and_workers_that_went() {
    for (happens, seconds) in [
        (Happens::Pause(10.0, 1.0), 25.0),
        (Happens::Slow(10.0, 60.0, 3.0), 84.0),
        (Happens::Workers(10.0, 10.0, 0.5), 34.0),
        (Happens::Workers(10.0, 10.0, 3.0), 34.0),
    ] {
        for times in [Times::Constant, Times::Exponential] {
            let cell = Cell {
                workers: 10,
                times,
                happens,
                seconds,
                ..CELL
            };
            let back = ran(cell, Adaptive::new()).back as f64;
            let possible = 10.0 * 10.0 / 0.02;
            assert!(back > 0.93 * possible, "{}: {cell:?}", back / possible);
        }
    }
}

#[test]
fn a_service_that_is_down_leaves_one_try_and_gets_its_limit_back() {
    let cell = Cell {
        workers: 10,
        happens: Happens::Pause(10.0, 30.0),
        seconds: 60.0,
        ..CELL
    };
    let seen = ran(cell, Adaptive::new());
    assert!(seen.back as f64 > 0.8 * 10.0 * 10.0 / 0.02, "{seen:?}");
}
