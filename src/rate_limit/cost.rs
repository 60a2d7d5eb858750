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
