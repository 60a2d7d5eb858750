//! Which errors prove that their request was never sent.

use std::{error::Error, io};

/// A judge of errors, which knows those that prove that their request never reached the service.
///
/// Such a request may be sent again whatever its method ([`RetryLayer::repeat_unsent`]). There is
/// proof where no connection could be made, and where the service itself says that it did nothing
/// (`REFUSED_STREAM`). There is none in an error that comes from an open connection, such as a
/// reset or a timeout: the service may have done all that it was asked for.
///
/// [`SourceChain`] is one for error types that implement [`std::error::Error`], and any closure is
/// one. The error has to be about this request and no other: a client that follows redirects may
/// fail to connect for the second of two requests, when the first has been answered.
///
/// [`RetryLayer::repeat_unsent`]: crate::retry::RetryLayer::repeat_unsent
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say of a `{E}` whether its request was sent",
    label = "does not know this error",
    note = "`SourceChain` knows errors that implement `std::error::Error`",
    note = "for `BoxError` and `anyhow::Error`: `|error: &BoxError| buttress::http::is_unsent(&**error)`"
)]
pub trait UnsentProof<E> {
    /// Returns whether this error proves that its request never reached the service.
    fn proves_unsent(&self, error: &E) -> bool;
}

#[diagnostic::do_not_recommend]
impl<E, F: Fn(&E) -> bool> UnsentProof<E> for F {
    fn proves_unsent(&self, error: &E) -> bool {
        self(error)
    }
}

/// The default judge, which finds no proof in any error: every request may have been sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProof;

impl<E> UnsentProof<E> for NoProof {
    fn proves_unsent(&self, _: &E) -> bool {
        false
    }
}

/// A judge for errors that implement [`std::error::Error`]: it looks for proof in the error and its
/// sources, as [`is_unsent`] does.
///
/// It knows the errors of reqwest, of hyper-util's clients and of tonic, also within an
/// [`Error`](crate::Error) or a `tonic::Status`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceChain;

#[diagnostic::do_not_recommend]
impl<E: Error + 'static> UnsentProof<E> for SourceChain {
    fn proves_unsent(&self, error: &E) -> bool {
        is_unsent(error)
    }
}

/// A chain of sources that is longer than this leads in a circle.
const LONGEST_CHAIN: usize = 64;

/// Returns whether this error, or one of its sources, proves that its request was never sent.
///
/// These do: an [`io::Error`] of the kind [`ConnectionRefused`](io::ErrorKind::ConnectionRefused)
/// or [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable), which only connecting ends in, and a
/// stream of HTTP/2 that the server reset with `REFUSED_STREAM`, before it did anything (RFC 9113,
/// section 8.7). Other failures to connect look like failures of an open connection. A client that
/// can tell them apart does better:
///
/// ```
/// use buttress::{Error, Retry, http};
///
/// let layer = Retry::new("orders").layer().http();
/// let layer = layer.repeat_unsent(|error: &Error<reqwest::Error>| match error {
///     Error::Service(error) => error.is_connect() || http::is_unsent(error),
///     Error::Rejected(_) => false,
/// });
/// ```
pub fn is_unsent(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    for _ in 0..LONGEST_CHAIN {
        let Some(error) = next else {
            return false;
        };
        if is_proof(error) {
            return true;
        }
        // The source of an `io::Error` is that of the error in it, which is left out.
        let inner = error.downcast_ref().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

fn is_proof(error: &(dyn Error + 'static)) -> bool {
    // What is wrapped transparently is none of its own sources.
    let wrapped = match error.downcast_ref::<crate::Error<io::Error>>() {
        Some(crate::Error::Service(error)) => Some(error),
        Some(crate::Error::Rejected(_)) | None => None,
    };
    if let Some(error) = wrapped.or_else(|| error.downcast_ref()) {
        let error: &io::Error = error;
        return matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable
        );
    }
    is_refused_stream(error)
}

/// Whether this is h2's error for a stream that the other side refused.
///
/// It is known by its text. To name its type takes a dependency on h2, and on the one version of it
/// that the client uses. Another text would only mean that there is no proof.
fn is_refused_stream(error: &(dyn Error + 'static)) -> bool {
    const REFUSED: &str =
        "stream error received: refused stream before processing any application logic";
    error.to_string() == REFUSED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Error as Wrapped, error::Kind, error::Rejected};
    use std::fmt;

    /// An error with a source, or one that is its own.
    #[derive(Debug)]
    struct Link(&'static str, Option<Box<dyn Error + Send + Sync>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match &self.1 {
                Some(source) => Some(&**source),
                None if self.0 == "circle" => Some(self),
                None => None,
            }
        }
    }

    fn chain(length: usize, end: impl Error + Send + Sync + 'static) -> Link {
        let end: Box<dyn Error + Send + Sync> = Box::new(end);
        let first = Link("link", Some(end));
        (1..length).fold(first, |link, _| Link("link", Some(Box::new(link))))
    }

    const REFUSED: &str =
        "stream error received: refused stream before processing any application logic";

    #[test]
    fn proof_is_found_wherever_it_stands() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(is_unsent(&refused()));
        assert!(is_unsent(&Wrapped::Service(refused())));
        assert!(is_unsent(&chain(9, refused())));
        assert!(is_unsent(&io::Error::other(refused())));
        assert!(is_unsent(&io::Error::other(chain(2, refused()))));
        assert!(is_unsent(&chain(1, Link(REFUSED, None))));
        assert!(is_unsent(&io::Error::other(Link(REFUSED, None))));
    }

    #[test]
    fn what_may_have_been_sent_is_no_proof() {
        use io::ErrorKind as K;
        for kind in [K::ConnectionReset, K::BrokenPipe, K::TimedOut, K::Other] {
            assert!(!is_unsent(&chain(2, io::Error::from(kind))), "{kind:?}");
        }
        for text in [
            "stream error received: stream no longer needed",
            "stream error detected: refused stream before processing any application logic",
            "upstream: stream error received: refused stream before processing any application logic",
            "connection refused",
        ] {
            assert!(!is_unsent(&Link(text, None)), "{text}");
        }
        let rejected = Rejected::new(Kind::CircuitOpen, "below");
        assert!(!is_unsent(&Wrapped::<io::Error>::Rejected(rejected)));
        assert!(!is_unsent(&Link("circle", None)));
    }
}
