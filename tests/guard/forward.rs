//! Whatever wraps a guard passes on everything that it is told.

use buttress::{
    Guard, GuardBase, Now, Outcome,
    guard::{Admission, End, Never, Shadow},
};
use std::{
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

/// A guard that writes down which of its functions were called.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<&'static str>>>);

impl Told {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }
}

impl GuardBase for Told {
    type Permit = ();
    type Wait = Never;

    fn settle(&self, (): (), _: End, _: &Now) {
        self.note("settle");
    }
    fn on_pending(&self, (): &mut (), _: &Now) {
        self.note("on_pending");
    }
    fn on_wait_begin(&self, (): &mut (), _: &Now) {
        self.note("on_wait_begin");
    }
    fn on_wait_end(&self, (): &mut (), _: Duration, _: &Now) {
        self.note("on_wait_end");
    }
    fn on_answer(&self, (): &mut (), _: Outcome, _: &Now) {
        self.note("on_answer");
    }
    fn ready_failed(&self, _: &Now) {
        self.note("ready_failed");
    }
    fn poll_closed(&self, _: &mut Context<'_>, _: &Now) -> bool {
        self.note("poll_closed");
        false
    }
}

impl Guard<()> for Told {
    fn admit(&self, (): &(), _: &Now) -> Admission<()> {
        self.note("admit");
        Admission::Admitted(())
    }
}

/// Tells a guard everything, and returns what reached the one inside.
fn tell(guard: impl Guard<()>, inside: &Told) -> Vec<&'static str> {
    inside.0.lock().unwrap().clear();
    let now = Now::lazy();
    let _ = guard.poll_closed(&mut Context::from_waker(Waker::noop()), &now);
    guard.ready_failed(&now);
    let Admission::Admitted(mut permit) = guard.admit(&(), &now) else {
        panic!("not admitted");
    };
    guard.on_pending(&mut permit, &now);
    guard.on_wait_begin(&mut permit, &now);
    guard.on_wait_end(&mut permit, Duration::from_secs(1), &now);
    guard.on_answer(&mut permit, Outcome::Success, &now);
    guard.settle(permit, End::Done(Outcome::Success), &now);
    inside.0.lock().unwrap().clone()
}

#[test]
fn every_wrapper_passes_on_everything() {
    let all = tell(Told::default(), &Told::default());
    assert!(all.is_empty());
    let told = Told::default();
    let all = tell(told.clone(), &told);
    assert_eq!(all.len(), 8, "{all:?}");
    let one = || told.clone();
    let other = Told::default;
    let by_reference: &Told = &told.clone();
    assert_eq!(tell(by_reference, &told), all);
    assert_eq!(tell(Some(one()), &told), all);
    assert_eq!(tell((one(), other()), &told), all);
    assert_eq!(tell((other(), one()), &told), all);
    for place in 0..3 {
        let at = |n| if n == place { one() } else { other() };
        assert_eq!(tell((at(0), at(1), at(2)), &told), all, "{place}");
    }
    for place in 0..4 {
        let at = |n| if n == place { one() } else { other() };
        assert_eq!(tell((at(0), at(1), at(2), at(3)), &told), all, "{place}");
    }
    // A shadow refuses nobody, so it need not ask whether all are refused.
    let mut shadowed = all;
    shadowed.retain(|what| *what != "poll_closed");
    assert_eq!(tell(Shadow::new("shadow", one()), &told), shadowed);
}
