//! What a call's end says about the dependency.

use std::time::Duration;

/// What the end of a call says about the service that was called.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// It did what was asked.
    Success,
    /// It is unwell: a transport error, a timeout, an internal error.
    Failure,
    /// It is well but full. This is **never** a circuit breaker's failure: a breaker that counts
    /// the rejections of an overloaded service keeps out the calls that it could still have served.
    Overloaded {
        /// When it asked to be called again.
        retry_after: Option<Duration>,
    },
    /// It says nothing about the service: the caller's own mistake, or a cancelled call.
    Ignored,
}

/// Turns the end of a call into an [`Outcome`]. One classifier serves every layer of a stack.
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
pub trait Classify<Res, E> {
    /// What this result says.
    fn classify(&self, result: Result<&Res, &E>) -> Outcome;
}

impl<Res, E, F: Fn(Result<&Res, &E>) -> Outcome> Classify<Res, E> for F {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        self(result)
    }
}

/// Every `Ok` is a success and every `Err` a failure, whatever is in it.
///
/// Rejections by other policies of this crate are told apart before any classifier is asked where
/// the error type lets them be seen ([`AsRejected`](crate::AsRejected)); this classifier knows
/// nothing of the types and so cannot.
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
