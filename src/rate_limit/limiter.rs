use super::{
    Cost, Permit, QuotaStatus, RateLimiterBuilder, Snapshot, UnitCost, WaitingLimiter, config,
    state::{Inner, State},
};
use crate::{
    Global, InvalidConfig, Key, Name,
    clock::{Now, Time, nanos},
    error::FromRejected,
    guard::{self, Admission, End, Guard, GuardBase, GuardLayer, Never, OnResponse, WaitProgress},
};
use std::{fmt, sync::Arc, task::Context, time::Duration};

/// A limit on how much may start within any window of time.
///
/// A cheap handle: clones, and all layers made from them, share one limit. See the
/// [module](super) for the decision it takes.
pub struct RateLimiter<K = Global, C = UnitCost>(Arc<Inner<K, C>>);

impl RateLimiter {
    /// A limit of `quota` per `window` for all requests together, with the default settings.
    ///
    /// # Errors
    /// If the quota is 0 or the window is not between 1 ms and 366 days.
    pub fn new(name: impl Into<Name>, quota: u32, window: Duration) -> Result<Self, InvalidConfig> {
        Self::builder(name, quota, window).build()
    }

    /// Starts the configuration of a limit of `quota` per `window`.
    pub fn builder(name: impl Into<Name>, quota: u32, window: Duration) -> RateLimiterBuilder {
        RateLimiterBuilder::new(name.into(), quota, window)
    }
}

impl<C> RateLimiter<Global, C> {
    /// Changes the quota. What has been admitted stays admitted; calls that wait are let in as soon
    /// as the new quota allows it. Under [`Gcra`](super::Algorithm::Gcra), what has been taken of the
    /// burst is made up for at the new pace.
    ///
    /// The limiter keeps the form of counting it was built with (an exact log up to 1024): an exact
    /// log that is raised takes 16 bytes for each admission of the last window.
    ///
    /// # Errors
    /// If the quota is 0, or with it the burst would last for longer than 100 years.
    pub fn set_quota(&self, quota: u32) -> Result<(), InvalidConfig> {
        config::check_quota(quota)?;
        if let State::Global(state) = &self.0.state {
            let window = nanos(self.0.window);
            if let Some(burst) = state.burst() {
                config::check_pace(quota, window, burst)?;
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

    /// The same limit for calls that wait in order, `max` at most, instead of being refused.
    ///
    /// A call that would have to wait for longer, or past its caller's deadline, is refused at
    /// once, with the time that it would have had to wait.
    #[must_use]
    pub fn wait_up_to(&self, max: Duration) -> WaitingLimiter<K, C> {
        WaitingLimiter::new(self.clone(), max)
    }

    /// The limiter's name.
    pub fn name(&self) -> &'static str {
        self.0.name.as_str()
    }

    /// What has been done so far.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        let (quota, admitted_total, remaining, keys) = match &inner.state {
            State::Global(state) => {
                let status = state.level(Time::now().0).status(inner.window);
                (status.quota, state.allowed(), Some(status.remaining), None)
            }
            State::Keyed(keyed) => {
                let (admitted, keys) = keyed.totals();
                (keyed.quota(), admitted, None, Some(keys))
            }
        };
        Snapshot {
            name: self.name(),
            quota,
            window: inner.window,
            admitted_total,
            rejected_total: inner.rejected(),
            waiting: inner.lines.waiting(),
            remaining,
            keys,
        }
    }

    /// What is left of the quota that this request belongs to. Takes nothing.
    pub fn status<Req>(&self, req: &Req) -> QuotaStatus
    where
        K: Key<Req>,
    {
        self.status_of(self.count_of(req))
    }

    /// Which count this request belongs to: for whoever asks again when the request is gone.
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
        let level = match &inner.state {
            State::Global(state) => state.level(now),
            State::Keyed(keyed) => keyed.level(count, now),
        };
        level.status(inner.window)
    }

    /// Runs `op` if the limit allows it.
    ///
    /// # Errors
    /// A [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
    pub async fn run<T, E>(&self, op: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E>
    where
        Self: Guard<()>,
        E: FromRejected,
    {
        guard::run(self, &(), op).await
    }
}

impl<K: Send + Sync + 'static, C: Send + Sync + 'static> RateLimiter<K, C> {
    /// A layer with this limit. All layers of one limiter, and of its clones, share it.
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

    fn abandon(&self, wait: Never, _: &Now) {
        match wait {}
    }

    /// Only for a global limit with nothing left: which key a call belongs to, and what it costs,
    /// is not known before its request is.
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
        let taken = if inner.lines.is_empty(key) {
            inner.take(key, cost, now)
        } else {
            inner.take_behind(key, cost, now)
        };
        match taken {
            Ok(at) => Admission::Admitted(Permit { key, at, cost }),
            Err(until) => Admission::Refused(inner.refused(until, now)),
        }
    }

    fn poll_wait(
        &self,
        wait: &mut Never,
        _: &Req,
        _: &mut Context<'_>,
        _: &Now,
    ) -> WaitProgress<Permit> {
        match *wait {}
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
