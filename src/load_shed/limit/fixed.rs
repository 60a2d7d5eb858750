use super::{Limit, NextWindow, SampleWindow};
use crate::clock::Time;

/// A limit that does not change.
///
/// It suits a service whose parallelism is known, such as its number of workers or connections.
/// Then calls wait in the load shed's queue and not inside the service.
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
