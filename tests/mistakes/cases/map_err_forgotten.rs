//! The error cannot hold a rejection
//~ cannot hold a `Rejected`
//~ put `.map_err(buttress::Error::Service)` below the layer

use buttress::{CircuitBreaker, Error, ErrorsAsFailures};
use tower::{ServiceBuilder, service_fn};

fn main() {
    let stack =
        ServiceBuilder::new().layer(CircuitBreaker::new("db").layer().classify(ErrorsAsFailures));
    #[cfg(feature = "cure")]
    let stack = stack.map_err(Error::Service);
    let stack = stack.service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)));
    let _stack = buttress::check::<u32, _>(stack);
}
