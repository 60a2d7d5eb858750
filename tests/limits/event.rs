//! What happens next: the earliest first, and of those at one time the oldest.

use std::cmp::Ordering;

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Arrival,
    Attempt(usize),
    Done(usize),
    TimedOut(usize),
    Phase(usize),
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) at: f64,
    pub(crate) order: u64,
    pub(crate) what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = other.at.total_cmp(&self.at);
        by_time.then(other.order.cmp(&self.order))
    }
}
