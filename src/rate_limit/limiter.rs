use super::{
    Cost, FixedQuota, Permit, Quota, QuotaStatus, RateLimiterBuilder, Snapshot, UnitCost,
    WaitingLimiter,
    state::{Caller, Inner, State},
};
use crate::{
    Global, InvalidConfig, Key, Name,
    clock::{Now, Time},
    guard::{Admission, End, Guard, GuardBase, GuardLayer, Never, OnResponse},
};
use std::{cmp::Reverse, fmt, sync::Arc, task::Context, time::Duration};

/// A limit on how many calls may start within any window of time.
///
/// It is a cheap handle: clones, and all layers made from them, share one limit. The
/// [module](super) describes how it decides, with an example and the defaults.
#[doc(alias = "token_bucket")]
pub struct RateLimiter<K = Global, C = UnitCost, Q = FixedQuota>(Arc<Inner<K, C, Q>>);

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

impl<K, C, Q> RateLimiter<K, C, Q> {
    pub(super) fn of(inner: Inner<K, C, Q>) -> Self {
        Self(Arc::new(inner))
    }

    pub(super) fn inner(&self) -> &Inner<K, C, Q> {
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
    pub fn wait_up_to(&self, max: Duration) -> WaitingLimiter<K, C, Q> {
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
                let totals = state.totals();
                (state.quota(), totals.admitted_total, None, Some(totals))
            }
            State::Accounts(state) => {
                let totals = state.totals();
                let quota = state.built().next().map_or(0, |(quota, _)| quota);
                let remaining = (!inner.keyed).then(|| self.status_of(&Caller::ANY).remaining);
                let keys = inner.keyed.then_some(totals);
                (quota, totals.admitted_total, remaining, keys)
            }
        };
        Snapshot {
            name: self.name(),
            quota,
            window: inner.window,
            admitted_total,
            rejected_total: inner.rejected_total.sum(),
            exempt_total: inner.exempt_total.sum(),
            waiting: inner.queues.waiting(),
            remaining,
            keys: keys.map(|totals| totals.keys),
            overflowed_total: keys.map(|totals| totals.overflowed_total),
        }
    }

    /// Returns what is left of the quota that this request belongs to. Takes nothing.
    ///
    /// Of several windows it is the one that has least left for calls: what the next calls are
    /// held up by. [`statuses`](Self::statuses) returns all.
    pub fn status<Req>(&self, req: &Req) -> QuotaStatus
    where
        K: Key<Req>,
        Q: Quota<Req>,
    {
        self.status_of(&self.caller(req))
    }

    /// Returns what is left of the quota that this request belongs to, in every window, in the
    /// order in which they were given. Takes nothing.
    pub fn statuses<Req>(&self, req: &Req) -> Vec<QuotaStatus>
    where
        K: Key<Req>,
        Q: Quota<Req>,
    {
        self.statuses_of(&self.caller(req))
    }

    /// Returns whose quota a request takes from, for whoever asks for its status when the request
    /// is gone.
    pub(crate) fn caller<Req>(&self, req: &Req) -> Caller
    where
        K: Key<Req>,
        Q: Quota<Req>,
    {
        self.0.caller(req)
    }

    fn status_of(&self, caller: &Caller) -> QuotaStatus {
        let statuses = self.statuses_of(caller).into_iter();
        let least = statuses.reduce(|a, b| {
            let held_up = |status: &QuotaStatus| (status.remaining, Reverse(status.reset));
            if held_up(&b) < held_up(&a) { b } else { a }
        });
        debug_assert!(least.is_some(), "a limiter has a window");
        least.unwrap_or(QuotaStatus {
            quota: 0,
            window: self.0.window,
            remaining: 0,
            debt: 0,
            reset: Duration::ZERO,
        })
    }

    pub(crate) fn statuses_of(&self, caller: &Caller) -> Vec<QuotaStatus> {
        let (inner, now) = (&*self.0, Time::now().0);
        let remaining = match &inner.state {
            State::Global(state) => state.remaining(now),
            State::Keyed(state) => state.remaining(caller.key, now),
            State::Accounts(state) => {
                let windows = state.remaining(caller.key, &caller.quotas, now).into_iter();
                let status = windows
                    .map(|(remaining, window)| remaining.status(Duration::from_nanos(window)));
                return status.collect();
            }
        };
        vec![remaining.status(inner.window)]
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

impl<K, C, Q> RateLimiter<K, C, Q>
where
    Self: Send + Sync + 'static,
{
    /// Returns a tower layer. All layers of this handle and of its clones share one limit.
    ///
    /// A rejected call ends with a [`Rejected`](crate::Rejected) as the service's error. In front
    /// of an HTTP or gRPC server, `http::RespondLayer` turns that into a response.
    pub fn layer(&self) -> GuardLayer<Self, OnResponse> {
        // It learns nothing from how calls end, so nobody need say what responses mean.
        GuardLayer::settling(self.clone(), OnResponse::default())
    }
}

impl<K, C, Q> GuardBase for RateLimiter<K, C, Q> {
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
            State::Keyed(_) | State::Accounts(_) => false,
        }
    }
}

impl<Req, K: Key<Req>, C: Cost<Req>, Q: Quota<Req>> Guard<Req> for RateLimiter<K, C, Q> {
    // Always, as for a tuple of guards.
    #[inline(always)]
    fn admit(&self, req: &Req, now: &Now) -> Admission<Permit, Never> {
        let inner = &*self.0;
        let (key, cost) = inner.identify(req);
        if cost == 0 {
            inner.exempt();
            return Admission::Admitted(Permit { key, at: 0, cost });
        }
        let now = now.get();
        let taken = if inner.queues.is_empty(key) {
            inner.take_for(req, key, cost, now)
        } else {
            inner.take_unless_queued(&inner.caller_of(key, req), cost, now)
        };
        match taken {
            Ok(at) => Admission::Admitted(Permit { key, at, cost }),
            Err(until) => Admission::Refused(inner.refuse(until, now)),
        }
    }
}

impl<K, C, Q> Clone for RateLimiter<K, C, Q> {
    #[inline]
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, C, Q> fmt::Debug for RateLimiter<K, C, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("name", &self.name())
            .field("window", &self.0.window)
            .finish_non_exhaustive()
    }
}
