//! How much a key is admitted.

/// The most windows that a limiter counts in.
pub(super) const MOST_WINDOWS: usize = 4;

/// A quota function, which says how much the key of a request is admitted per window: by its plan,
/// tenant or user.
///
/// A closure is one: `|req: &Request| req.plan.per_minute()`. For a limiter of several windows it
/// returns an array, in the order in which the windows were given; windows for which it returns
/// nothing have the quota that they were built with. A quota of 0 refuses every call, without a
/// time to come back.
///
/// ```
/// use buttress::RateLimiter;
/// use std::time::Duration;
///
/// struct Request { tenant: u64, pays: bool }
///
/// # fn main() -> Result<(), buttress::InvalidConfig> {
/// let limiter = RateLimiter::builder("api", 10, Duration::from_secs(1))
///     .window(1_000, Duration::from_secs(86_400))
///     .keyed(|req: &Request| req.tenant)
///     .quota(|req: &Request| if req.pays { [100, 50_000] } else { [10, 1_000] })
///     .build()?;
/// assert_eq!(limiter.status(&Request { tenant: 7, pays: true }).quota, 100);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a quota for requests of type `{Req}`",
    label = "does not say what the key of a `{Req}` is admitted",
    note = "a closure over this type of request is one: `|req: &{Req}| -> u32 {{ .. }}`",
    note = "`run` has no request to tell apart: `policy.run_for(&request, op)` takes one"
)]
pub trait Quota<Req> {
    /// Returns the quotas of this request's key.
    fn quotas(&self, req: &Req) -> Quotas;
}

#[diagnostic::do_not_recommend]
impl<Req, Q: Into<Quotas>, F: Fn(&Req) -> Q> Quota<Req> for F {
    #[inline]
    fn quotas(&self, req: &Req) -> Quotas {
        self(req).into()
    }
}

/// The quotas of a key, one for each window that a limiter counts in, as a [`Quota`] returns them.
///
/// A `u32` is one for the first window; an array of up to four is one for each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quotas {
    given: u32,
    quotas: [u32; MOST_WINDOWS],
}

impl Quotas {
    /// As the limiter was built.
    pub(super) const NONE: Self = Self {
        given: 0,
        quotas: [0; MOST_WINDOWS],
    };

    /// Returns the quota of a window, if this says one.
    pub(super) fn get(&self, window: usize) -> Option<u32> {
        let given = self.quotas.get(..self.given as usize)?;
        given.get(window).copied()
    }

    fn of(quotas: &[u32]) -> Self {
        let mut all = Self::NONE;
        for (to, quota) in all.quotas.iter_mut().zip(quotas) {
            *to = *quota;
            all.given += 1;
        }
        all
    }
}

impl From<u32> for Quotas {
    fn from(quota: u32) -> Self {
        Self::of(&[quota])
    }
}

macro_rules! from_arrays {
    ($($len:literal)*) => {$(
        impl From<[u32; $len]> for Quotas {
            fn from(quotas: [u32; $len]) -> Self {
                Self::of(&quotas)
            }
        }
    )*};
}
from_arrays!(1 2 3 4);

/// The default quota: for every request the one that the limiter was built with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FixedQuota;

impl<Req> Quota<Req> for FixedQuota {
    #[inline]
    fn quotas(&self, _: &Req) -> Quotas {
        Quotas::NONE
    }
}
