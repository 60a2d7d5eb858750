//! A classifier that looks at errors only.

use crate::classify::{Classify, Outcome};

/// The classifier that takes every `Ok` for a success, and asks a closure what an `Err` says about
/// the service.
///
/// Its closure does not name the type of the answers, so one classifier serves queries of all
/// kinds, and can be kept in an application's state, as in the example of
/// [`Classified`](crate::Classified).
///
/// ```
/// use buttress::{Classify, ErrorsBy, Outcome};
/// use std::io;
///
/// let classifier = ErrorsBy(|error: &io::Error| match error.kind() {
///     io::ErrorKind::NotFound => Outcome::Ignored,
///     _ => Outcome::Failure,
/// });
/// let missing = io::Error::from(io::ErrorKind::NotFound);
/// assert_eq!(classifier.classify(Err::<&u32, _>(&missing)), Outcome::Ignored);
/// assert_eq!(classifier.classify(Err::<&String, _>(&io::Error::other("?"))), Outcome::Failure);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorsBy<F>(pub F);

impl<Res, E, F: Fn(&E) -> Outcome> Classify<Res, E> for ErrorsBy<F> {
    #[inline]
    fn classify(&self, result: Result<&Res, &E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) => (self.0)(error),
        }
    }
}
