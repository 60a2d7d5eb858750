//! The context of a running call: its deadline, its criticality and the number of its attempt.
//!
//! It holds for everything that the call does in its own task, whatever the type of the request: a
//! handler that calls three clients does not have to hand its deadline to each of them. It does not
//! follow into tasks that the call spawns; hand it on with [`Context::scope`]:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use buttress::context;
//!
//! let task = tokio::spawn(context::current().scope(async { context::current() }));
//! assert_eq!(task.await.unwrap(), context::current());
//! # }
//! ```

use crate::{clock::Time, criticality::Criticality};
use pin_project_lite::pin_project;
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

/// What is known about the call that is being polled on this thread: see [`current`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Context {
    /// When the caller stops waiting. Policies start nothing that cannot end by then.
    pub deadline: Option<Time>,
    /// Which attempt of a retry this is; the first is 1, and so is a call that is not retried.
    pub attempt: u32,
    /// How much the call matters, if its caller has said so.
    pub criticality: Option<Criticality>,
}

const NOTHING: Context = Context {
    deadline: None,
    attempt: 1,
    criticality: None,
};

thread_local!(static CURRENT: Cell<Context> = const { Cell::new(NOTHING) });

/// Returns the context of the call that is being polled on this thread.
///
/// Outside of any call it has no deadline, no criticality, and the attempt is the first.
#[inline]
pub fn current() -> Context {
    CURRENT.get()
}

impl Context {
    /// Runs `f` (one poll, usually) in this context, and restores the former one even if it panics.
    #[inline]
    pub fn enter<T>(self, f: impl FnOnce() -> T) -> T {
        struct Restore(Context);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(self));
        f()
    }

    /// Runs a future in this context, whatever context it is polled in.
    ///
    /// For tasks that a call spawns and that are part of it: they then have its deadline.
    pub const fn scope<F: Future>(self, future: F) -> ContextScope<F> {
        ContextScope {
            future,
            context: self,
        }
    }

    /// Sets how much the call matters.
    ///
    /// A load shed prefers what matters more, and clients tell it to the services that they call
    /// (with `http::CriticalityHeaderClientLayer`). So a job that can wait is out of the way of users
    /// everywhere:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use buttress::{Criticality, context};
    ///
    /// let sheddable = context::current().with_criticality(Criticality::Sheddable);
    /// sheddable.scope(async { /* calls of the job */ }).await;
    /// # }
    /// ```
    #[must_use]
    pub const fn with_criticality(self, criticality: Criticality) -> Self {
        Self {
            criticality: Some(criticality),
            ..self
        }
    }
}

pin_project! {
    /// The future that runs another one in a given context: see [`Context::scope`].
    #[derive(Debug)]
    pub struct ContextScope<F> {
        #[pin]
        future: F,
        context: Context,
    }
}

impl<F: Future> Future for ContextScope<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.context.enter(|| this.future.poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const INNER: Context = Context {
        deadline: Some(Time(9)),
        attempt: 3,
        criticality: Some(Criticality::Sheddable),
    };

    #[test]
    fn a_context_ends_with_its_poll_even_in_a_panic() {
        assert_eq!(INNER.enter(current), INNER);
        let _ = catch_unwind(AssertUnwindSafe(|| INNER.enter(|| panic!("boom"))));
        assert_eq!(current(), NOTHING);
    }

    #[tokio::test]
    async fn a_scope_holds_in_every_poll_and_in_no_other_task() {
        let seen = INNER.scope(async {
            tokio::task::yield_now().await;
            let spawned = tokio::spawn(async { current() }).await;
            (current(), spawned.unwrap())
        });
        assert_eq!(seen.await, (INNER, NOTHING));
        assert_eq!(current(), NOTHING);
    }
}
