//! Attempts at a closure: no tower, no request to keep.

use super::{
    Hint, Retry,
    attempts::{AttemptVerdict, Attempts},
};
use crate::{
    classify::{Classify, ErrorsAsFailures},
    clock::{Now, Time},
    error::{KeptRefusal, RefusalMark, waiting},
    events::{self, Event},
    guard::Classified,
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
    /// # What the closure may use
    /// Each attempt is a future of its own, so that this one is `Send` wherever the attempts are.
    /// The price: an attempt can borrow from around the closure, but not what the closure itself
    /// owns or holds by `&mut`. What it consumes it clones, what it counts it counts before the
    /// `async` block, and what it needs by `&mut`, such as a client or a transaction, it gets anew:
    ///
    /// ```
    /// use buttress::{Error, Retry};
    /// use std::io;
    ///
    /// # struct Client;
    /// # impl Client {
    /// #     async fn send(&mut self, mail: String) -> Result<usize, io::Error> { Ok(mail.len()) }
    /// # }
    /// # struct Pool;
    /// # impl Pool { async fn get(&self) -> Result<Client, io::Error> { Ok(Client) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error<io::Error>> {
    /// # let pool = Pool;
    /// let (mail, mut attempts) = ("hello".to_owned(), 0);
    /// let retry = Retry::new("mailer");
    /// let sent = retry.run(|| {
    ///     attempts += 1;
    ///     let (pool, mail) = (&pool, mail.clone());
    ///     async move {
    ///         let mut client = pool.get().await.map_err(Error::Service)?;
    ///         client.send(mail).await.map_err(Error::Service)
    ///     }
    /// });
    /// assert_eq!(sent.await?, 5);
    /// assert_eq!(attempts, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the last attempt returned.
    pub async fn run<T, E: 'static, Fut>(&self, op: impl FnMut() -> Fut) -> Result<T, E>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        self.run_classified(&ErrorsAsFailures, op).await
    }

    /// Returns a handle on this policy whose `run` asks a classifier which results are worth
    /// another attempt: those that it takes for a failure or for overload.
    ///
    /// Without one, every `Err` is. [`ErrorsBy`](crate::ErrorsBy) makes a classifier of a closure
    /// that looks at errors only.
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
    /// match retry.classify(only_resets).run(missing).await {
    ///     Ok(()) => println!("stored"),
    ///     Err(error) => println!("not stored: {error}"),
    /// }
    /// # assert_eq!(retry.snapshot().retries_total, 0);
    /// # }
    /// ```
    pub fn classify<C>(&self, classifier: C) -> Classified<Self, C> {
        Classified::new(self.clone(), classifier)
    }

    async fn run_classified<C, T, E: 'static, Fut>(
        &self,
        classifier: &C,
        mut op: impl FnMut() -> Fut,
    ) -> Result<T, E>
    where
        C: Classify<T, E>,
        Fut: Future<Output = Result<T, E>>,
    {
        let core = &*self.0;
        let mut attempts = Attempts::new();
        loop {
            attempts.start(core);
            let (result, verdict, refusal, mark) = {
                let mut call = pin!(attempts.enter(&mut op));
                poll_fn(|cx| {
                    let mark = RefusalMark::set();
                    let result = attempts.enter(|| call.as_mut().poll(cx));
                    result.map(|result| {
                        let refusal = match &result {
                            Ok(_) => None,
                            Err(error) => mark.rejection(error),
                        };
                        let verdict = match refusal {
                            Some(rejected) => rejected.into(),
                            None => classifier.classify(result.as_ref()).into(),
                        };
                        (result, verdict, refusal, mark)
                    })
                })
                .await
            };
            let failed = match verdict {
                AttemptVerdict::Failed(failed) => failed,
                AttemptVerdict::Final => return result,
                AttemptVerdict::Succeeded => {
                    core.budget.record_success();
                    return result;
                }
            };
            core.failed_attempts.fetch_add(1, Relaxed);
            let hint = failed.retry_after.map_or(Hint::None, Hint::After);
            let now = Now::lazy();
            let Some(wait) = attempts.next_wait(core, failed, hint, &now) else {
                return result;
            };
            let (policy, attempt) = (core.name, attempts.number);
            events::emit(|| Event::Retried {
                policy,
                attempt,
                wait,
            });
            // Kept only where it may turn out to be the answer: when the timer is late.
            let last = attempts.deadline().map(|deadline| {
                let kept = refusal.map(KeptRefusal::new);
                (deadline, result, kept)
            });
            mark.forget();
            match wait.is_zero() {
                // Else nothing outside, such as a timeout, would ever have its turn.
                true => waiting(yield_now()).await,
                false => waiting(sleep_until(now.get().after(wait).to_instant())).await,
            }
            if let Some((deadline, result, kept)) = last
                && deadline <= Time::now()
            {
                kept.into_iter().for_each(KeptRefusal::note);
                attempts.lose::<()>(core);
                return result;
            }
        }
    }
}

impl<C> Classified<Retry, C> {
    /// Runs `op`, and runs it again if the classifier takes its result for a failure or for
    /// overload.
    ///
    /// The classifier is not asked about a rejection by a policy inside `op`. What `op` can and
    /// cannot borrow is said at [`Retry::run`].
    ///
    /// # Errors
    /// What the last attempt returned.
    pub async fn run<T, E: 'static, Fut>(&self, op: impl FnMut() -> Fut) -> Result<T, E>
    where
        C: Classify<T, E>,
        Fut: Future<Output = Result<T, E>>,
    {
        self.policy().run_classified(self.classifier(), op).await
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
