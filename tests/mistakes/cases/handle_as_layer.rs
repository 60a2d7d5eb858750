//! `.layer()` is missing
//~ buttress::cure::AddLayer<
//~ `buttress::CircuitBreaker: buttress::cure::AddLayer<

use buttress::{CircuitBreaker, Error, ErrorsAsFailures};
use tower::{ServiceBuilder, service_fn};

fn main() {
    let breaker = CircuitBreaker::new("db");
    #[cfg(feature = "cure")]
    let breaker = breaker.layer().classify(ErrorsAsFailures);
    let stack = ServiceBuilder::new()
        .layer(breaker)
        .map_err(Error::Service)
        .service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)));
    let _stack = buttress::check::<u32, _>(stack);
}
