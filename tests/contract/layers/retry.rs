use crate::{
    inner::Touchy,
    subject::{Entry, Leaves, Subject},
};
use buttress::retry::{Backoff, Budget, Jitter, Retry};
use std::time::Duration;

/// Two more attempts at every error.
const LEAVES: Leaves = Leaves {
    success: 0,
    error: 2,
    cancelled: 0,
    panicked: 0,
};

pub(super) fn handle() -> Retry {
    let backoff = Backoff::constant(Duration::from_millis(1)).jitter(Jitter::None);
    // Calls that fail for ever would stop any other.
    let budget = Budget::unlimited();
    let retry = Retry::builder("retry").backoff(backoff).budget(budget);
    retry.build().unwrap()
}

pub(crate) fn retry() -> Entry<impl Subject> {
    let retry = handle();
    let layer = || retry.layer().classify(Touchy);
    let layers = (layer(), layer());
    let count = move || retry.snapshot().retries_total;
    Entry::new(layers, ("/error", 2), LEAVES, count).touchy()
}

pub(crate) fn retry_http() -> Entry<impl Subject> {
    let retry = handle();
    let layers = (retry.layer().http(), retry.layer().http());
    let count = move || retry.snapshot().retries_total;
    Entry::new(layers, ("/error", 2), LEAVES, count)
}
