//! Attempts at a closure: no tower, no request to keep.

use super::{
    Hint, Retry,
    attempts::{AttemptVerdict, Attempts},
};
use crate::{
    classify::{Classify, ErrorsAsFailures},
    clock::{Now, Time},
    error::RefusalMark,
};
use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::atomic::Ordering::Relaxed,
    task::Poll,
};
use tokio::time::sleep_until;

impl Retry {
    /// Runs `op`, and runs it again if it fails. Every `Err` is a failure, except a rejection by a
    /// policy inside `op`; but one for a [timeout](crate::Kind::TimedOut) is a failure, too.
    ///
    /// The error need not be able to hold a [`Rejected`](crate::Rejected), because this never
    /// rejects a call.
    ///
    /// # Errors
    /// What the last attempt returned.
    pub async fn run<T, E>(&self, op: impl AsyncFnMut() -> Result<T, E>) -> Result<T, E> {
        self.run_classified(ErrorsAsFailures, op).await
    }

    /// Runs `op`, and runs it again if this classifier takes its result for a failure or for
    /// overload.
    ///
    /// ```
    /// use buttress::{Outcome, retry::Retry};
    /// use std::io;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let only_resets = |result: Result<&(), &io::Error>| match result {
    ///     Ok(()) => Outcome::Success,
    ///     Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Outcome::Failure,
    ///     Err(_) => Outcome::Ignored,
    /// };
    /// let retry = Retry::new("store");
    /// let missing = async || Err(io::Error::from(io::ErrorKind::NotFound));
    /// match retry.run_classified(only_resets, missing).await {
    ///     Ok(()) => println!("stored"),
    ///     Err(error) => println!("not stored: {error}"),
    /// }
    /// # assert_eq!(retry.snapshot().retries_total, 0);
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the last attempt returned.
    pub async fn run_classified<T, E>(
        &self,
        classifier: impl Classify<T, E>,
        mut op: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let core = &*self.0;
        let mut attempts = Attempts::new();
        loop {
            attempts.start(core);
            let (result, verdict, mark) = {
                let op = &mut op;
                let mut call = pin!(attempts.enter(move || op()));
                poll_fn(|cx| {
                    let mark = RefusalMark::set();
                    let result = attempts.enter(|| call.as_mut().poll(cx));
                    result.map(|result| {
                        let refusal = mark.refusal().filter(|_| result.is_err());
                        let verdict = match refusal {
                            Some(rejected) => rejected.into(),
                            None => classifier.classify(result.as_ref()).into(),
                        };
                        (result, verdict, mark)
                    })
                })
                .await
            };
            let retry_after = match verdict {
                AttemptVerdict::Failed(retry_after) => retry_after,
                AttemptVerdict::Final => return result,
                AttemptVerdict::Succeeded => {
                    core.budget.record_success();
                    return result;
                }
            };
            core.failed_attempts.fetch_add(1, Relaxed);
            let hint = retry_after.map_or(Hint::None, Hint::After);
            let now = Now::lazy();
            let Some(wait) = attempts.next_wait(core, hint, &now) else {
                return result;
            };
            mark.forget();
            // Kept only where it may turn out to be the answer: when the timer is late.
            let last = attempts.deadline().map(|deadline| (deadline, result));
            match wait.is_zero() {
                // Else nothing outside, such as a timeout, would ever have its turn.
                true => yield_now().await,
                false => sleep_until(now.get().after(wait).to_instant()).await,
            }
            if let Some((deadline, result)) = last
                && deadline <= Time::now()
            {
                attempts.lose::<()>(core);
                return result;
            }
        }
    }
}

/// Lets the runtime do something else once.
async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| match mem::replace(&mut has_yielded, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
