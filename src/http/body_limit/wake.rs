//! When a body was woken whose reader may come late.

use super::pace::Pace;
use crate::{clock::Time, shared::lock};
use std::{
    mem,
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
};

/// The waker that a body is polled with whose pace matters: it wakes the reader, and notes when.
///
/// The timers of this crate wake the reader itself, and so are never taken for the sender.
#[derive(Debug)]
pub(super) struct ArrivalWaker {
    arrival: Arc<Arrival>,
    waker: Waker,
}

/// When a body was woken, and who waits for that.
///
/// # Invariants
/// 1. A reader that polls is woken by the first wake since that poll began.
/// 2. What is noted is the time of that first wake, until the next poll begins.
/// 3. The lock is not held while a waker is cloned, dropped or woken: these may run code of the
///    application, which may come back here.
#[derive(Debug, Default)]
struct Arrival(Mutex<ArrivalState>);

#[derive(Debug, Default)]
struct ArrivalState {
    reader: Option<Waker>,
    woken: Option<Time>,
}

impl ArrivalWaker {
    pub(super) fn new() -> Self {
        let arrival = Arc::<Arrival>::default();
        let waker = Waker::from(Arc::clone(&arrival));
        Self { arrival, waker }
    }

    /// Sets whom the body wakes, before it is polled: it may wake within the poll. Returns when it
    /// was woken since the poll before, if it was.
    fn begin_poll(&self, reader: &Waker) -> Option<Time> {
        let reader = Some(reader.clone());
        let next = ArrivalState {
            reader,
            woken: None,
        };
        let before = mem::replace(&mut *lock(&self.arrival.0), next);
        before.woken
    }
}

impl Drop for ArrivalWaker {
    fn drop(&mut self) {
        // The sender may keep its waker for longer than there is a reader.
        let state = mem::take(&mut *lock(&self.arrival.0));
        drop(state);
    }
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = lock(&self.0);
        if let Some(reader) = state.reader.take() {
            state.woken = Some(Time::now());
            drop(state);
            reader.wake();
        }
    }
}

/// Polls a body; before that, tells its pace when it was woken, if that is noted.
#[inline]
pub(super) fn poll_body<T>(
    cx: &mut Context<'_>,
    arrival: Option<&ArrivalWaker>,
    pace: &mut Pace,
    poll: impl FnOnce(&mut Context<'_>) -> T,
) -> T {
    let Some(arrival) = arrival else {
        return poll(cx);
    };
    if let Some(at) = arrival.begin_poll(cx.waker()) {
        pace.on_woken(at);
    }
    poll(&mut Context::from_waker(&arrival.waker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::MinRate;
    use std::{
        sync::{
            Weak,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        time::Duration,
    };
    use tokio::time::advance;

    /// A reader that counts how often it is woken, and asserts that nobody holds the lock when it
    /// is woken or dropped.
    struct Reader(Weak<Arrival>, Arc<AtomicUsize>);

    impl Reader {
        fn asserts_free(&self) {
            if let Some(arrival) = self.0.upgrade() {
                assert!(arrival.0.try_lock().is_ok(), "under the lock");
            }
        }
    }

    impl Wake for Reader {
        fn wake(self: Arc<Self>) {
            self.asserts_free();
            self.1.fetch_add(1, Relaxed);
        }
    }

    impl Drop for Reader {
        fn drop(&mut self) {
            self.asserts_free();
        }
    }

    fn reader(of: &ArrivalWaker) -> (Waker, Arc<AtomicUsize>) {
        let woken = Arc::<AtomicUsize>::default();
        let reader = Reader(Arc::downgrade(&of.arrival), woken.clone());
        (Waker::from(Arc::new(reader)), woken)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_wake_since_a_poll_wakes_its_reader_and_is_noted() {
        let arrival = ArrivalWaker::new();
        let ((first, first_woken), (second, second_woken)) = (reader(&arrival), reader(&arrival));
        // Nobody waits yet.
        arrival.waker.wake_by_ref();
        assert_eq!(arrival.begin_poll(&first), None);
        advance(Duration::from_secs(1)).await;
        let at = Time::now();
        arrival.waker.wake_by_ref();
        advance(Duration::from_secs(1)).await;
        arrival.waker.wake_by_ref();
        assert_eq!(first_woken.load(Relaxed), 1);
        // Once, and whoever reads then.
        assert_eq!(arrival.begin_poll(&second), Some(at));
        assert_eq!(arrival.begin_poll(&second), None);
        arrival.waker.wake_by_ref();
        assert_eq!(
            (first_woken.load(Relaxed), second_woken.load(Relaxed)),
            (1, 1)
        );
    }

    #[test]
    fn a_reader_that_has_gone_is_let_go_of_though_its_waker_is_kept() {
        let arrival = ArrivalWaker::new();
        let kept = arrival.waker.clone();
        let (waker, woken) = reader(&arrival);
        arrival.begin_poll(&waker);
        drop(waker);
        drop(arrival);
        assert_eq!(Arc::strong_count(&woken), 1);
        kept.wake();
        assert_eq!(woken.load(Relaxed), 0);
    }

    #[test]
    fn a_wake_within_the_poll_is_not_lost() {
        let mut pace = Pace::new(None, Some(MinRate::per_second(1)));
        let arrival = ArrivalWaker::new();
        let (waker, woken) = reader(&arrival);
        let mut cx = Context::from_waker(&waker);
        for n in 1..=3 {
            poll_body(&mut cx, Some(&arrival), &mut pace, |cx| {
                cx.waker().wake_by_ref();
            });
            assert_eq!(woken.load(Relaxed), n);
        }
    }
}
