//! What the compiler says to mistakes that it would have no words for.
//!
//! No type implements these traits. They are asked for by what is only there to be found where
//! people look for it (a builder's `layer`), and their texts name the cure.
//!
//! The compiler prints such a text where a type has to implement a trait. Where a method is called
//! on a stack that is no service, it prints the first lines of the definition of the stack's type
//! instead, and it names the traits: so there are comments in these lines, and the traits here bear
//! the names of what is to be done. `tests/mistakes` holds it all to what it promises.

/// A policy that has been built, as a builder is not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has not been built",
    label = "a builder, and not yet a policy",
    note = "add `.build()?` to the builder: what it returns is the policy, with `.layer()` and `.run(..)`"
)]
pub trait AddBuild<T> {
    /// What the policy would make of it.
    type Made;
    /// Makes it.
    fn make(&self, of: T) -> Self::Made;
}

/// A policy that is a layer itself, as none is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a policy, and not a layer",
    label = "a policy, and not a layer",
    note = "write `.layer()` behind it, as in `breaker.layer()`; a cache has `.layer(key)` and `.http_layer()`",
    note = "a layer that learns from responses is also told what they mean: `.http()`, `.grpc()` or `.classify(ErrorsAsFailures)`"
)]
pub trait AddLayer<S> {
    /// What the layer would make of the service.
    type Service;
    /// Makes it.
    fn make(&self, inner: S) -> Self::Service;
}

/// Makes policies layers on a term that they do not meet, so that the compiler tells of it.
macro_rules! policies {
    ($($feature:literal [$($params:tt)*] $policy:ty;)*) => {$(
        #[cfg(feature = $feature)]
        #[doc(hidden)]
        impl<S, $($params)*> tower_layer::Layer<S> for $policy
        where
            Self: AddLayer<S>, // write `.layer()` behind the policy
        {
            type Service = <Self as AddLayer<S>>::Service;

            fn layer(&self, inner: S) -> Self::Service {
                self.make(inner)
            }
        }
    )*};
}
policies! {
    "cache" [V: Clone + Send + Sync + 'static, St: crate::cache::Store<V>] crate::Cache<V, St>;
    "circuit-breaker" [] crate::CircuitBreaker;
    "circuit-breaker" [K] crate::circuit_breaker::KeyedCircuitBreaker<K>;
    "load-shed" [P] crate::LoadShed<P>;
    "load-shed" [P] crate::load_shed::Backpressure<P>;
    "load-shed" [P] crate::load_shed::Queued<P>;
    "rate-limit" [K, C, Q] crate::RateLimiter<K, C, Q>;
    "rate-limit" [K, C, Q] crate::rate_limit::WaitingLimiter<K, C, Q>;
    "retry" [] crate::Retry;
    "throttle" [] crate::Throttle;
    "timeout" [] crate::Timeout;
}

#[doc(hidden)]
impl<S, G> tower_layer::Layer<S> for crate::guard::Shadow<G>
where
    Self: AddLayer<S>, // write `.layer()` behind the policy
{
    type Service = <Self as AddLayer<S>>::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.make(inner)
    }
}

/// Gives builders the methods of their policies, and makes them layers, on such a term too.
macro_rules! builders {
    ($($feature:literal [$($params:tt)*] $builder:ty: $($method:ident)*;)*) => {$(
        #[cfg(feature = $feature)]
        #[doc(hidden)]
        #[allow(missing_docs)]
        impl<$($params)*> $builder {
            $(pub fn $method<T>(&self, of: T) -> <Self as AddBuild<T>>::Made
            where
                Self: AddBuild<T>, // add `.build()?` to the builder
            {
                self.make(of)
            })*
        }

        #[cfg(feature = $feature)]
        #[doc(hidden)]
        impl<S, $($params)*> tower_layer::Layer<S> for $builder
        where
            Self: AddBuild<S>, // add `.build()?` to the builder, and `.layer()`
        {
            type Service = <Self as AddBuild<S>>::Made;

            fn layer(&self, inner: S) -> Self::Service {
                self.make(inner)
            }
        }
    )*};
}
builders! {
    "cache" [St] crate::cache::CacheBuilder<St>: layer http_layer lookup run;
    "circuit-breaker" [] crate::circuit_breaker::CircuitBreakerBuilder: layer run;
    "circuit-breaker" [K] crate::circuit_breaker::KeyedCircuitBreakerBuilder<K>: layer run;
    "load-shed" [P] crate::load_shed::LoadShedBuilder<P>: backpressure layer queued run;
    "rate-limit" [K, C, Q] crate::rate_limit::RateLimiterBuilder<K, C, Q>: layer run wait_up_to;
    "retry" [] crate::retry::RetryBuilder: layer run;
    "throttle" [] crate::throttle::ThrottleBuilder: layer run;
}
