//! Every interleaving of readers, writers and mishaps, on what the scripts in Redis decide about an
//! entry under a tag.
//!
//! The cache's protocol was checked like this before it was written; tags are its one extension.
//! The explorer goes breadth first through all states: so a counter-example is a shortest one.

pub(crate) mod redis;
mod state;

use redis::Rules;
use state::{State, Steps};
use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

/// What may happen, and how often.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    rules: Rules,
    readers: usize,
    requests: u8,
    until: u8,
    restarts: u8,
    rollbacks: u8,
    evictions: u8,
}

const RULES: Rules = Rules {
    fresh: 2,
    stale: 3,
    lease: 1,
    counter: false,
    check_run: true,
    check_fill: true,
};

const BOUNDS: Bounds = Bounds {
    rules: RULES,
    readers: 2,
    requests: 1,
    until: 3,
    restarts: 0,
    rollbacks: 0,
    evictions: 0,
};

/// Small numbers, mixed: without optimization a tenth of what the standard one takes.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

/// Goes through all states. Returns how many there are, or the way to one that is wrong.
fn explore(bounds: Bounds) -> Result<usize, String> {
    let start = State::start(bounds);
    let mut seen = HashSet::<State, BuildHasherDefault<Mix>>::default();
    seen.insert(start);
    // Where each state came from, and by which of the steps from there.
    let mut states = vec![(start, 0, 0)];
    let mut queue = VecDeque::from([0]);
    while let Some(at) = queue.pop_front() {
        let mut steps = Steps::default();
        states[at].0.steps(bounds, &mut steps);
        for (nth, (_, to)) in steps.all.into_iter().enumerate() {
            let checked = to.and_then(|to| to.canonical(bounds).checked(bounds));
            let to = checked.map_err(|wrong| way(bounds, &states, at, nth, wrong))?;
            if seen.insert(to) {
                queue.push_back(states.len());
                states.push((to, at, nth));
            }
        }
    }
    Ok(states.len())
}

/// What is wrong, and the steps that lead there.
fn way(
    bounds: Bounds,
    states: &[(State, usize, usize)],
    mut at: usize,
    mut nth: usize,
    wrong: String,
) -> String {
    let mut told = Vec::new();
    loop {
        let mut steps = Steps {
            tell: true,
            ..Steps::default()
        };
        states[at].0.steps(bounds, &mut steps);
        told.push(steps.all.swap_remove(nth).0);
        if at == 0 {
            break;
        }
        (at, nth) = (states[at].1, states[at].2);
    }
    told.push(wrong);
    told.rotate_right(1);
    told[1..].reverse();
    told.join("\n")
}

fn holds(bounds: Bounds) {
    match explore(bounds) {
        Ok(states) => {
            println!("{states} states");
            assert!(states > 1000, "{states} states are not all");
        }
        Err(wrong) => panic!("{wrong}"),
    }
}

#[track_caller]
fn breaks(bounds: Bounds, how: &str) -> String {
    let wrong = explore(bounds).unwrap_err();
    assert!(wrong.starts_with(how), "{wrong}");
    wrong
}

#[test]
fn tags_hold_while_redis_evicts() {
    holds(Bounds {
        evictions: 2,
        ..BOUNDS
    });
}

#[test]
fn tags_hold_when_redis_restarts_empty() {
    holds(Bounds {
        restarts: 1,
        evictions: 1,
        until: 2,
        ..BOUNDS
    });
}

#[test]
fn tags_hold_when_redis_comes_back_with_what_it_saved() {
    holds(Bounds {
        rollbacks: 1,
        until: 2,
        ..BOUNDS
    });
}

#[test]
fn tags_hold_for_requests_one_after_the_other() {
    holds(Bounds {
        readers: 1,
        requests: 3,
        until: 2,
        restarts: 1,
        evictions: 1,
        ..BOUNDS
    });
}

// What the explorer finds when something is left out shows that it would find it.

#[test]
fn a_counter_that_is_evicted_brings_back_what_was_invalidated() {
    let rules = Rules {
        counter: true,
        ..RULES
    };
    let wrong = breaks(
        Bounds {
            rules,
            evictions: 1,
            ..BOUNDS
        },
        "P1",
    );
    assert!(wrong.contains("evicts the tag"), "{wrong}");
}

#[test]
fn a_counter_that_a_restart_loses_lets_an_old_load_in() {
    // A lease that is no more than a number: not bound to its run either.
    let rules = Rules {
        counter: true,
        check_run: false,
        ..RULES
    };
    let wrong = breaks(
        Bounds {
            rules,
            rollbacks: 1,
            ..BOUNDS
        },
        "",
    );
    assert!(wrong.contains("restarts"), "{wrong}");
}

#[test]
fn a_fill_that_does_not_compare_the_token_stores_what_the_tag_had_invalidated() {
    let rules = Rules {
        check_fill: false,
        ..RULES
    };
    breaks(Bounds { rules, ..BOUNDS }, "I2");
}

#[test]
fn without_the_run_a_rollback_brings_back_what_was_invalidated() {
    let rules = Rules {
        check_run: false,
        ..RULES
    };
    let wrong = breaks(
        Bounds {
            rules,
            rollbacks: 1,
            ..BOUNDS
        },
        "",
    );
    assert!(wrong.contains("what it saved"), "{wrong}");
}
