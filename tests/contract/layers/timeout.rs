use crate::subject::{Entry, Leaves, Subject};
use buttress::{
    http::DeadlineHeaderLayer,
    timeout::{DeadlineLayer, Timeout},
};
use std::time::Duration;

/// Long enough for everything here, and short enough to wait for it.
const LIMIT: Duration = Duration::from_millis(50);

pub(crate) fn timeout() -> Entry<impl Subject> {
    let timeout = Timeout::new("timeout", LIMIT);
    let layers = (timeout.layer(), timeout.layer());
    let count = move || timeout.snapshot().timed_out_total;
    Entry::new(layers, ("/hang", 1), Leaves::default(), count)
}

pub(crate) fn timeout_http() -> Entry<impl Subject> {
    let timeout = Timeout::new("timeout", LIMIT);
    let layers = (timeout.layer().http(), timeout.layer().http());
    let count = move || timeout.snapshot().timed_out_total;
    Entry::new(layers, ("/hang", 1), Leaves::default(), count)
}

pub(crate) fn deadline() -> Entry<impl Subject> {
    let layer = DeadlineLayer::within("deadline", LIMIT);
    let layers = (layer.clone(), layer.clone());
    let count = move || layer.snapshot().exceeded_total;
    Entry::new(layers, ("/hang", 1), Leaves::default(), count)
}

/// For a body it makes a cell that a timer can empty, the body in it, and the timer.
pub(crate) fn deadline_http() -> Entry<impl Subject> {
    let layer = DeadlineLayer::within("deadline", LIMIT);
    let layers = (layer.clone().http(), layer.clone().http());
    let count = move || layer.snapshot().exceeded_total;
    Entry::new(layers, ("/hang", 1), Leaves::default(), count).allocates(3)
}

/// It also puts the deadline into the request's extensions, which are made for that.
pub(crate) fn deadline_header() -> Entry<impl Subject> {
    let layer = DeadlineHeaderLayer::at_most("deadline", LIMIT);
    let layers = (layer.clone(), layer.clone());
    let count = move || layer.snapshot().exceeded_total;
    Entry::new(layers, ("/hang", 1), Leaves::default(), count).allocates(6)
}
