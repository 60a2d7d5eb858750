//! What guards are told of a call's waits for other policies.

use buttress::{
    Error, Guard, GuardBase, Now, RateLimiter, Rejected, Time,
    guard::{self, Admission, End, Never},
};
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{sleep, timeout};

const MS: Duration = Duration::from_millis(1);

type Answer = Result<(), Error<std::io::Error>>;

/// What a guard was told, and how many milliseconds after the beginning.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Hook {
    Pending(u128),
    WaitBegins(u128),
    WaitEnds(u128),
    Ends(u128, End),
}

#[derive(Clone)]
struct Notes {
    began: Time,
    hooks: Arc<Mutex<Vec<Hook>>>,
}

impl Notes {
    fn new() -> Self {
        Self {
            began: Time::now(),
            hooks: Arc::default(),
        }
    }

    fn note(&self, hook: impl FnOnce(u128) -> Hook) {
        let hook = hook(Time::now().since(self.began).as_millis());
        self.hooks.lock().unwrap().push(hook);
    }

    fn take(&self) -> Vec<Hook> {
        std::mem::take(&mut self.hooks.lock().unwrap())
    }
}

impl GuardBase for Notes {
    type Permit = ();
    type Wait = Never;

    fn settle(&self, (): (), end: End, _: &Now) {
        self.note(|at| Hook::Ends(at, end));
    }
    fn on_pending(&self, (): &mut (), _: &Now) {
        self.note(Hook::Pending);
    }
    fn on_wait_begin(&self, (): &mut (), _: &Now) {
        self.note(Hook::WaitBegins);
    }
    fn on_wait_end(&self, (): &mut (), _: Duration, _: &Now) {
        self.note(Hook::WaitEnds);
    }
}

impl Guard<()> for Notes {
    fn admit(&self, (): &(), _: &Now) -> Admission<()> {
        Admission::Admitted(())
    }
}

/// Lets one call in per 100 ms, the others after a wait.
async fn limited<F: Future<Output = Answer>>(op: impl FnOnce() -> F) -> Answer {
    let limiter = RateLimiter::new("api", 1, 100 * MS).unwrap();
    let _ = limiter.run(async || Ok::<_, Rejected>(())).await;
    limiter.wait_up_to(Duration::MAX).run(op).await
}

#[tokio::test(start_paused = true)]
async fn a_guard_hears_of_a_wait_when_it_begins_and_when_it_is_over() {
    let notes = Notes::new();
    let answer: Answer = guard::run(&notes, &(), async || {
        sleep(10 * MS).await;
        let op = async || {
            sleep(10 * MS).await;
            Ok(())
        };
        limited(op).await
    })
    .await;
    answer.unwrap();
    let success = End::Done(buttress::Outcome::Success);
    assert_eq!(
        notes.take(),
        [
            Hook::Pending(0),
            Hook::WaitBegins(10),
            Hook::WaitEnds(110),
            Hook::Ends(120, success),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn every_wait_that_began_has_ended_when_the_call_is_settled() {
    let notes = Notes::new();
    let call = guard::run(&notes, &(), || limited(async || Ok(())));
    assert!(timeout(30 * MS, call).await.is_err());
    assert_eq!(
        notes.take(),
        [
            Hook::WaitBegins(0),
            // The call is polled once more before it is dropped.
            Hook::WaitEnds(30),
            Hook::WaitBegins(30),
            Hook::WaitEnds(30),
            Hook::Ends(30, End::Cancelled),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_another_guard_of_the_tuple_is_told_of_when_it_is_over() {
    let notes = Notes::new();
    let limiter = RateLimiter::new("api", 1, 100 * MS).unwrap();
    let both = (notes.clone(), limiter.wait_up_to(Duration::MAX));
    let success = End::Done(buttress::Outcome::Success);
    for _ in 0..2 {
        let answer: Answer = guard::run(&both, &(), async || Ok(())).await;
        answer.unwrap();
    }
    assert_eq!(
        notes.take(),
        [
            Hook::Ends(0, success),
            Hook::WaitBegins(100),
            Hook::WaitEnds(100),
            Hook::Ends(100, success),
        ]
    );
}
