use super::{Limit, NextWindow, SampleWindow};
use crate::clock::Time;

/// A limit that stays what it is.
///
/// For a service whose parallelism is known (its workers, its connections). Then the queue in front
/// of it is ours, and so is its delay.
#[doc(alias("FixedLimit", "semaphore"))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fixed(pub usize);

impl Limit for Fixed {
    fn initial(&self) -> usize {
        self.0
    }

    fn close(&self) -> NextWindow {
        NextWindow::after(u64::MAX)
    }

    fn on_window(&mut self, _: &SampleWindow, _: Time) -> usize {
        self.0
    }

    fn is_fixed(&self) -> bool {
        true
    }
}
