use crate::{
    inner::Touchy,
    subject::{Entry, Leaves, Subject},
};
use buttress::Throttle;
use std::time::Duration;

/// What the service took, whatever it made of it; a call that ended in no answer says nothing.
const LEAVES: Leaves = Leaves {
    success: 1,
    error: 1,
    cancelled: 0,
    panicked: 0,
};

fn handle() -> Throttle {
    // It forgets what is older than this.
    let throttle = Throttle::builder("throttle").window(Duration::from_secs(3600));
    throttle.build().unwrap()
}

pub(crate) fn throttle() -> Entry<impl Subject> {
    let throttle = handle();
    let layer = || throttle.layer().classify(Touchy);
    let layers = (layer(), layer());
    let count = move || throttle.snapshot().accepted;
    Entry::new(layers, ("/ok", 1), LEAVES, count).touchy()
}

pub(crate) fn throttle_http() -> Entry<impl Subject> {
    let throttle = handle();
    let layers = (throttle.layer().http(), throttle.layer().http());
    let count = move || throttle.snapshot().accepted;
    Entry::new(layers, ("/ok", 1), LEAVES, count)
}
