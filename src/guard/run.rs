//! Any guard around a closure: no tower, no shared ownership, nothing counted.

use super::{Admission, CallGuard, End, Guard, WaitProgress, wait::WaitGuard, wait::poll_until};
use crate::{
    classify::Outcome,
    clock::Now,
    error::{FromRejected, RefusalMark, note_wait, refuse},
};
use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
};

/// Runs `op` if the guard admits `req`, after a wait if need be.
///
/// An `Err` counts as a failure. If it is a rejection by a policy inside `op`, a timeout counts as
/// a failure too, but a refusal counts as overload. For a guard that does not look at the request
/// pass `&()`, or use the policy's own `run` method. Dropping the future cancels the call,
/// or leaves the queue.
///
/// # Errors
/// The guard's [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
pub async fn run<G, Req, T, E>(
    guard: &G,
    req: &Req,
    op: impl AsyncFnOnce() -> Result<T, E>,
) -> Result<T, E>
where
    G: Guard<Req>,
    E: FromRejected,
{
    let mut call_guard = match guard.admit(req, &Now::lazy()) {
        Admission::Admitted(permit) => CallGuard::new(guard, permit),
        Admission::Refused(rejected) => return Err(refuse(rejected)),
        Admission::Wait(wait) => wait_for(guard, req, wait).await?,
    };
    let mut op = pin!(call_guard.start(|| op()));
    poll_fn(|cx| {
        let mark = RefusalMark::set();
        Poll::Ready(
            match ready!(call_guard.poll(mark, || op.as_mut().poll(cx))) {
                Ok(value) => {
                    call_guard.succeed();
                    Ok(value)
                }
                Err(error) => {
                    let error = call_guard.end_if_rejected(mark, error);
                    call_guard.end_badly(End::Done(Outcome::Failure));
                    Err(error)
                }
            },
        )
    })
    .await
}

async fn wait_for<'a, G, Req, E>(
    guard: &'a G,
    req: &Req,
    wait: G::Wait,
) -> Result<CallGuard<&'a G>, E>
where
    G: Guard<Req>,
    E: FromRejected,
{
    let mut wait = WaitGuard::new(guard, wait);
    let mut timer = pin!(None);
    poll_fn(|cx| {
        loop {
            match wait.poll(req, cx, &Now::lazy()) {
                WaitProgress::Admitted(permit) => {
                    wait.finish();
                    let mut call_guard = CallGuard::new(guard, permit);
                    call_guard.has_waited();
                    return Poll::Ready(Ok(call_guard));
                }
                WaitProgress::Refused(rejected) => {
                    wait.finish();
                    return Poll::Ready(Err(refuse(rejected)));
                }
                WaitProgress::Pending(until) => {
                    let timer = timer.as_mut();
                    let over = until.map_or(Poll::Pending, |until| poll_until(timer, until, cx));
                    if over.is_pending() {
                        note_wait();
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await
}
