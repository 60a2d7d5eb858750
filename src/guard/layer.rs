//! What the three layers have in common: they share a guard and its strategy, and build services.

use super::{
    OnResponse, Unclassified,
    held::{Core, SharedGuard},
};
use crate::shared::Shared;
use std::fmt;

macro_rules! layer {
    ($(#[$doc:meta])* $layer:ident) => {
        $(#[$doc])*
        ///
        /// All services of one layer share the guard's state, and so do all layers of one handle.
        pub struct $layer<G, P = Unclassified> {
            pub(super) core: SharedGuard<G, P>,
        }

        impl<G: Send + Sync + 'static> $layer<G> {
            /// Makes a layer that is still to be told what responses mean: by `.http()`, `.grpc()`
            /// or [`classify`](Self::classify). See [`Strategy`](super::Strategy).
            pub fn new(guard: G) -> Self {
                Self::settling(guard, Unclassified)
            }
        }

        impl<G: Send + Sync + 'static, P: Send + Sync + 'static> $layer<G, P> {
            /// Makes a layer that settles its calls by this strategy.
            pub fn settling(guard: G, settle: P) -> Self {
                let core = SharedGuard(Shared::new(Core { guard, settle }));
                Self { core }
            }
        }

        impl<G: Clone + Send + Sync + 'static, P> $layer<G, P> {
            /// Makes the guard learn from what this classifier says, and ends each call with its
            /// response. [`ErrorsAsFailures`](crate::ErrorsAsFailures) takes every `Err` for a
            /// failure.
            pub fn classify<C>(self, classifier: C) -> $layer<G, OnResponse<C>>
            where
                C: Send + Sync + 'static,
            {
                self.settle(OnResponse(classifier))
            }

            /// Makes the guard's calls end by this strategy.
            pub fn settle<P2: Send + Sync + 'static>(self, settle: P2) -> $layer<G, P2> {
                $layer::settling(self.core.0.guard.clone(), settle)
            }

            /// Makes the guard learn from HTTP responses, by
            /// [`ServerErrorsAsFailures`](crate::http::ServerErrorsAsFailures), and hold its permit
            /// until the response's body ends.
            ///
            /// With a classifier of your own: `.settle(OnBodyEnd(classifier))`.
            #[cfg(feature = "http")]
            pub fn http(self) -> $layer<G, crate::http::OnBodyEnd> {
                self.settle(crate::http::OnBodyEnd::default())
            }

            /// Makes the guard learn from gRPC status codes, by
            /// [`CodesAsFailures`](crate::grpc::CodesAsFailures), and hold its permit until the
            /// trailers.
            ///
            /// With a classifier of your own: `.settle(OnTrailers(classifier))`.
            #[cfg(feature = "grpc")]
            pub fn grpc(self) -> $layer<G, crate::grpc::OnTrailers> {
                self.settle(crate::grpc::OnTrailers::default())
            }
        }

        impl<G, P> Clone for $layer<G, P> {
            #[inline]
            fn clone(&self) -> Self {
                let core = self.core.clone();
                Self { core }
            }
        }

        impl<G: fmt::Debug, P> fmt::Debug for $layer<G, P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let guard = &self.core.0.guard;
                f.debug_tuple(stringify!($layer)).field(guard).finish()
            }
        }
    };
}

layer! {
    /// Any guard that decides at once, or a tuple of them, as a tower layer.
    GuardLayer
}
layer! {
    /// Any guard that may wait, or a tuple with one in it, as a tower layer.
    ///
    /// The service is cloned for a call that waits, and only then.
    WaitLayer
}
layer! {
    /// A policy that holds callers back in `poll_ready`, as a tower layer.
    ReserveLayer
}
