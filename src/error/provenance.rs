//! What those who poll a call are told by policies further in, beside its result.
//!
//! The error type is the application's, so it cannot be asked in general: an enum may hold a
//! rejection in any variant, `#[error(transparent)]` hides it from `source()`. But a refusal
//! travels up within the one `poll` in which it was made. So whoever refuses leaves a note on the
//! thread, and whoever polls compares the notes from before and after. Where the error itself can
//! say, it is asked first (`known.rs`).
//!
//! In the same way a policy that waits says so when it returns `Pending`, because its time is not
//! the service's; and whoever cuts a call off says whose limit that was, while he drops it.

use super::{
    FromRejected, Rejected,
    known::{PLACEHOLDER, learn_type},
};
use crate::{
    context::Limiter,
    events::{self, Event},
};
use std::{any::TypeId, cell::Cell, ptr};
#[cfg(feature = "retry")]
use std::{
    future::{Future, poll_fn},
    pin::pin,
};

/// The notes of a thread.
struct Notes {
    /// `refusals:32 | waits:32`: how many refusals were made, and how many polls ended in a wait of
    /// a policy. Both wrap, after more than there can be in one poll. One word, because it is read
    /// in every poll.
    counts: Cell<u64>,
    /// The last refusal; at first none.
    last: Cell<Rejected>,
    /// Whose limit it was, while a call is being cut off.
    cut: Cell<Option<Limiter>>,
    /// Whose limit it was that the last call was cut off by.
    last_cut: Cell<Limiter>,
    /// The type of the last error that was made of a refusal: known, and not to be looked up.
    last_type: Cell<Option<TypeId>>,
}

impl Notes {
    #[inline(always)]
    fn count_refusal(&self) {
        self.counts.set(self.counts.get().wrapping_add(REFUSAL));
    }
}

const REFUSAL: u64 = 1 << 32;
const WAITS: u64 = REFUSAL - 1;

thread_local! {
    static NOTES: Notes = const {
        Notes {
            counts: Cell::new(0),
            last: Cell::new(PLACEHOLDER),
            cut: Cell::new(None),
            last_cut: Cell::new(Limiter::UNKNOWN),
            last_type: Cell::new(None),
        }
    };
}

/// Makes the rejection the service's error, and leaves the note.
// Handed on in parts: as a whole it would be a pointer into the future that has kept it, and that
// future would lie in memory, and be copied, in every call. Made in place, without this call, a
// refusal would be no sooner done, and calls that are admitted some nanoseconds later.
#[inline(always)]
pub(crate) fn refuse<E: FromRejected>(rejected: Rejected) -> E {
    let (policy, word) = rejected.into_parts();
    refuse_parts(policy, word)
}

/// Does the same. A policy that refuses many calls refuses them alike, one after the other: then
/// the note is there already, and is copied.
// Whoever polls copies the error on, in a piece of two words and one of one. Made of these
// arguments it would be written word by word, and that copy would stall: "Values on the hot path"
// in shared.rs. The note was written long ago, and what is copied from it can be copied on.
#[cold]
#[inline(never)]
fn refuse_parts<E: FromRejected>(policy: &'static str, word: u64) -> E {
    let is_known = NOTES.with(|notes| notes.last_type.get() == Some(TypeId::of::<E>()));
    if !is_known | events::is_listened_to() {
        return refuse_telling(policy, word);
    }
    let is_noted = NOTES.with(|notes| {
        let (last_policy, last_word) = notes.last.get().into_parts();
        last_word == word && ptr::eq(last_policy, policy)
    });
    if !is_noted {
        let rejected = Rejected::from_parts(policy, word);
        note_refusal(rejected);
        return E::from_rejected(rejected);
    }
    NOTES.with(Notes::count_refusal);
    last_as_error()
}

/// Makes an error of the last refusal.
// Apart, because whoever also compares the note has it in words, and would write those. Returned by
// the closure, whose answer is looked at, the note is copied as a word and a piece of two: in the
// same pieces in which a poll whose answer is a word copies its error on.
#[cold]
#[inline(never)]
fn last_as_error<E: FromRejected>() -> E {
    E::from_rejected(NOTES.with(|notes| notes.last.get()))
}

/// Does the same where there is more to do: to learn what the error's type says, and to tell
/// whoever listens. A tail call, so that nothing is kept for it where it is not made.
#[cold]
#[inline(never)]
fn refuse_telling<E: FromRejected>(policy: &'static str, word: u64) -> E {
    let rejected = Rejected::from_parts(policy, word);
    let is_known = NOTES.with(|notes| {
        let this = Some(TypeId::of::<E>());
        notes.last_type.replace(this) == this
    });
    if !is_known {
        learn_type::<E>();
    }
    events::emit(|| Event::Rejected { rejected });
    note_refusal(rejected);
    E::from_rejected(rejected)
}

/// Leaves the note of a refusal.
#[inline(always)]
fn note_refusal(rejected: Rejected) {
    NOTES.with(|notes| {
        notes.last.set(rejected);
        notes.count_refusal();
    });
}

/// Leaves the note of a rejection that goes up later than its call was cut off, and whose limit
/// that was: other calls may have been cut off on this thread meanwhile.
#[cold]
pub(crate) fn note_refusal_by(limiter: Limiter, rejected: Rejected) {
    NOTES.with(|notes| notes.last_cut.set(limiter));
    note_refusal(rejected);
}

/// Leaves the note that a poll ends in a wait of a policy: for whoever returns `Pending` though no
/// service is at work.
#[inline]
pub(crate) fn note_wait() {
    NOTES.with(|notes| {
        let counts = notes.counts.get();
        let waits = counts.wrapping_add(1) & WAITS;
        notes.counts.set(counts & !WAITS | waits);
    });
}

/// Runs a future whose every `Pending` is a wait of a policy.
#[cfg(feature = "retry")]
pub(crate) async fn waiting<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            note_wait();
        }
        polled
    })
    .await
}

/// Drops a call that has had its time, so that whoever holds a permit for it knows whose limit that
/// was.
pub(crate) fn cut_off(limiter: Limiter, drop: impl FnOnce()) {
    struct Restore(Option<Limiter>);
    impl Drop for Restore {
        fn drop(&mut self) {
            NOTES.with(|notes| notes.cut.set(self.0));
        }
    }
    let _restore = Restore(NOTES.with(|notes| {
        notes.last_cut.set(limiter);
        notes.cut.replace(Some(limiter))
    }));
    drop();
}

/// Returns whose limit it is that is cutting off the call that is being dropped; `None` if its
/// caller has left.
pub(crate) fn limiter() -> Option<Limiter> {
    NOTES.with(|notes| notes.cut.get())
}

/// Returns whose limit it was that a call was cut off by which ended in this rejection, as far as
/// that is known: it was the last one on this thread.
pub(crate) fn limiter_of(rejected: &Rejected) -> Limiter {
    NOTES.with(|notes| match notes.last.get() == *rejected {
        true => notes.last_cut.get(),
        false => Limiter::UNKNOWN,
    })
}

/// A rejection that is held back for some polls, and whose limit it was.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)] // which features use it depends on which are on
pub(crate) struct KeptRefusal {
    rejected: Rejected,
    limiter: Limiter,
}

#[allow(dead_code)] // which features use it depends on which are on
impl KeptRefusal {
    /// Keeps a rejection that the present poll has ended in.
    pub(crate) fn new(rejected: Rejected) -> Self {
        Self {
            rejected,
            limiter: limiter_of(&rejected),
        }
    }

    /// Returns this rejection as it was kept, or, if it is another one, without a word on whose
    /// limit it was.
    pub(crate) fn of(rejected: Rejected, kept: Option<Self>) -> Self {
        kept.filter(|kept| kept.rejected == rejected)
            .unwrap_or(Self {
                rejected,
                limiter: Limiter::UNKNOWN,
            })
    }

    pub(crate) fn rejected(self) -> Rejected {
        self.rejected
    }

    /// Leaves its note again: it goes up now.
    #[cold]
    pub(crate) fn note(self) {
        note_refusal_by(self.limiter, self.rejected);
    }

    /// Makes it the error of another call, which has shared the one that it was made for.
    #[cold]
    pub(crate) fn refuse<E: FromRejected>(self) -> E {
        NOTES.with(|notes| notes.last_cut.set(self.limiter));
        refuse(self.rejected)
    }
}

/// A point in this thread's history, set before a service is polled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusalMark(u64);

impl RefusalMark {
    #[inline]
    pub(crate) fn set() -> Self {
        Self(NOTES.with(|notes| notes.counts.get()))
    }

    /// Returns which of the notes have changed since.
    #[inline]
    fn changed(self) -> u64 {
        NOTES.with(|notes| notes.counts.get()) ^ self.0
    }

    /// The last refusal made since, if any: asked when the poll has returned an error.
    #[inline]
    pub(crate) fn refusal(self) -> Option<Rejected> {
        match self.changed() & !WAITS {
            0 => None,
            _ => Some(NOTES.with(|notes| notes.last.get())),
        }
    }

    /// Returns whether a policy has begun to wait since, or goes on waiting: asked when the poll
    /// has returned `Pending`.
    #[inline]
    pub(crate) fn waits(self) -> bool {
        self.changed() & WAITS != 0
    }

    /// Takes back the refusals made since: the error was swallowed, and another attempt made. What
    /// that ends with must not look like a refusal to whoever polls further out.
    #[inline]
    pub(crate) fn forget(self) {
        NOTES.with(|notes| {
            let waits = notes.counts.get() & WAITS;
            notes.counts.set(self.0 & !WAITS | waits);
        });
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
    fn every_refusal_is_noted_and_made_an_error_also_if_it_is_the_same_again() {
        let soon = std::time::Duration::from_secs(1);
        let open = Rejected::new(Kind::CircuitOpen, "db");
        let other = Rejected::new(Kind::CircuitOpen, "cache");
        for rejected in [
            open,
            open,
            open.with_retry_after(soon),
            open,
            other,
            other,
            open,
        ] {
            let mark = RefusalMark::set();
            let error: crate::Error<std::fmt::Error> = refuse(rejected);
            assert_eq!(error, crate::Error::Rejected(rejected));
            assert_eq!(mark.refusal(), Some(rejected));
            let mark = RefusalMark::set();
            assert_eq!(refuse::<Rejected>(rejected), rejected);
            assert_eq!(mark.refusal(), Some(rejected));
        }
    }

    #[test]
    fn a_wait_is_seen_by_whoever_polled_it_and_a_cut_only_while_it_lasts() {
        let mark = RefusalMark::set();
        assert!(!mark.waits());
        note_wait();
        assert!(mark.waits() && !RefusalMark::set().waits());
        assert_eq!(limiter(), None);
        cut_off(Limiter::CALLER, || {
            assert_eq!(limiter(), Some(Limiter::CALLER))
        });
        assert_eq!(limiter(), None);
    }

    #[test]
    fn a_refusal_that_was_kept_is_seen_when_it_goes_up_and_whose_limit_it_was() {
        let rejected = Rejected::new(Kind::TimedOut, "search");
        let limiter = Limiter::operator(std::time::Duration::from_secs(3));
        cut_off(limiter, || {});
        let _: Rejected = refuse(rejected);
        let kept = KeptRefusal::new(rejected);
        // Another call of this thread.
        cut_off(Limiter::UNKNOWN, || {});
        let _: Rejected = refuse(Rejected::new(Kind::TimedOut, "other"));
        let mark = RefusalMark::set();
        kept.note();
        assert_eq!(mark.refusal(), Some(rejected));
        assert_eq!(limiter_of(&rejected), limiter);
    }

    #[test]
    fn a_refusal_that_was_swallowed_is_not_seen_further_out() {
        let outer = RefusalMark::set();
        let inner = RefusalMark::set();
        let _: Rejected = refuse(Rejected::new(Kind::TimedOut, "search"));
        inner.forget();
        assert_eq!(outer.refusal(), None);
    }
    #[test]
    fn both_counts_wrap_and_neither_touches_the_other() {
        let set = |counts| NOTES.with(|notes| notes.counts.set(counts));
        for refusals in [0, !WAITS] {
            set(refusals | WAITS);
            let mark = RefusalMark::set();
            note_wait();
            assert!(mark.waits() && mark.refusal().is_none());
            let mark = RefusalMark::set();
            let _: Rejected = refuse(Rejected::new(Kind::NotReady, "wraps"));
            assert!(mark.refusal().is_some() && !mark.waits());
            note_wait();
            mark.forget();
            assert!(mark.refusal().is_none() && mark.waits());
        }
    }
}
