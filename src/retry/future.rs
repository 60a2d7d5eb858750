//! The attempts at one call of a service.

use super::{
    Hint, Pushback, Replay,
    attempts::{AttemptVerdict, Attempts, Failed},
    service::LayerState,
};
use crate::{
    classify::Classify,
    clock::{Now, Time},
    error::{FromRejected, KeptRefusal, RefusalMark, note_wait, refuse},
    events::{self, Event},
    guard::{StrategyFor, poll_until},
    shared::{Shared, ready_apart},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Sleep;
use tower_service::Service;

pin_project! {
    /// The response future of [`RetryService`](super::RetryService).
    pub struct RetryFuture<S, Req, R, C>
    where
        S: Service<R::Request>,
        R: Replay<Req>,
        C: StrategyFor<Req>,
    {
        #[pin]
        state: State<S::Future, R::Request, S::Error>,
        // The call's only timer, made for its first wait.
        #[pin]
        timer: Option<Sleep>,
        // What further attempts are made with; `None` for a request that is sent only once.
        next: Option<(S, R::Kept)>,
        attempts: Attempts,
        layer: Shared<LayerState<R, C>>,
        // The classifier, if it was chosen by the request.
        choice: C::Choice,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, Req, E> {
        Called { #[pin] call: F },
        // `next` is there until the state is left.
        Waiting { until: Time, next: Option<NextAttempt<Req, E>> },
        Readying { next: Option<NextAttempt<Req, E>> },
    }
}

/// An attempt that is to start.
struct NextAttempt<Req, E> {
    req: Req,
    /// The error of the attempt before, for when the deadline comes first: it says more than that
    /// there was no time. It lies where the running call does, so the future does not grow by it.
    /// `None` without a deadline, and for a response, which would hold its connection.
    failed: Option<LastError<E>>,
}

/// An error, and the rejection by a policy further in that it is, if it is one.
struct LastError<E> {
    error: E,
    kept: Option<KeptRefusal>,
}

impl<E: 'static> LastError<E> {
    /// Keeps the error that the present poll has ended in.
    // By value: what a reference is made to lies in memory, also where there is no error.
    #[cold]
    #[inline(never)]
    fn new(error: E, mark: RefusalMark) -> Self {
        let kept = mark.rejection(&error).map(KeptRefusal::new);
        Self { error, kept }
    }

    /// Returns the error, which goes up now.
    fn refuse(self) -> E {
        self.kept.into_iter().for_each(KeptRefusal::note);
        self.error
    }
}

impl<S, Req, R, C> RetryFuture<S, Req, R, C>
where
    S: Service<R::Request>,
    R: Replay<Req>,
    C: StrategyFor<Req>,
{
    // Always: the future is large, and would be copied.
    #[inline(always)]
    pub(super) fn begin(
        call: S::Future,
        next: Option<(S, R::Kept)>,
        layer: Shared<LayerState<R, C>>,
        choice: C::Choice,
    ) -> Self {
        Self {
            state: State::Called { call },
            timer: None,
            next,
            attempts: Attempts::new(),
            layer,
            choice,
        }
    }
}

impl<S, Req, R, C> Future for RetryFuture<S, Req, R, C>
where
    R: Replay<Req> + Pushback<S::Response, S::Error>,
    S: Service<R::Request>,
    S::Error: FromRejected,
    C: StrategyFor<Req>,
    C::Strategy: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                // Called => over | Waiting | Readying
                StateProj::Called { call } => {
                    let mark = RefusalMark::set();
                    let result = ready!(this.attempts.enter(|| call.poll(cx)));
                    let verdict = this.layer.verdict(this.choice, mark, result.as_ref());
                    let AttemptVerdict::Failed(failed) = verdict else {
                        this.layer.record_end(verdict);
                        return ready_apart(result);
                    };
                    let now = Now::lazy();
                    let next = this.next.as_mut();
                    let next = this
                        .layer
                        .next_request(this.attempts, next, &result, failed, &now);
                    let Some((wait, req)) = next else {
                        return Poll::Ready(result);
                    };
                    let (policy, attempt) = (this.layer.retry.name(), this.attempts.number);
                    events::emit(|| Event::Retried {
                        policy,
                        attempt,
                        wait,
                    });
                    // What failed lets go of its connection before anything is waited for.
                    let has_deadline = this.attempts.deadline().is_some();
                    let failed = result.err().filter(|_| has_deadline);
                    let failed = failed.map(|error| LastError::new(error, mark));
                    mark.forget();
                    let next = Some(NextAttempt { req, failed });
                    if wait.is_zero() {
                        this.state.set(State::Readying { next });
                        // Else nothing outside, such as a timeout, would ever have its turn.
                        cx.waker().wake_by_ref();
                        note_wait();
                        return Poll::Pending;
                    }
                    let until = now.get().after(wait);
                    this.state.set(State::Waiting { until, next });
                }

                // Waiting => Readying
                StateProj::Waiting { until, next } => {
                    if poll_until(this.timer.as_mut(), *until, cx).is_pending() {
                        note_wait();
                        return Poll::Pending;
                    }
                    let next = next.take();
                    this.state.set(State::Readying { next });
                }

                // Readying => Called | over
                StateProj::Readying { next } => {
                    let Some((service, _)) = this.next else {
                        return without_what_it_needs();
                    };
                    let mark = RefusalMark::set();
                    let is_ready = match this.attempts.enter(|| service.poll_ready(cx)) {
                        Poll::Ready(Ok(())) => true,
                        Poll::Ready(Err(error)) => {
                            this.layer.record_unready(this.choice, mark, &error);
                            return Poll::Ready(Err(error));
                        }
                        Poll::Pending => false,
                    };
                    let deadline = this.attempts.deadline();
                    if !is_ready {
                        let timer = this.timer.as_mut();
                        let over = deadline.map_or(Poll::Pending, |at| poll_until(timer, at, cx));
                        if over.is_pending() {
                            note_wait();
                            return Poll::Pending;
                        }
                    }
                    let Some(NextAttempt { req, failed }) = next.take() else {
                        return without_what_it_needs();
                    };
                    // Timers are late: by a millisecond, or by as long as the runtime was busy.
                    if !is_ready || deadline.is_some_and(|at| at <= Time::now()) {
                        this.attempts.lose::<()>(&this.layer.retry.0);
                        let too_late = || refuse(this.attempts.too_late(&this.layer.retry.0));
                        return Poll::Ready(Err(failed.map_or_else(too_late, LastError::refuse)));
                    }
                    this.attempts.start(&this.layer.retry.0);
                    let call = this.attempts.enter(|| service.call(req));
                    this.state.set(State::Called { call });
                }
            }
        }
    }
}

/// Answers the poll of an attempt that has no service or no request, which nothing will wake.
#[cold]
fn without_what_it_needs<T>() -> Poll<T> {
    debug_assert!(false, "an attempt is made only while both are there");
    Poll::Pending
}

impl<R, C> LayerState<R, C> {
    #[inline]
    fn verdict<Req, Res, E: 'static>(
        &self,
        choice: &C::Choice,
        mark: RefusalMark,
        result: Result<&Res, &E>,
    ) -> AttemptVerdict
    where
        C: StrategyFor<Req>,
        C::Strategy: Classify<Res, E>,
    {
        if let Err(error) = result
            && let Some(rejected) = mark.rejection(error)
        {
            return rejected.into();
        }
        self.classifier.chosen(choice).classify(result).into()
    }

    #[inline]
    fn record_end(&self, verdict: AttemptVerdict) {
        if verdict == AttemptVerdict::Succeeded {
            self.retry.0.budget.record_success();
        }
    }

    /// Remembers that a call ended because the service did not become ready for another attempt.
    #[cold]
    fn record_unready<Req, Res, E: 'static>(&self, choice: &C::Choice, mark: RefusalMark, error: &E)
    where
        C: StrategyFor<Req>,
        C::Strategy: Classify<Res, E>,
    {
        if let AttemptVerdict::Failed(_) = self.verdict(choice, mark, Err(error)) {
            self.retry.0.budget.record_lost();
        }
    }

    /// Counts the failure, and returns the wait before the next attempt and its request, if there
    /// is one.
    #[cold]
    fn next_request<S, Req, Res, E>(
        &self,
        attempts: &mut Attempts,
        next: Option<&mut (S, R::Kept)>,
        result: &Result<Res, E>,
        failed: Failed,
        now: &Now,
    ) -> Option<(Duration, R::Request)>
    where
        R: Replay<Req> + Pushback<Res, E>,
    {
        let core = &*self.retry.0;
        core.failed_attempts.fetch_add(1, Relaxed);
        let (_, kept) = next?;
        let unsent = matches!(result, Err(error) if self.replay.is_unsent(error));
        if !self.replay.may_repeat(kept, unsent) {
            return None;
        }
        let hint = match (self.replay.hint(result.as_ref()), failed.retry_after) {
            (Hint::None, Some(after)) => Hint::After(after),
            (hint, _) => hint,
        };
        let wait = attempts.next_wait(core, failed, hint, now)?;
        match self.replay.next_request(kept, attempts.number) {
            Some(req) => Some((wait, req)),
            None => attempts.give_up(core),
        }
    }
}

impl<S, Req, R, C> fmt::Debug for RetryFuture<S, Req, R, C>
where
    S: Service<R::Request>,
    R: Replay<Req>,
    C: StrategyFor<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").finish_non_exhaustive()
    }
}
