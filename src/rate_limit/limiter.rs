use super::{
    Cost, Permit, QuotaStatus, RateLimiterBuilder, Snapshot, UnitCost, WaitingLimiter, config,
    state::{Inner, State},
};
use crate::{
    Global, InvalidConfig, Key, Name,
    clock::{Now, Time, nanos},
    guard::{Admission, End, Guard, GuardBase, GuardLayer, Never, OnResponse},
};
use std::{fmt, sync::Arc, task::Context, time::Duration};

/// A limit on how many calls may start within any window of time.
///
/// It is a cheap handle: clones, and all layers made from them, share one limit. The
/// [module](super) describes how it decides, with an example and the defaults.
#[doc(alias = "token_bucket")]
pub struct RateLimiter<K = Global, C = UnitCost>(Arc<Inner<K, C>>);

impl RateLimiter {
    /// Creates a limit of `quota` per `window` for all requests together, with the default
    /// settings.
    ///
    /// # Errors
    /// If the quota is 0 or the window is not between 1 ms and 366 days.
    pub fn new(name: impl Into<Name>, quota: u32, window: Duration) -> Result<Self, InvalidConfig> {
        Self::builder(name, quota, window).build()
    }

    /// Returns the settings of a limit of `quota` per `window`, all others at their
    /// [defaults](super#defaults).
    ///
    /// The name is what rejections, snapshots and metrics call the limiter. The quota and the
    /// window are checked by [`build`](RateLimiterBuilder::build).
    #[doc(alias = "limit_for_period")]
    #[doc(alias = "per_second")]
    #[doc(alias = "refresh_period")]
    pub fn builder(name: impl Into<Name>, quota: u32, window: Duration) -> RateLimiterBuilder {
        RateLimiterBuilder::new(name.into(), quota, window)
    }
}

impl<C> RateLimiter<Global, C> {
    /// Changes the quota, for all handles and layers of this limiter.
    ///
    /// What was admitted in the last window still counts. Calls that wait are admitted as soon as
    /// the new quota allows it. Under [`Gcra`](super::Algorithm::Gcra), what has been taken of the
    /// burst is made up for at the new rate.
    ///
    /// The limiter goes on counting in the way it was built with: if it was built with a quota up
    /// to 1024, that is an exact log. When such a quota is raised above 1024, the log takes 16
    /// bytes for each admission of the last window, and allocates them as calls come.
    ///
    /// # Errors
    /// If the quota is 0, or if it would take a full burst longer than 100 years to fall due.
    pub fn set_quota(&self, quota: u32) -> Result<(), InvalidConfig> {
        let named = |invalid: InvalidConfig| invalid.named(self.0.name);
        config::check_quota(quota).map_err(named)?;
        if let State::Global(state) = &self.0.state {
            let window = nanos(self.0.window);
            if let Some(burst) = state.burst() {
                config::check_burst(quota, window, burst).map_err(named)?;
            }
            state.set_quota(quota, window, Time::now().0);
            self.0.wake(0);
        }
        Ok(())
    }
}

impl<K, C> RateLimiter<K, C> {
    pub(super) fn of(inner: Inner<K, C>) -> Self {
        Self(Arc::new(inner))
    }

    pub(super) fn inner(&self) -> &Inner<K, C> {
        &self.0
    }

    /// Returns a handle on this limit whose calls wait in order, for `max` at most, instead of
    /// being refused.
    ///
    /// A call that would have to wait for longer, or past its caller's deadline, is refused at
    /// once. Its rejection carries the time that it would have had to wait.
    #[doc(alias = "timeout_duration")]
    #[doc(alias = "until_ready")]
    #[must_use]
    pub fn wait_up_to(&self, max: Duration) -> WaitingLimiter<K, C> {
        WaitingLimiter::new(self.clone(), max)
    }

    /// Returns the limiter's name, which rejections carry.
    pub fn name(&self) -> &'static str {
        self.0.name.as_str()
    }

    /// Returns what the limiter has done so far.
    ///
    /// It takes short locks, one after the other, so it is meant for dashboards, not for every
    /// call.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        let (quota, admitted_total, remaining, keys) = match &inner.state {
            State::Global(state) => {
                let status = state.remaining(Time::now().0).status(inner.window);
                let admitted_total = state.admitted_total();
                (status.quota, admitted_total, Some(status.remaining), None)
            }
            State::Keyed(state) => {
                let (admitted_total, keys) = state.totals();
                (state.quota(), admitted_total, None, Some(keys))
            }
        };
        Snapshot {
            name: self.name(),
            quota,
            window: inner.window,
            admitted_total,
            rejected_total: inner.rejected_total.sum(),
            waiting: inner.queues.waiting(),
            remaining,
            keys,
        }
    }

    /// Returns what is left of the quota that this request belongs to. Takes nothing.
    pub fn status<Req>(&self, req: &Req) -> QuotaStatus
    where
        K: Key<Req>,
    {
        self.status_of(self.count_of(req))
    }

    /// Returns which count this request belongs to, for whoever asks for its status when the
    /// request is gone.
    pub(crate) fn count_of<Req>(&self, req: &Req) -> u64
    where
        K: Key<Req>,
    {
        match &self.0.state {
            State::Global(_) => 0,
            State::Keyed(_) => self.0.hash(req),
        }
    }

    pub(crate) fn status_of(&self, count: u64) -> QuotaStatus {
        let (inner, now) = (&*self.0, Time::now().0);
        let remaining = match &inner.state {
            State::Global(state) => state.remaining(now),
            State::Keyed(state) => state.remaining(count, now),
        };
        remaining.status(inner.window)
    }

    guard_runs! {
        /// Runs `op` if the limit allows it. For what is not a tower service, such as a database
        /// query.
        ///
        /// It has no request from which a key or a cost could be read, so it is for a limit without
        /// [`keyed`](RateLimiterBuilder::keyed) and [`cost`](RateLimiterBuilder::cost). With them,
        /// use [`run_for`](Self::run_for).
        run
    }
}

impl<K: Send + Sync + 'static, C: Send + Sync + 'static> RateLimiter<K, C> {
    /// Returns a tower layer. All layers of this handle and of its clones share one limit.
    ///
    /// A rejected call ends with a [`Rejected`](crate::Rejected) as the service's error. In front
    /// of an HTTP or gRPC server, `http::RespondLayer` turns that into a response.
    pub fn layer(&self) -> GuardLayer<Self, OnResponse> {
        // It learns nothing from how calls end, so nobody need say what responses mean.
        GuardLayer::settling(self.clone(), OnResponse::default())
    }
}

impl<K, C> GuardBase for RateLimiter<K, C> {
    type Permit = Permit;
    type Wait = Never;

    #[inline]
    fn settle(&self, permit: Permit, end: End, _: &Now) {
        if end == End::NeverStarted && permit.cost > 0 {
            self.0.give_back(permit);
        }
    }

    /// Returns `true` only for a global limit with nothing left. A call's key and cost are not
    /// known before its request is.
    fn poll_closed(&self, _: &mut Context<'_>, now: &Now) -> bool {
        match &self.0.state {
            State::Global(state) => match state.full_until() {
                0 => false,
                until => now.get().0 < until,
            },
            State::Keyed(_) => false,
        }
    }
}

impl<Req, K: Key<Req>, C: Cost<Req>> Guard<Req> for RateLimiter<K, C> {
    // Always, as for a tuple of guards.
    #[inline(always)]
    fn admit(&self, req: &Req, now: &Now) -> Admission<Permit, Never> {
        let inner = &*self.0;
        let (key, cost) = inner.identify(req);
        if cost == 0 {
            return Admission::Admitted(Permit { key, at: 0, cost });
        }
        let now = now.get();
        let taken = if inner.queues.is_empty(key) {
            inner.take(key, cost, now)
        } else {
            inner.take_unless_queued(key, cost, now)
        };
        match taken {
            Ok(at) => Admission::Admitted(Permit { key, at, cost }),
            Err(until) => Admission::Refused(inner.refuse(until, now)),
        }
    }
}

impl<K, C> Clone for RateLimiter<K, C> {
    #[inline]
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, C> fmt::Debug for RateLimiter<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("name", &self.name())
            .field("window", &self.0.window)
            .finish_non_exhaustive()
    }
}
