//! How a request is made again, and what a response asks of whoever would.

use std::time::Duration;

/// A strategy that makes the requests of a call's attempts out of the one request that there is.
///
/// [`CloneRequest`] is the plain one. What a response says about further attempts is asked for
/// through [`Pushback`], which a strategy implements as well.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot send a `{Req}` again",
    label = "a retry needs every request more than once",
    note = "without more words a retry clones requests: derive `Clone` for them",
    note = "an `http::Request` is sent again by `.http()`, which keeps its body: `retry.layer().http()`",
    note = "anything else says how with `.replay(..)`"
)]
pub trait Replay<Req> {
    /// What the inner service is called with.
    type Request;
    /// What is kept for further attempts.
    type Kept;

    /// Returns the request of the first attempt, and what further ones are made from: `None` if
    /// this request must not be sent twice.
    fn first_request(&self, req: Req) -> (Self::Request, Option<Self::Kept>);

    /// Returns the request of another attempt (the second is 2), or `None` if it cannot be made any
    /// more.
    ///
    /// Called before the failed attempt's response is given up.
    fn next_request(&self, kept: &mut Self::Kept, attempt: u32) -> Option<Self::Request>;
}

/// What the end of an attempt asks of whoever would make another one.
pub trait Pushback<Res, E> {
    /// Returns what the end of this attempt says about the next. By default nothing.
    ///
    /// Called for failures only. Where it has nothing to say, the
    /// [`retry_after`](crate::Outcome::Overloaded) of the classifier counts.
    fn hint(&self, _result: Result<&Res, &E>) -> Hint {
        Hint::None
    }
}

/// When another attempt may be made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Hint {
    /// When the backoff says: nothing was asked for.
    #[default]
    None,
    /// Not before this, and spread over the time after it. `Retry-After` is one of these.
    After(Duration),
    /// After exactly this time; the backoff begins anew. gRPC's pushback is one of these.
    Exactly(Duration),
    /// Never.
    Stop,
}

/// The strategy that clones the request for every further attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest;

#[diagnostic::do_not_recommend]
impl<Req: Clone> Replay<Req> for CloneRequest {
    type Request = Req;
    type Kept = Req;

    #[inline]
    fn first_request(&self, req: Req) -> (Req, Option<Req>) {
        (req.clone(), Some(req))
    }

    #[inline]
    fn next_request(&self, kept: &mut Req, _: u32) -> Option<Req> {
        Some(kept.clone())
    }
}

impl<Res, E> Pushback<Res, E> for CloneRequest {}

/// The number of an attempt, in the extensions of an HTTP request from the second attempt on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Attempt(pub u32);
