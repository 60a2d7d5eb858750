//! How a layer knows that an error came from a policy below it.
//!
//! The error type is the application's, so it cannot be asked: an enum may hold a rejection in any
//! variant, `#[error(transparent)]` hides it from `source()`, and `anyhow::Error` is opaque. But a
//! refusal travels up within the one `poll` in which it was made. So whoever refuses leaves a note
//! on the thread, and whoever polls compares the notes from before and after.
//!
//! The known limit: code between two layers that swallows a rejection and fails for another reason
//! within the same poll is taken for rejected.

use super::{FromRejected, Rejected};
use crate::events::{self, Event};
use std::cell::Cell;

thread_local! {
    static REFUSALS: Cell<u64> = const { Cell::new(0) };
    static LAST: Cell<Option<Rejected>> = const { Cell::new(None) };
}

/// Makes the rejection the service's error, and leaves the note.
#[cold]
pub(crate) fn refuse<E: FromRejected>(rejected: Rejected) -> E {
    events::emit(|| Event::Rejected { rejected });
    note_refusal(rejected);
    E::from_rejected(rejected)
}

/// Leaves the note without making an error: a rejection that was held back for some polls goes up.
#[cold]
pub(crate) fn note_refusal(rejected: Rejected) {
    LAST.set(Some(rejected));
    REFUSALS.set(REFUSALS.get().wrapping_add(1));
}

/// A point in this thread's history, set before a service is polled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusalMark(u64);

impl RefusalMark {
    #[inline]
    pub(crate) fn set() -> Self {
        Self(REFUSALS.get())
    }

    /// The last refusal made since, if any: asked when the poll has returned an error.
    #[inline]
    pub(crate) fn refusal(self) -> Option<Rejected> {
        if REFUSALS.get() == self.0 {
            None
        } else {
            LAST.get()
        }
    }

    /// Takes back the refusals made since: the error was swallowed, and another attempt made. What
    /// that ends with must not look like a refusal to whoever polls further out.
    #[allow(dead_code)] // which features use it depends on which are on
    #[inline]
    pub(crate) fn forget(self) {
        REFUSALS.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn only_refusals_after_the_mark_are_seen() {
        let rejected = Rejected::new(Kind::RateLimited, "api");
        let _: Rejected = refuse(rejected);
        let mark = RefusalMark::set();
        assert_eq!(mark.refusal(), None);
        let _: Rejected = refuse(rejected);
        assert_eq!(mark.refusal(), Some(rejected));
        assert_eq!(RefusalMark::set().refusal(), None);
    }

    #[test]
    fn a_refusal_that_was_swallowed_is_not_seen_further_out() {
        let outer = RefusalMark::set();
        let inner = RefusalMark::set();
        let _: Rejected = refuse(Rejected::new(Kind::TimedOut, "search"));
        inner.forget();
        assert_eq!(outer.refusal(), None);
    }
}
