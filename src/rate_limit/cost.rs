//! How much of the quota a request takes.

/// A cost function, which says how much of the quota a request takes.
///
/// A closure is one: `|req: &Upload| req.chunks`. A request of cost 0 is admitted without being
/// counted. A cost above the quota (or above the burst of [`Gcra`](super::Algorithm::Gcra)) can
/// never be admitted, and is refused without a time to come back.
///
/// ```
/// use buttress::RateLimiter;
/// use std::time::Duration;
///
/// struct Upload { chunks: u32 }
///
/// # fn main() -> Result<(), buttress::InvalidConfig> {
/// let limiter = RateLimiter::builder("uploads", 100, Duration::from_secs(1))
///     .cost(|req: &Upload| req.chunks)
///     .build()?;
/// assert_eq!(limiter.status(&Upload { chunks: 7 }).remaining, 100);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cost of requests of type `{Req}`",
    label = "does not say what a `{Req}` costs",
    note = "a closure over this type of request is one: `|req: &{Req}| -> u32 {{ .. }}`",
    note = "`run` has no request to tell apart: `policy.run_for(&request, op)` takes one"
)]
pub trait Cost<Req> {
    /// Returns the cost of this request.
    fn cost(&self, req: &Req) -> u32;
}

#[diagnostic::do_not_recommend]
impl<Req, F: Fn(&Req) -> u32> Cost<Req> for F {
    #[inline]
    fn cost(&self, req: &Req) -> u32 {
        self(req)
    }
}

/// The default cost: 1 for every request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UnitCost;

impl<Req> Cost<Req> for UnitCost {
    #[inline]
    fn cost(&self, _: &Req) -> u32 {
        1
    }
}

/// A cost that is 0 for some requests, made by [`exempt`].
#[derive(Clone, Copy, Debug)]
pub struct Exempt<P, C = UnitCost> {
    is_exempt: P,
    cost: C,
}

/// Returns a [`Cost`] of 0 for requests for which `is_exempt` returns `true`, such as health
/// checks, and of 1 for all others, or as [`Exempt::otherwise`] says.
///
/// Exempt requests are admitted whatever has been used, also while others wait.
/// [`exempt_total`](super::Snapshot::exempt_total) in the snapshot counts them.
///
/// ```
/// use buttress::rate_limit::{RateLimiter, exempt};
/// use std::time::Duration;
///
/// struct Request { path: &'static str, rows: u32 }
///
/// # fn main() -> Result<(), buttress::InvalidConfig> {
/// let cost = exempt(|req: &Request| req.path == "/health");
/// let limiter = RateLimiter::builder("api", 100, Duration::from_secs(1))
///     .cost(cost.otherwise(|req: &Request| req.rows))
///     .build()?;
/// assert!(limiter.peek(&Request { path: "/health", rows: 500 }).is_ok());
/// assert!(limiter.peek(&Request { path: "/items", rows: 500 }).is_err());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "allowlist")]
#[doc(alias = "skip")]
pub const fn exempt<Req, P: Fn(&Req) -> bool>(is_exempt: P) -> Exempt<P> {
    Exempt {
        is_exempt,
        cost: UnitCost,
    }
}

impl<P> Exempt<P> {
    /// Sets what the other requests cost.
    pub fn otherwise<C>(self, cost: C) -> Exempt<P, C> {
        Exempt {
            is_exempt: self.is_exempt,
            cost,
        }
    }
}

impl<Req, P: Fn(&Req) -> bool, C: Cost<Req>> Cost<Req> for Exempt<P, C> {
    #[inline]
    fn cost(&self, req: &Req) -> u32 {
        match (self.is_exempt)(req) {
            true => 0,
            false => self.cost.cost(req),
        }
    }
}
