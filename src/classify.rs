//! What a call's end says about the dependency.

use std::time::Duration;

/// What the end of a call says about the service that was called.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The service did what was asked.
    Success,
    /// The service is unwell: a transport error, a timeout, an internal error.
    Failure,
    /// The service is well but full: a refusal, with or without a time to come back.
    ///
    /// This is **never** a circuit breaker's failure: a breaker that counts the rejections of an
    /// overloaded service keeps out the calls that it could still have served.
    Overloaded {
        /// How long the service asked callers to stay away.
        retry_after: Option<Duration>,
    },
    /// The end says nothing about the service: the caller's own mistake, or a cancelled call.
    Ignored,
}

/// Turns the end of a call into an [`Outcome`].
///
/// One classifier serves every layer of a stack. Rejections by policies further in are told apart
/// before any classifier is asked.
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

/// The classifier to which every `Ok` is a success and every `Err` a failure, whatever is in it.
///
/// It fits services whose errors are failures of theirs: a database driver, an RPC client. An HTTP
/// response with status 500 is an `Ok`; for HTTP and gRPC there are `http::ServerErrorsAsFailures`
/// and `grpc::CodesAsFailures`.
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
