use crate::subject::{Entry, Leaves, Subject};
use buttress::timeout::{DeadlineLayer, Timeout};
use std::time::Duration;

/// Long enough for everything here, and short enough to wait for it.
const LIMIT: Duration = Duration::from_millis(50);

pub(crate) fn timeout() -> Entry<impl Subject> {
    let timeout = Timeout::new("timeout", LIMIT);
    let layers = (timeout.layer(), timeout.layer());
    let count = move || timeout.snapshot().timed_out_total;
    Entry::new(layers, ("/hang", 1), Leaves::default(), count)
}

/// Of it there is nothing to share and nothing to read.
pub(crate) fn deadline() -> Entry<impl Subject> {
    let layer = DeadlineLayer::within("deadline", LIMIT);
    Entry::new((layer, layer), ("/hang", 0), Leaves::default(), || 0)
}
