//! A guard that counts: how many calls are in flight, how they ended, whether to refuse.

use buttress::{
    Kind, Now, Outcome, Rejected,
    guard::{Admission, End, Guard, GuardBase, Never, WaitProgress},
};
use std::{
    future::Future,
    panic::Location,
    sync::{Arc, Mutex},
    task::Context,
    time::Duration,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    admitted: usize,
    in_flight: usize,
    limit: Option<usize>,
    refuse: Option<Rejected>,
    ends: Vec<End>,
}

impl Tally {
    /// Refuses calls after the first `limit`, as a rate limiter without a window.
    pub(crate) fn limited(limit: usize) -> Self {
        let tally = Self::default();
        tally.0.lock().unwrap().limit = Some(limit);
        tally
    }

    pub(crate) fn refuse(&self, kind: Kind) {
        let rejected = Rejected::new(kind, "tally").with_retry_after(Duration::from_millis(1500));
        self.0.lock().unwrap().refuse = Some(rejected);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.0.lock().unwrap().in_flight
    }

    pub(crate) fn admitted(&self) -> usize {
        self.0.lock().unwrap().admitted
    }

    pub(crate) fn ends(&self) -> Vec<End> {
        self.0.lock().unwrap().ends.clone()
    }

    /// Forgets the ends so far.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().ends.clear();
    }

    /// The ends so far, once there are `n` and nothing is in flight.
    pub(crate) async fn ended(&self, n: usize) -> Vec<End> {
        eventually(|| self.ends().len() >= n && self.in_flight() == 0).await;
        self.ends()
    }
}

/// Polls until it is true, for at most ten seconds.
pub(crate) async fn eventually(mut is: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never was");
}

pub(crate) const SUCCESS: End = End::Done(Outcome::Success);
pub(crate) const FAILURE: End = End::Done(Outcome::Failure);
pub(crate) const IGNORED: End = End::Done(Outcome::Ignored);
pub(crate) const REFUSED: End = End::Done(Outcome::Refused);

pub(crate) const fn overloaded(millis: Option<u64>) -> End {
    let retry_after = match millis {
        Some(millis) => Some(Duration::from_millis(millis)),
        None => None,
    };
    End::Done(Outcome::Overloaded { retry_after })
}

impl GuardBase for Tally {
    type Permit = ();
    type Wait = Never;

    fn settle(&self, (): (), end: End, _: &Now) {
        let mut state = self.0.lock().unwrap();
        state.in_flight -= 1;
        state.ends.push(end);
    }

    fn abandon(&self, wait: Never, _: &Now) {
        match wait {}
    }
}

impl<Req> Guard<Req> for Tally {
    fn admit(&self, _: &Req, _: &Now) -> Admission<(), Never> {
        let mut state = self.0.lock().unwrap();
        if let Some(rejected) = state.refuse {
            return Admission::Refused(rejected);
        }
        if state.limit.is_some_and(|limit| state.admitted >= limit) {
            let rejected = Rejected::new(Kind::RateLimited, "tally");
            return Admission::Refused(rejected.with_retry_after(Duration::from_secs(60)));
        }
        state.admitted += 1;
        state.in_flight += 1;
        Admission::Admitted(())
    }

    fn poll_wait(
        &self,
        wait: &mut Never,
        _: &Req,
        _: &mut Context<'_>,
        _: &Now,
    ) -> WaitProgress<()> {
        match *wait {}
    }
}

/// Waits for what takes no time to speak of: after half a minute it fails, and says where.
#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let here = Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(30), future).await {
            Ok(output) => output,
            Err(_) => panic!("still waiting after half a minute: {here}"),
        }
    }
}
