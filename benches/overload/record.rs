//! What happened, second by second.

use crate::clock::{self, Steps};
use std::cell::RefCell;

/// The caller of a request waits for so long, in seconds.
pub(crate) const PATIENCE: f64 = 2.0;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// Requests that reached a relay.
    Relay,
    /// Requests that reached the backend.
    Backend,
    /// Requests that the layers before the backend refused.
    Shed,
}

/// Requests are counted in the second in which they came, whenever they ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    /// All requests, and those that matter most.
    pub(crate) offered: [u32; 2],
    /// Those that were answered in time.
    pub(crate) served: [u32; 2],
    /// How long they took, further attempts included.
    pub(crate) latencies: Vec<Steps>,
    /// How long those took that the backend admitted, from when they reached it.
    pub(crate) admitted: Vec<Steps>,
    /// See [`Count`].
    pub(crate) counts: [u32; 3],
    /// The limit in front of the backend, at the end.
    pub(crate) limit: usize,
}

thread_local!(static SECONDS: RefCell<Vec<Second>> = const { RefCell::new(Vec::new()) });

fn second<T>(at: Steps, f: impl FnOnce(&mut Second) -> T) -> T {
    let index = (at / clock::SECOND) as usize;
    SECONDS.with_borrow_mut(|seconds| {
        if seconds.len() <= index {
            seconds.resize_with(index + 1, Second::default);
        }
        f(&mut seconds[index])
    })
}

pub(crate) fn count(count: Count) {
    second(clock::now(), |second| second.counts[count as usize] += 1);
}

pub(crate) fn offered(critical: bool) {
    second(clock::now(), |second| {
        second.offered[0] += 1;
        second.offered[1] += u32::from(critical);
    });
}

/// A request that came at `at` has been answered now.
pub(crate) fn served(at: Steps, critical: bool) {
    let took = clock::now() - at;
    if clock::seconds(took) <= PATIENCE {
        second(at, |second| {
            second.served[0] += 1;
            second.served[1] += u32::from(critical);
            second.latencies.push(took);
        });
    }
}

/// The backend has served a request that reached it at `at`.
pub(crate) fn admitted(at: Steps) {
    let took = clock::now() - at;
    second(at, |second| second.admitted.push(took));
}

pub(crate) fn limit(limit: usize) {
    second(clock::now(), |second| second.limit = limit);
}

pub(crate) fn take() -> Vec<Second> {
    SECONDS.take()
}
