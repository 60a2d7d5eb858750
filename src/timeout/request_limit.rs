//! Timeouts that come from the request.

use std::time::Duration;

/// How long the attempt at a request may take, within the limit of its
/// [`Timeout`](super::Timeout).
///
/// [`SameLimit`] gives every request the timeout's own limit. Closures `|req: &Req| -> Duration`
/// are made for [`TimeoutLayer::limit_by`](super::TimeoutLayer::limit_by).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how long the attempt at a `{Req}` may take",
    label = "not a `RequestLimit<{Req}>`",
    note = "a closure does, if the type of its request is written down: `|req: &Req| Duration::from_secs(1)`"
)]
pub trait RequestLimit<Req> {
    /// Returns how long the attempt may take; more than the timeout's own limit means that limit.
    fn limit(&self, req: &Req) -> Duration;
}

/// The default of a [`TimeoutLayer`](super::TimeoutLayer): every request has the same limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct SameLimit;

impl<Req> RequestLimit<Req> for SameLimit {
    #[inline]
    fn limit(&self, _: &Req) -> Duration {
        Duration::MAX
    }
}

#[diagnostic::do_not_recommend]
impl<Req, F: Fn(&Req) -> Duration> RequestLimit<Req> for F {
    #[inline]
    fn limit(&self, req: &Req) -> Duration {
        self(req)
    }
}
