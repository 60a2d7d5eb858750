//! Help with a stack that does not compile.

use tower_service::Service;

/// Returns the service unchanged if it answers requests of type `Req`; otherwise the program does
/// not compile, and the compiler says what is missing.
///
/// That a `ServiceBuilder` stack is not a service usually comes out only when a method such as
/// `ready` or `oneshot` is called on it, and then the compiler says no more than that there is no
/// such method. Wrapped in this function, the stack is checked directly, and the error names what
/// is wrong: an error type that cannot hold a rejection, a key for another type of request, a guard
/// that may wait in a layer that does not. Other common mistakes have [a page of their
/// own](crate::when_it_does_not_compile).
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
