use crate::{
    inner::Touchy,
    subject::{Entry, Leaves, Subject},
};
use buttress::{
    Guard, GuardBase, LoadShed, Now,
    guard::{Admission, End},
    http::{ByCriticality, Http, RespondLayer},
    load_shed::LoadShedBuilder,
};

/// What was admitted was, however it ended; and none of it is in flight.
const LEAVES: Leaves = Leaves {
    success: 1,
    error: 1,
    cancelled: 1,
    panicked: 1,
};
const RUNNING: u64 = 1_000_000;
const WAITING: u64 = 1_000_000_000;

/// Calls admitted so far, a million for each that runs and a thousand million for each that waits.
pub(super) fn count<P: Send + Sync + 'static>(
    shed: &LoadShed<P>,
) -> impl Fn() -> u64 + Send + Sync + use<P> {
    let shed = shed.clone();
    move || {
        let now = shed.snapshot();
        now.admitted_total + RUNNING * now.in_flight as u64 + WAITING * now.queued as u64
    }
}

fn fixed(limit: usize) -> LoadShedBuilder {
    LoadShed::builder("shed").fixed(limit)
}

/// Fewer permits than the calls that are dropped.
fn shed() -> LoadShed {
    fixed(64).build().unwrap()
}

/// Takes the only permit, until it is told to give it back.
pub(super) fn occupy<P: Send + Sync + 'static>(shed: &LoadShed<P>) -> impl FnOnce() + use<P> {
    let shed = shed.clone();
    let Admission::Admitted(permit) = Guard::<()>::admit(&shed, &(), &Now::lazy()) else {
        panic!("it is occupied already");
    };
    move || shed.settle(permit, End::Cancelled, &Now::lazy())
}

/// An entry for this handle, with layers made like that.
macro_rules! entry {
    ($shed:expr, $layer:expr) => {{
        let (shed, layer) = ($shed, $layer);
        Entry::new(
            (layer(&shed), layer(&shed)),
            ("/ok", 1),
            LEAVES,
            count(&shed),
        )
    }};
}

/// The same for one that waits.
macro_rules! waiting {
    (|$limit:ident| $shed:expr, $layer:expr) => {{
        let make = |$limit| $shed.build().unwrap();
        let (shed, full, layer) = (make(64), make(1), $layer);
        let (free, full_count) = (occupy(&full), count(&full));
        entry!(shed, layer).full_until(layer(&full), full_count, free)
    }};
}

pub(crate) fn shed_at_once() -> Entry<impl Subject> {
    entry!(shed(), |shed: &LoadShed| shed.layer().classify(Touchy)).touchy()
}

pub(crate) fn shed_queued() -> Entry<impl Subject> {
    let layer = |shed: &LoadShed| shed.queued().layer().classify(Touchy);
    waiting!(|limit| fixed(limit), layer).touchy()
}

/// It waits in `poll_ready`, and its calls never.
pub(crate) fn shed_by_backpressure() -> Entry<impl Subject> {
    let layer = |shed: &LoadShed| shed.backpressure().layer().classify(Touchy);
    waiting!(|limit| fixed(limit), layer)
        .touchy()
        .in_poll_ready()
}

pub(crate) fn shed_adaptive() -> Entry<impl Subject> {
    let shed = LoadShed::new("shed");
    entry!(shed, |shed: &LoadShed| shed.layer().classify(Touchy)).touchy()
}

pub(crate) fn shed_adaptive_queued() -> Entry<impl Subject> {
    let layer = |shed: &LoadShed| shed.queued().layer().classify(Touchy);
    entry!(LoadShed::new("shed"), layer).touchy()
}

pub(crate) fn shed_with_priorities() -> Entry<impl Subject> {
    let layer = |shed: &LoadShed<_>| shed.queued().layer().classify(Touchy);
    waiting!(|limit| fixed(limit).priority(ByCriticality::new()), layer).touchy()
}

pub(crate) fn shed_http() -> Entry<impl Subject> {
    let layer = |shed: &LoadShed| shed.queued().layer().http();
    waiting!(|limit| fixed(limit), layer)
}

pub(crate) fn shed_answering() -> Entry<impl Subject> {
    entry!(shed(), |shed: &LoadShed| RespondLayer::new(
        Http,
        shed.layer().http()
    ))
}
