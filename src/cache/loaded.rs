//! The words in which a load, its caller and those who share it speak of how it ended.

use super::{
    freshness::Freshness,
    status::{CacheStatus, Cached},
};
use crate::error::{FromRejected, KeptRefusal, Rejected};
use std::{any::TypeId, convert::Infallible, future::Future};

/// The end of a load, as an [`Adapter`](super::Adapter) describes it. `V` is the answer, `T` is
/// what only the caller can have, such as a response whose body is not kept, and `E` is the
/// service's error.
#[derive(Debug)]
#[non_exhaustive]
pub enum Loaded<V, T, E> {
    /// It ended with an answer, which is stored if it comes with a freshness.
    Answer(V, Option<Freshness>),
    /// It ended with an answer that is not shared with other callers now, but is stored for when a
    /// later load fails.
    Fallback(V, Freshness),
    /// It ended with an answer that only this caller can have.
    Uncacheable(T),
    /// It ended without a good answer.
    Failed(Failure<V, T, E>),
}

/// The failure of a load.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure<V, T, E> {
    /// An answer that says that the service is unwell. A stale answer is better.
    Answer(V),
    /// An answer that says that the service is unwell, and that only this caller can have. The
    /// calls that waited for it load for themselves.
    Uncacheable(T),
    /// An error of the service, or a rejection by a policy further in.
    Error {
        /// The error.
        error: E,
        /// Whether the service is unwell, so that a stale answer is better than the error.
        unwell: bool,
        /// The rejection that the error was made from, if a policy below made it.
        rejected: Option<Rejected>,
    },
}

impl<V, T, E> Failure<V, T, E> {
    /// Whether the source is unwell, and not only this one answer an error.
    pub(super) fn is_unwell(&self) -> bool {
        !matches!(self, Self::Error { unwell: false, .. })
    }

    /// Returns what the caller whose load failed gets; `kept` is the rejection that it failed with.
    pub(super) fn end(
        self,
        status: CacheStatus,
        kept: Option<KeptRefusal>,
    ) -> Result<Answered<V, T>, E> {
        match self {
            Self::Answer(value) => Ok(Answered::Cached(Cached { value, status })),
            Self::Uncacheable(response) => Ok(Answered::Uncacheable(response)),
            Self::Error {
                error, rejected, ..
            } => {
                if let Some(rejected) = rejected {
                    KeptRefusal::of(rejected, kept).note();
                }
                Err(error)
            }
        }
    }
}

/// Something that can be loaded, once.
pub(super) trait Load<V>: Send + 'static {
    type Uncacheable: Send + 'static;
    type Error: FromRejected + Send + 'static;

    /// Whether its answer may turn out to be for nobody else.
    fn may_pass_by() -> bool {
        TypeId::of::<Self::Uncacheable>() != TypeId::of::<Infallible>()
    }

    fn load(self) -> impl Future<Output = LoadedWith<V, Self>> + Send
    where
        Self: Sized;
}

/// The end of a load, and the rejection by a policy further in that it ended with.
pub(super) type LoadedWith<V, L> = (
    Loaded<V, <L as Load<V>>::Uncacheable, <L as Load<V>>::Error>,
    Option<KeptRefusal>,
);

/// What a caller gets.
pub(super) enum Answered<V, T> {
    Cached(Cached<V>),
    Uncacheable(T),
}

/// What a leader shares with its followers.
#[derive(Clone)]
pub(super) enum Verdict<V> {
    Answer(Cached<V>),
    Failed(KeptRefusal),
    /// Nothing: each on its own.
    Alone,
}

pub(super) type LoadEnd<V, L> =
    Result<Answered<V, <L as Load<V>>::Uncacheable>, <L as Load<V>>::Error>;
