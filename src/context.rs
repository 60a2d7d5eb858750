//! What travels with a call inside the process: its deadline and the number of its attempt.
//!
//! Both hold for everything that the call does in its own task, whatever the type of the request:
//! a handler that calls three clients does not have to hand its deadline to each of them. They do
//! not follow into tasks that the call spawns; there, set the deadline again with
//! [`Deadline::scope`](crate::timeout::Deadline::scope).

use crate::clock::Time;
use std::cell::Cell;

/// What is known about the call that is being polled on this thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Context {
    /// When its caller stops waiting.
    pub deadline: Option<Time>,
    /// Which attempt this is; the first is 1.
    pub attempt: u32,
}

thread_local!(static CURRENT: Cell<Context> = const {
    Cell::new(Context { deadline: None, attempt: 1 })
});

/// The context of the running call.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_context_ends_with_its_poll_even_in_a_panic() {
        let inner = Context {
            deadline: Some(Time(9)),
            attempt: 3,
        };
        assert_eq!(inner.enter(current), inner);
        let _ = catch_unwind(AssertUnwindSafe(|| inner.enter(|| panic!("boom"))));
        assert_eq!(
            current(),
            Context {
                deadline: None,
                attempt: 1
            }
        );
    }
}
