//! Help with a stack that does not compile.

use tower_service::Service;

/// Returns the service unchanged if it answers requests of type `Req`; else does not compile, and
/// the compiler says what is missing.
///
/// A `ServiceBuilder` stack is only found not to be a service when a method such as `ready` or
/// `oneshot` is called on it, and then the compiler says no more than that there is no such method.
/// Wrapped in this function, the stack is asked for what it lacks: an error type that can hold a
/// rejection, a key for this type of request, a layer that may wait. What else goes wrong at first
/// is on [a page of its own](crate::when_it_does_not_compile).
///
/// ```
/// use buttress::{CircuitBreaker, Error, ErrorsAsFailures};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let stack = ServiceBuilder::new()
///     .layer(CircuitBreaker::new("stock").layer().classify(ErrorsAsFailures))
///     // Without this line, `check` says that it is missing, and `oneshot` does not.
///     .map_err(Error::Service)
///     .service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1)));
/// let stack = buttress::check::<u32, _>(stack);
/// assert_eq!(stack.oneshot(1).await.unwrap(), 2);
/// # }
/// ```
pub const fn check<Req, S: Service<Req>>(service: S) -> S {
    service
}
