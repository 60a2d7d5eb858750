//! What the three layers have in common: they share a guard and its strategy, and build services.

use super::{
    ByRequest, GuardBase, Immediate, OnResponse, Reserve, Strategy, Unclassified,
    call_guard::{Core, SharedGuard},
};
use crate::shared::Shared;
use std::fmt;

macro_rules! layer {
    ($(#[$doc:meta])* $layer:ident for $($bound:tt)+) => {
        $(#[$doc])*
        ///
        /// All services that a layer builds share its guard's state, and so do all layers made from
        /// one handle.
        ///
        /// Before it is a tower `Layer`, it has to be told what the responses of its service mean,
        /// by `.http()`, `.grpc()` or `.classify(..)`: see [`Strategy`](super::Strategy).
        pub struct $layer<G, P = Unclassified> {
            pub(crate) core: SharedGuard<G, P>,
        }

        impl<G: $($bound)+ + Send + Sync + 'static> $layer<G> {
            /// Creates a layer that has not been told yet what responses mean. Go on with
            /// `.http()`, `.grpc()` or [`classify`](Self::classify): see
            /// [`Strategy`](super::Strategy).
            pub fn new(guard: G) -> Self {
                Self::settling(guard, Unclassified)
            }
        }

        impl<G, P> $layer<G, P>
        where
            G: $($bound)+ + Send + Sync + 'static,
            P: Send + Sync + 'static,
        {
            /// Creates a layer whose calls end as a [`Settle`](super::Settle) strategy says.
            pub fn settling(guard: G, settle: P) -> Self {
                let core = SharedGuard(Shared::new(Core { guard, settle }));
                Self { core }
            }
        }

        impl<G, P> $layer<G, P>
        where
            G: $($bound)+ + Clone + Send + Sync + 'static,
        {
            /// Makes the guard learn from the outcomes that this classifier returns. A call ends,
            /// and gives its permit back, when its response is there. The classifier
            /// [`ErrorsAsFailures`](crate::ErrorsAsFailures) takes every `Err` for a failure.
            pub fn classify<C>(self, classifier: C) -> $layer<G, OnResponse<C>>
            where
                C: Send + Sync + 'static,
            {
                self.settle(OnResponse(classifier))
            }

            /// Makes the guard's calls end as a [`Settle`](super::Settle) strategy says.
            pub fn settle<P2: Send + Sync + 'static>(self, settle: P2) -> $layer<G, P2> {
                $layer::settling(self.core.0.guard.clone(), settle)
            }

            /// Makes the guard learn from the outcomes that a classifier returns which is made for
            /// each request: for results that mean one thing for one path or method, and another
            /// for another. A call ends, and gives its permit back, when its response is there.
            pub fn classify_by<Req, F, C>(
                self,
                choose: F,
            ) -> $layer<G, ByRequest<F, OnResponse<C>>>
            where
                F: Fn(&Req) -> C + Send + Sync + 'static,
                C: 'static,
            {
                self.settle(ByRequest::new(choose))
            }

            /// Makes each call end as a strategy says that is chosen by its request, for HTTP and
            /// gRPC: `.settle_by(|request: &Request<_>| OnBodyEnd(classifier))`. See
            /// [`ByRequest`].
            pub fn settle_by<Req, F, P2>(self, choose: F) -> $layer<G, ByRequest<F, P2>>
            where
                F: Fn(&Req) -> P2 + Send + Sync + 'static,
                P2: Strategy + 'static,
            {
                self.settle(ByRequest::new(choose))
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

            /// Makes the guard learn from gRPC status codes, as `.grpc()` does, and from HTTP
            /// responses that are not gRPC, as `.http()` does: for a port on which both are served.
            ///
            /// [`grpc::Auto`](crate::grpc::Auto) is the responder for such a port. With classifiers
            /// of your own: `.settle(OnBodyOrTrailers { grpc, http })`.
            #[cfg(feature = "grpc")]
            pub fn auto(self) -> $layer<G, crate::grpc::OnBodyOrTrailers> {
                self.settle(crate::grpc::OnBodyOrTrailers::default())
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
    /// A tower layer around any guard that decides at once, or a tuple of such guards.
    GuardLayer for GuardBase<Wait: Immediate>
}
layer! {
    /// A tower layer around any guard that may wait, or a tuple of guards with one in it.
    ///
    /// The inner service must be `Clone`. It is cloned for calls that wait, and only for those.
    WaitLayer for GuardBase
}
layer! {
    /// A tower layer around a policy that holds its callers back in `poll_ready`.
    ///
    /// Use it in stacks whose callers heed readiness. Where each request has a service of its own,
    /// as in axum, nobody is held back by it.
    ReserveLayer for Reserve
}
