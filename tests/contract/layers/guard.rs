//! Guards of the test's own, which show that the plumbing alone keeps the promises.

use crate::{
    inner::Touchy,
    subject::{Entry, Leaves, Subject},
};
use buttress::{
    Guard, GuardBase, GuardLayer, Kind, Now, Outcome, Rejected, Time, WaitLayer,
    guard::{Admission, End, Never, WaitProgress},
    http::{Http, OnBodyEnd, RespondLayer},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::Context,
    time::Duration,
};

/// Counts calls that have ended with an answer or a panic, and a million for each that runs.
#[derive(Clone, Debug, Default)]
struct Tally(Arc<AtomicU64>);

const RUNNING: u64 = 1_000_000;

impl Tally {
    fn read(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let tally = self.clone();
        move || tally.0.load(SeqCst)
    }
}

impl GuardBase for Tally {
    type Permit = ();
    type Wait = Never;
    fn settle(&self, (): (), end: End, _: &Now) {
        self.0.fetch_sub(RUNNING, SeqCst);
        if matches!(end, End::Done(_) | End::Panicked) {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

impl<Req> Guard<Req> for Tally {
    fn admit(&self, _: &Req, _: &Now) -> Admission<()> {
        self.0.fetch_add(RUNNING, SeqCst);
        Admission::Admitted(())
    }
}

/// A guard as an application writes one (the example `own_guard`): it says what it has to and leaves
/// the rest to the defaults. Calls cost one each, and those that failed are paid back.
#[derive(Clone, Debug)]
struct Purse {
    left: Arc<AtomicU64>,
    /// Before that, calls wait.
    opens: Time,
}

const PAID_IN: u64 = 1_000_000;

impl Purse {
    fn opening(opens: Time) -> Self {
        let left = Arc::new(AtomicU64::new(PAID_IN));
        Self { left, opens }
    }
    fn spent(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let left = self.left.clone();
        move || PAID_IN - left.load(SeqCst)
    }
}

impl GuardBase for Purse {
    type Permit = u64;
    type Wait = ();
    fn settle(&self, cost: u64, end: End, _: &Now) {
        if !matches!(end, End::Done(Outcome::Success)) {
            self.left.fetch_add(cost, SeqCst);
        }
    }
}

impl<Req> Guard<Req> for Purse {
    fn admit(&self, _: &Req, now: &Now) -> Admission<u64, ()> {
        if now.get() < self.opens {
            return Admission::Wait(());
        }
        match self
            .left
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
        {
            Ok(_) => Admission::Admitted(1),
            Err(_) => Admission::Refused(Rejected::new(Kind::RateLimited, "purse")),
        }
    }
}

/// Makes calls wait for so long.
#[derive(Clone, Debug)]
struct Pause(Duration);

impl GuardBase for Pause {
    type Permit = ();
    type Wait = Time;
    fn settle(&self, (): (), _: End, _: &Now) {}
}

impl<Req> Guard<Req> for Pause {
    fn admit(&self, _: &Req, now: &Now) -> Admission<(), Time> {
        match self.0 {
            Duration::ZERO => Admission::Admitted(()),
            pause => Admission::Wait(now.get().after(pause)),
        }
    }
    fn poll_wait(
        &self,
        until: &mut Time,
        _: &Req,
        _: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<()> {
        match now.get() >= *until {
            true => WaitProgress::Admitted(()),
            false => WaitProgress::Pending(Some(*until)),
        }
    }
}

const LEAVES: Leaves = Leaves {
    success: 1,
    error: 1,
    cancelled: 0,
    panicked: 1,
};

pub(crate) fn plain_guard() -> Entry<impl Subject> {
    let tally = Tally::default();
    let layer = || GuardLayer::new(tally.clone()).classify(Touchy);
    Entry::new((layer(), layer()), ("/ok", 1), LEAVES, tally.read()).touchy()
}

pub(crate) fn guard_of_an_application() -> Entry<impl Subject> {
    let layer = |purse: &Purse| WaitLayer::new(purse.clone()).classify(Touchy);
    let open = Purse::opening(Time::default());
    let full = Purse::opening(Time::now().after(Duration::from_secs(1)));
    let leaves = Leaves {
        success: 1,
        ..Leaves::default()
    };
    let layers = (layer(&open), layer(&open));
    Entry::new(layers, ("/ok", 1), leaves, open.spent())
        .touchy()
        .full(layer(&full), full.spent())
}

pub(crate) fn guard_that_waits() -> Entry<impl Subject> {
    let layer = |tally: &Tally, pause| {
        let pause = Pause(Duration::from_secs(pause));
        WaitLayer::new((tally.clone(), pause)).classify(Touchy)
    };
    let (tally, full) = (Tally::default(), Tally::default());
    let layers = (layer(&tally, 0), layer(&tally, 0));
    Entry::new(layers, ("/ok", 1), LEAVES, tally.read())
        .touchy()
        .full(layer(&full, 1), full.read())
}

pub(crate) fn guard_to_the_end_of_the_body() -> Entry<impl Subject> {
    let tally = Tally::default();
    let layer = || GuardLayer::new(tally.clone()).settle(OnBodyEnd(Touchy));
    Entry::new((layer(), layer()), ("/ok", 1), LEAVES, tally.read()).touchy()
}

pub(crate) fn guard_answering() -> Entry<impl Subject> {
    let tally = Tally::default();
    let layer = || RespondLayer::new(Http, GuardLayer::new(tally.clone()).http());
    Entry::new((layer(), layer()), ("/ok", 1), LEAVES, tally.read())
}
