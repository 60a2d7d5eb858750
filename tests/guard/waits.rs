//! What guards are told of a call's waits for other policies.

use buttress::{
    Error, ErrorsAsFailures, Guard, GuardBase, Kind, Now, RateLimiter, Rejected, Time, WaitLayer,
    guard::{self, Admission, End, Never},
    rate_limit,
};
use futures::FutureExt;
use std::{
    future::Future,
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep, timeout};
use tower::{Layer, Service};

const MS: Duration = Duration::from_millis(1);

type Answer = Result<(), Error<io::Error>>;

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
async fn a_wait_for_another_guard_of_the_tuple_is_told_of_when_it_begins_and_when_it_is_over() {
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
            Hook::WaitBegins(0),
            Hook::WaitEnds(100),
            Hook::Ends(100, success),
        ]
    );
}

/// A line in which the next call waits for 100 ms.
fn line() -> rate_limit::WaitingLimiter {
    let limiter = RateLimiter::new("api", 1, 100 * MS).unwrap();
    let first: Answer = limiter.run(async || Ok(())).now_or_never().unwrap();
    first.unwrap();
    limiter.wait_up_to(Duration::MAX)
}

struct RefusesAll;

impl GuardBase for RefusesAll {
    type Permit = ();
    type Wait = Never;

    fn settle(&self, (): (), _: End, _: &Now) {}
}

impl Guard<()> for RefusesAll {
    fn admit(&self, (): &(), _: &Now) -> Admission<()> {
        Admission::Refused(Rejected::new(Kind::Overloaded, "refuses all"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_hears_of_the_end_of_a_wait_for_another_guard_before_it_hears_that_nothing_came_of_it()
 {
    let notes = Notes::new();
    let waits = |at| [Hook::WaitBegins(0), Hook::WaitEnds(at)];
    let left = (notes.clone(), line());
    let call = guard::run(&left, &(), async || Ok::<_, Rejected>(()));
    assert!(timeout(30 * MS, call).await.is_err());
    let hooks = notes.take();
    assert_eq!(hooks[..2], waits(30));
    assert_eq!(hooks[2..], [Hook::Ends(30, End::NeverStarted)]);

    let notes = Notes::new();
    let refused = (notes.clone(), line(), RefusesAll);
    let call = guard::run(&refused, &(), async || Ok::<_, Rejected>(()));
    assert!(call.await.is_err());
    let hooks = notes.take();
    assert_eq!(hooks[..2], waits(100));
    assert_eq!(hooks[2..], [Hook::Ends(100, End::NeverStarted)]);

    let notes = Notes::new();
    let twice = (notes.clone(), line(), line());
    let call: Answer = guard::run(&twice, &(), async || Ok(())).await;
    call.unwrap();
    let hooks = notes.take();
    assert_eq!(hooks[..2], waits(100));
    assert!(matches!(hooks[2..], [Hook::Ends(100, End::Done(_))]));
}

/// What becomes of a service that is not ready at first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Readiness {
    Ready,
    Fails,
    Panics,
}

/// A service whose clones become ready, or do not, after so long.
struct Unready {
    after: Duration,
    becomes: Readiness,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clone for Unready {
    fn clone(&self) -> Self {
        Self {
            timer: None,
            ..*self
        }
    }
}

impl Service<()> for Unready {
    type Response = ();
    type Error = Error<io::Error>;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        if !self.after.is_zero() {
            let after = self.after;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(after)));
            ready!(timer.as_mut().poll(cx));
        }
        match self.becomes {
            Readiness::Ready => Poll::Ready(Ok(())),
            Readiness::Fails => Poll::Ready(Err(Error::Service(io::Error::other("unready")))),
            Readiness::Panics => panic!("unready"),
        }
    }
    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_readiness_after_another_is_told_of_however_it_ends_and_if_there_is_one() {
    use Readiness::{Fails, Panics, Ready};
    let success = End::Done(buttress::Outcome::Success);
    for (becomes, after, left_at, end) in [
        (Ready, 50, 1_000, success),
        (Ready, 0, 1_000, success),
        (Ready, 50, 120, End::NeverStarted),
        (Fails, 50, 1_000, End::NeverStarted),
        (Fails, 0, 1_000, End::NeverStarted),
        (Panics, 50, 1_000, End::Panicked),
        (Panics, 0, 1_000, End::Panicked),
    ] {
        let notes = Notes::new();
        let inner = Unready {
            after: after * MS,
            becomes,
            timer: None,
        };
        let layer = WaitLayer::new((line(), notes.clone())).classify(ErrorsAsFailures);
        let call = layer.layer(inner).call(());
        let _ = AssertUnwindSafe(timeout(left_at * MS, call))
            .catch_unwind()
            .await;
        let over = u128::from(left_at.min(100 + after));
        let mut expected = vec![Hook::Ends(over, end)];
        if after > 0 {
            // At the end of the time that it is given it is polled once more.
            let polled = if left_at == 120 { 2 } else { 1 };
            let waits = [Hook::WaitBegins(100), Hook::WaitEnds(over)];
            let again = [Hook::WaitBegins(over), Hook::WaitEnds(over)];
            let waits = [waits, again].into_iter().take(polled).flatten();
            expected.splice(..0, waits);
        }
        assert_eq!(notes.take(), expected, "{becomes:?} after {after} ms");
    }
}
