//! Time that the calls themselves move on, for the rows of small quotas.
//!
//! On the real clock a small quota admits nothing worth measuring: 100 calls take 10 microseconds,
//! and then a limit of 100 per second refuses for the rest of the second. Here each call, on
//! whatever thread, moves the time on by so much that the limit is used to a part and never
//! exceeded, so every call is admitted on a machine of any speed, by a limiter that holds as many
//! admissions as it would on a busy day.
//!
//! The real clock is read for every call as well, because calls elsewhere do read it. What comes on
//! top is one counter that all threads share: the row `clock.made_up` is that and the clock alone.

use buttress::{
    Now, Time,
    guard::{Admission, End, Guard, GuardBase, Never},
};
use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A clock that moves on whenever it is read.
#[derive(Clone)]
pub(crate) struct MadeUpTime {
    now: Arc<AtomicU64>,
    step: u64,
}

impl MadeUpTime {
    /// Makes a clock by which calls come at this share, in percent, of `quota` per `window`.
    pub(crate) fn new(percent: u64, quota: u64, window: Duration) -> Self {
        let step = window.as_nanos() as u64 * 100 / (quota * percent);
        // An hour after the beginning of time: the windows before the first call are there.
        let now = Duration::from_secs(3_600).as_nanos() as u64;
        Self {
            now: Arc::new(now.into()),
            step,
        }
    }

    #[inline]
    pub(crate) fn read(&self) -> u64 {
        black_box(tokio::time::Instant::now());
        self.now.fetch_add(self.step, Relaxed)
    }
}

/// A guard that is asked at the time that was made up.
#[derive(Clone)]
pub(crate) struct AtMadeUpTime<G>(pub(crate) G, pub(crate) MadeUpTime);

impl<G: GuardBase> GuardBase for AtMadeUpTime<G> {
    type Permit = G::Permit;
    type Wait = Never;

    #[inline]
    fn settle(&self, permit: G::Permit, end: End, now: &Now) {
        self.0.settle(permit, end, now);
    }
}

impl<Req, G: Guard<Req, Wait = Never>> Guard<Req> for AtMadeUpTime<G> {
    #[inline]
    fn admit(&self, req: &Req, _: &Now) -> Admission<G::Permit> {
        let now = Time::from_nanos(self.1.read());
        self.0.admit(req, &Now::at(now))
    }
}
