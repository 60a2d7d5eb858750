//! What layers fail with: one rejection for all policies, one wrapper for errors that cannot hold
//! it, and bad configuration.

mod invalid;
mod kind;
mod known;
mod name;
mod provenance;
mod rejected;

pub use invalid::InvalidConfig;
pub use kind::Kind;
pub use known::recognize;
pub use name::Name;
#[cfg(all(feature = "http", feature = "timeout"))]
pub(crate) use provenance::note_refusal_by;
#[cfg(feature = "retry")]
pub(crate) use provenance::waiting;
#[allow(unused_imports)] // which features use them depends on which are on
pub(crate) use provenance::{
    KeptRefusal, RefusalMark, cut_off, limiter, limiter_of, note_wait, refuse,
};
pub use rejected::Rejected;

/// An error type that can hold a [`Rejected`]: any with `From<Rejected>`.
///
/// Every layer that can reject a call requires it of its service's error type. Your own error enum
/// with `#[from] Rejected`, `BoxError`, `anyhow::Error` and, with the `grpc` feature,
/// `tonic::Status` satisfy it already. For an error type that is not yours put [`Error`] at the
/// bottom of the stack, once: `.map_err(Error::Service)`.
#[diagnostic::on_unimplemented(
    message = "a layer of this stack can reject a call, but `{Self}` cannot hold a `Rejected`",
    label = "this error type has no `From<Rejected>`",
    note = "your own enum: add a variant `Rejected(#[from] buttress::Rejected)`",
    note = "a foreign error (reqwest, hyper, tokio-postgres): put `.map_err(buttress::Error::Service)` below the layer",
    note = "a tonic client (`tonic::transport::Error`): put `.map_err(buttress::grpc::status)` below the layer",
    note = "an axum `Router` or a tonic server (`Infallible`): wrap the stack, `RespondLayer::new(Http, stack)`"
)]
pub trait FromRejected: Sized + 'static {
    /// Makes an error of a rejection.
    fn from_rejected(rejected: Rejected) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<Rejected> + 'static> FromRejected for E {
    #[inline(always)]
    fn from_rejected(rejected: Rejected) -> Self {
        rejected.into()
    }
}

/// An error that may hold a rejection, and can be asked for it.
///
/// Responders and application code need it, because a rejection can be inside an application's own
/// error type. Implement it for yours, so that its rejections get the response of a rejection.
/// Layers do not need it: they know where an error came from.
pub trait AsRejected {
    /// Returns the rejection in this error, if there is one.
    fn as_rejected(&self) -> Option<&Rejected>;
}

/// The error of a service whose own error type cannot hold a [`Rejected`].
///
/// Wrap the service's error once, below all layers: it stays flat through any number of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error<E> {
    /// A policy refused the call, or gave up on it.
    #[error(transparent)]
    Rejected(Rejected),
    /// The service itself failed. Transparent: the text and the source are those of its own error,
    /// which a chain of errors so prints once. To get at the error itself, match on this variant or
    /// use [`into_service`](Self::into_service).
    #[error(transparent)]
    Service(E),
}

impl<E> Error<E> {
    /// Returns the service's own error, or `None` for a rejection.
    pub fn into_service(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Service(error) => Some(error),
        }
    }
}

impl<E> AsRejected for Error<E> {
    fn as_rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Service(_) => None,
        }
    }
}

impl AsRejected for Rejected {
    fn as_rejected(&self) -> Option<&Rejected> {
        Some(self)
    }
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl AsRejected for BoxError {
    fn as_rejected(&self) -> Option<&Rejected> {
        rejection_in(&**self)
    }
}

/// Returns the rejection that an error is, or one of its sources.
pub(crate) fn rejection_in<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a Rejected> {
    sources(error).find_map(|error| error.downcast_ref())
}

/// Returns an error and all that it was made of.
///
/// A chain that is longer than 64 leads in a circle, and ends there.
pub(crate) fn sources<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    let next = |error: &&'a (dyn std::error::Error + 'static)| {
        let io = error.downcast_ref::<std::io::Error>();
        match io.and_then(std::io::Error::get_ref) {
            // Its own `source` passes over what it wraps.
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    };
    std::iter::successors(Some(error), next).take(64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const OPEN: Rejected = Rejected::new(Kind::CircuitOpen, "db");

    #[test]
    fn a_rejection_is_found_in_every_error_that_holds_one() {
        assert_eq!(OPEN.as_rejected(), Some(&OPEN));
        assert_eq!(Error::<io::Error>::from(OPEN).as_rejected(), Some(&OPEN));
        let boxed: Box<dyn std::error::Error + Send + Sync> = OPEN.into();
        assert_eq!(boxed.as_rejected(), Some(&OPEN));
        let io: BoxError = io::Error::other(OPEN).into();
        assert_eq!(io.as_rejected(), Some(&OPEN));
        let deep: BoxError = io::Error::other(io::Error::other(boxed)).into();
        assert_eq!(deep.as_rejected(), Some(&OPEN));
        let plain: Box<dyn std::error::Error + Send + Sync> = "plain".into();
        assert_eq!(plain.as_rejected(), None);
    }

    #[test]
    fn sources_that_lead_in_a_circle_hold_no_rejection() {
        #[derive(Debug, thiserror::Error)]
        #[error("circle")]
        struct Circle(#[source] &'static Self);
        static CIRCLE: Circle = Circle(&CIRCLE);

        let circle: BoxError = Circle(&CIRCLE).into();
        assert_eq!(circle.as_rejected(), None);
    }

    /// What is printed of an error and all its sources.
    fn chain(error: &dyn std::error::Error) -> Vec<String> {
        let sources = std::iter::successors(Some(error), |error| error.source());
        sources.map(ToString::to_string).collect()
    }

    #[test]
    fn a_chain_of_errors_says_everything_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("no connection")]
        struct Connect(#[source] io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("loading the order")]
        struct Load(#[source] Error<Connect>);

        let error = Error::Service(Connect(io::Error::other("boom")));
        assert_eq!(chain(&error), ["no connection", "boom"]);
        assert!(error.as_rejected().is_none());
        let error = Load(error);
        assert_eq!(
            chain(&error),
            ["loading the order", "no connection", "boom"]
        );
        let error = Load(Error::Rejected(OPEN));
        assert_eq!(
            chain(&error),
            ["loading the order".into(), OPEN.to_string()]
        );
    }
}
