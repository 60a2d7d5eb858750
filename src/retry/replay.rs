//! How a request is made again, and what a response asks of whoever would.

use std::time::Duration;

/// A strategy that makes the requests of all attempts at a call from the one request that there is.
///
/// The plain one is [`CloneRequest`]. A strategy also implements [`Pushback`], which reads what a
/// response asks of further attempts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot send a `{Req}` again",
    label = "a retry needs every request more than once",
    note = "without more words a retry clones requests: derive `Clone` for them",
    note = "an `http::Request` is sent again by `.http()`, which keeps its body: `retry.layer().http()`",
    note = "anything else says how with `.replay(..)`"
)]
pub trait Replay<Req> {
    /// The request that the inner service is called with.
    type Request;
    /// What is kept to make the requests of further attempts from.
    type Kept;

    /// Returns the request of the first attempt, and what those of further ones are made from. That
    /// is `None` if this request must not be sent twice.
    fn first_request(&self, req: Req) -> (Self::Request, Option<Self::Kept>);

    /// Returns whether there may be another attempt after one that failed. `unsent` is whether its
    /// error [proves](Pushback::is_unsent) that its request never reached the service: then nothing
    /// is done twice by sending it. By default `true`, whatever that is.
    fn may_repeat(&self, _kept: &Self::Kept, _unsent: bool) -> bool {
        true
    }

    /// Returns the request of another attempt (the first retry is attempt 2), or `None` if it
    /// cannot be made any more.
    ///
    /// Called before the response of the failed attempt is dropped.
    fn next_request(&self, kept: &mut Self::Kept, attempt: u32) -> Option<Self::Request>;
}

/// A strategy that reads from the result of an attempt what the service asks of further ones.
pub trait Pushback<Res, E> {
    /// Returns what the result of this attempt says about the next. By default [`Hint::None`].
    ///
    /// Called for failures only. With [`Hint::None`], the
    /// [`retry_after`](crate::Outcome::Overloaded) that the classifier returned counts, if there is
    /// one.
    fn hint(&self, _result: Result<&Res, &E>) -> Hint {
        Hint::None
    }

    /// Returns whether this error proves that the request of its attempt was never sent. By default
    /// `false`.
    fn is_unsent(&self, _error: &E) -> bool {
        false
    }
}

/// A service's wish about when another attempt may be made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Hint {
    /// Nothing was asked for: the backoff decides.
    #[default]
    None,
    /// Not before this long, and with jitter after it. `Retry-After` is one of these.
    After(Duration),
    /// After exactly this long; the backoff then begins anew. gRPC's pushback is one of these.
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
