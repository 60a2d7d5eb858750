//! What all services, futures and handles spell out in the same way.

/// Access to the service that a `XService` with a field `inner` wraps.
macro_rules! inner_accessors {
    () => {
        /// Gets a reference to the underlying service.
        pub const fn get_ref(&self) -> &S {
            &self.inner
        }

        /// Gets a mutable reference to the underlying service.
        ///
        /// What the layer above it knows of its readiness stays as it was.
        pub const fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// Consumes `self`, returning the underlying service.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}

/// How the handle of a guard runs closures. The documentation of `run` is the guard's own; a guard
/// that always needs a request has `run_for` alone.
#[allow(unused_macros)] // which guards there are depends on which features are on
macro_rules! guard_runs {
    ($(#[$doc:meta])+ run) => {
        $(#[$doc])+
        ///
        /// # Errors
        /// A [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
        pub async fn run<T, E, Fut>(&self, op: impl FnOnce() -> Fut) -> Result<T, E>
        where
            Self: $crate::Guard<()>, // over requests: `policy.run_for(&request, op)`
            E: $crate::FromRejected,
            Fut: Future<Output = Result<T, E>>,
        {
            $crate::guard::run(self, &(), op).await
        }

        guard_runs!();
    };
    () => {
        /// Runs `op` if the policy admits this request, whose key, cost or priority it may ask for.
        /// What the policy makes of the result is what it makes of it in `run`.
        ///
        /// # Errors
        /// A [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
        pub async fn run_for<Req, T, E, Fut>(
            &self,
            req: &Req,
            op: impl FnOnce() -> Fut,
        ) -> Result<T, E>
        where
            Self: $crate::Guard<Req>,
            E: $crate::FromRejected,
            Fut: Future<Output = Result<T, E>>,
        {
            $crate::guard::run(self, req, op).await
        }
    };
    (classify) => {
        /// Returns a handle on this policy whose `run` asks a classifier what results mean, as
        /// `.layer().classify(..)` does for services.
        ///
        /// Without one, every `Err` of a closure is a failure. [`ErrorsBy`](crate::ErrorsBy) makes
        /// a classifier of a closure that looks at errors only.
        pub fn classify<C>(&self, classifier: C) -> $crate::Classified<Self, C> {
            $crate::Classified::new(self.clone(), classifier)
        }
    };
}
