//! What a call's end says about the dependency.

use std::time::Duration;

/// What the end of a call says about the service that was called.
///
/// A [classifier](Classify) makes it of a result. Calls also end without one, and not every end is
/// about the service, so this is what each policy learns, from outcomes and from the other
/// [ends](crate::guard::End):
///
/// | end | circuit breaker | adaptive load shed | throttle | retry |
/// |---|---|---|---|---|
/// | `Success` | success | a sample | accepted | is over |
/// | `Failure` | failure | no proof of capacity; lost, if late | accepted | repeats |
/// | `Overloaded` | nothing; it keeps to the wait, if it trips | overloaded | refused | repeats, after the wait |
/// | `Overloaded`, by a load shed of this process further in | nothing | overloaded | refused | is over |
/// | `Ignored` | nothing, but it is an answer: a probe has succeeded | a sample | accepted | is over |
/// | `Refused`: by another policy, or for a part of the service | nothing | nothing | nothing | is over |
/// | [`TimedOut`](crate::guard::End::TimedOut): cut off by a limit of the operator's | failure | lost | nothing | repeats, after a `Timeout` further in |
/// | [`Cancelled`](crate::guard::End::Cancelled): its caller left, or chose the limit that cut it off | nothing, unless it ran for long | lost, if it ran for long | nothing | is over |
/// | [`RequestFailed`](crate::guard::End::RequestFailed): the caller's own request broke off | nothing | nothing | nothing | is over |
/// | [`Panicked`](crate::guard::End::Panicked) | failure | lost, if it ran for long | nothing | is over |
/// | [`NeverStarted`](crate::guard::End::NeverStarted) | nothing | nothing | nothing | |
///
/// A *sample* is a call that shows the load shed how long calls take, and a *lost* one shows it
/// that calls end without an answer in time; the time that it held its permit counts in both.
///
/// A rate limiter learns from none of them; it gives back what a call took that was never started.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The service did what was asked.
    Success,
    /// The service is unwell: a transport error, an internal error, no answer in time.
    Failure,
    /// The service is well but full: a refusal, with or without a time to come back.
    ///
    /// A circuit breaker **never** counts this as a failure: if it did, it would keep out calls
    /// that the overloaded service could still have served.
    Overloaded {
        /// How long the service asked callers to stay away.
        retry_after: Option<Duration>,
    },
    /// The service answered, and the answer says nothing about how it is: the caller's own mistake.
    Ignored,
    /// The call was refused on its way, for a reason that is not this service's: another circuit is
    /// open, a quota is used up, the time of the caller was over. The service has not seen it.
    Refused,
}

impl Outcome {
    /// Returns whether the call did not get what it asked for, and another time it may: so a stale
    /// answer is better than this one.
    #[cfg(feature = "cache")]
    pub(crate) const fn is_unwell(self) -> bool {
        match self {
            Self::Failure | Self::Overloaded { .. } | Self::Refused => true,
            Self::Success | Self::Ignored => false,
        }
    }
}

/// A classifier, which turns the result of a call into an [`Outcome`].
///
/// One classifier can serve every layer of a stack. It need not recognise rejections: layers notice
/// those of policies further in by themselves, before they ask the classifier.
///
/// Closures are classifiers:
///
/// ```
/// use buttress::{Classify, Outcome};
///
/// let classifier = |result: Result<&u16, &std::io::Error>| match result {
///     Ok(404) => Outcome::Ignored,
///     Ok(_) => Outcome::Success,
///     Err(_) => Outcome::Failure,
/// };
/// assert_eq!(classifier.classify(Ok(&404)), Outcome::Ignored);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not judge a `Result<{Res}, {E}>`",
    label = "not a classifier of these results",
    note = "a classifier is a closure `|result: Result<&{Res}, &{E}>| -> Outcome {{ .. }}` with both types written out",
    note = "reqwest answers with its own type: put `.map_response(http::Response::<reqwest::Body>::from)` below the layer",
    note = "ready-made are `ErrorsAsFailures`, for HTTP `ServerErrorsAsFailures`, for gRPC `CodesAsFailures`"
)]
pub trait Classify<Res, E> {
    /// Returns what this result says about the service.
    fn classify(&self, result: Result<&Res, &E>) -> Outcome;
}

#[diagnostic::do_not_recommend]
impl<Res, E, F: Fn(Result<&Res, &E>) -> Outcome> Classify<Res, E> for F {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        self(result)
    }
}

/// The classifier that takes every `Ok` for a success and every `Err` of the service for a failure.
///
/// It fits services whose every error means that the service failed, such as a connection that is
/// only pinged. It does not fit a database, whose driver has errors for what callers ask of it,
/// such as a value that is not unique: use [`ErrorsBy`](crate::ErrorsBy). Nor does it fit HTTP,
/// where a response with the status 500 is an `Ok`: for HTTP and gRPC use
/// `http::ServerErrorsAsFailures` and `grpc::CodesAsFailures`.
///
/// It is not asked about a rejection by a policy further in, nor about a call that ended without a
/// result: the table of [`Outcome`] says what those mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorsAsFailures;

impl<Res, E> Classify<Res, E> for ErrorsAsFailures {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }
    }
}
