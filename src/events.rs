//! One way to hear what all policies do: rejections, timeouts, trips, retries.
//!
//! [`on_event`] takes a callback for the whole process, which is told of every [`Event`] as it
//! happens. It suits a log line, a counter of your own or an alert. What policies have done so far,
//! and what they are doing, is in their snapshots; all changes of one breaker are in its
//! [`transitions`](crate::circuit_breaker::CircuitBreaker::transitions).
//!
//! ```
//! use buttress::{Error, RateLimiter, events::{self, Event}};
//! use std::{io, sync::mpsc, time::Duration};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::InvalidConfig> {
//! let (heard, hears) = mpsc::channel();
//! let listener = events::on_event(move |event| {
//!     // Hand it on: a callback runs within the call that it tells of.
//!     let _ = heard.send(event.clone());
//! });
//!
//! let limiter = RateLimiter::new("mails", 1, Duration::from_secs(60))?;
//! for _ in 0..2 {
//!     match limiter.run(async || Ok::<_, Error<io::Error>>(())).await {
//!         Ok(()) => println!("sent"),
//!         Err(error) => println!("not sent: {error}"),
//!     }
//! }
//! let Ok(Event::Rejected { rejected, .. }) = hears.recv() else { panic!() };
//! assert_eq!(rejected.policy(), "mails");
//! listener.remove();
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - Calls that succeed tell of nothing, and cost nothing more. Where there is something to tell
//!   and nobody listens, it costs the read of one shared word.
//! - A callback runs on the thread on which it happened, within the call's own poll: it must not
//!   block. None of this crate's locks is held meanwhile.
//! - A callback that panics harms no call and no other callback. The process's panic hook sees it.
//! - Nothing that happens within a callback, on its thread, is told: a callback that uses a policy
//!   does not call itself.
//! - Two threads may tell of what they did in another order than they did it in.

use crate::{
    error::{RefusalMark, Rejected},
    shared::lock,
};
use std::{
    cell::Cell,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// What a policy has done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A policy refused a call, or gave up on it: a rejection by an open breaker, a limiter, a load
    /// shed or a throttle, a timeout, a deadline that has passed. (A body that is cut off after its
    /// head is not told of: its reader gets the error.) Told once for each call and
    /// rejection, by whoever made it, and not by the policies through which it goes up.
    #[non_exhaustive]
    Rejected {
        /// Which policy, and why.
        rejected: Rejected,
    },
    /// The state of a circuit breaker has changed. A keyed breaker tells of each of its keys, under
    /// one name.
    #[cfg(feature = "circuit-breaker")]
    #[non_exhaustive]
    StateChanged {
        /// The name of the breaker.
        policy: &'static str,
        /// The state before, the state since, which is another one, and why it changed.
        transition: crate::circuit_breaker::Transition,
    },
    /// A retry has decided to make another attempt, and begins to wait for it.
    #[cfg(feature = "retry")]
    #[non_exhaustive]
    Retried {
        /// The name of the retry.
        policy: &'static str,
        /// The number of the attempt that is to come; the first retry is attempt 2.
        attempt: u32,
        /// How long it waits.
        wait: std::time::Duration,
    },
}

type Callback = Arc<dyn Fn(&Event) + Send + Sync>;

/// Whether there is anybody to tell.
static LISTENING: AtomicBool = AtomicBool::new(false);
static LISTENERS: Mutex<Listeners> = Mutex::new(Listeners {
    next: 0,
    all: Vec::new(),
});

struct Listeners {
    next: u64,
    all: Vec<(u64, Callback)>,
}

thread_local! {
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Has `callback` told of every [`Event`] of every policy in this process, from now on.
///
/// It stays until it is [removed](Listener::remove); dropping the returned handle leaves it in
/// place. Several callbacks are told in the order in which they came. The [module](self) says what
/// a callback may do.
pub fn on_event(callback: impl Fn(&Event) + Send + Sync + 'static) -> Listener {
    let callback: Callback = Arc::new(callback);
    let mut listeners = lock(&LISTENERS);
    let id = listeners.next;
    listeners.next += 1;
    listeners.all.push((id, callback));
    LISTENING.store(true, Relaxed);
    Listener(id)
}

/// A callback's handle, returned by [`on_event`]. It keeps nothing alive and removes nothing when
/// it is dropped.
pub struct Listener(u64);

impl Listener {
    /// Removes the callback. A thread that is telling it of something may still do so for a moment
    /// after this has returned.
    pub fn remove(self) {
        let mut listeners = lock(&LISTENERS);
        let (gone, all) = mem::take(&mut listeners.all)
            .into_iter()
            .partition(|(id, _)| *id == self.0);
        listeners.all = all;
        LISTENING.store(!listeners.all.is_empty(), Relaxed);
        drop(listeners);
        // Code of the application: not under the lock.
        let gone: Vec<(u64, Callback)> = gone;
        drop(gone);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.0).finish()
    }
}

/// Tells of an event, if anybody listens.
///
/// The one place that tells: what is to be told elsewhere too, such as to `tracing`, goes here.
#[inline]
pub(crate) fn emit(event: impl FnOnce() -> Event) {
    if is_listened_to() {
        tell(&event());
    }
}

/// Returns whether there is anybody to tell.
#[inline]
pub(crate) fn is_listened_to() -> bool {
    LISTENING.load(Relaxed)
}

#[cold]
fn tell(event: &Event) {
    /// Ends the telling also if a panic's payload panics when it is dropped.
    struct Telling;
    impl Drop for Telling {
        fn drop(&mut self) {
            TELLING.set(false);
        }
    }
    if TELLING.replace(true) {
        return;
    }
    let _telling = Telling;
    let callbacks: Vec<Callback> = {
        let listeners = lock(&LISTENERS);
        listeners
            .all
            .iter()
            .map(|(_, callback)| Arc::clone(callback))
            .collect()
    };
    // What a callback is refused is not what the call around it was refused.
    let mark = RefusalMark::set();
    for callback in callbacks {
        let told = catch_unwind(AssertUnwindSafe(move || callback(event)));
        // A payload may panic when it is dropped; one that is leaked is a few bytes.
        told.unwrap_or_else(mem::forget);
    }
    mark.forget();
}
