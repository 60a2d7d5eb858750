//! A layer has not been told what responses mean
//~ does not tell what a `Result<
//~ `OnBodyEnd` does not tell what a `Result<u32,
//~ add `.classify(ErrorsAsFailures)`

use buttress::{CircuitBreaker, Error, ErrorsAsFailures};
use tower::{ServiceBuilder, service_fn};

fn main() {
    let layer = CircuitBreaker::new("db").layer();
    #[cfg(not(feature = "cure"))]
    let layer = layer.http();
    #[cfg(feature = "cure")]
    let layer = layer.classify(ErrorsAsFailures);
    let stack = ServiceBuilder::new()
        .layer(layer)
        .map_err(Error::Service)
        .service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)));
    let _stack = buttress::check::<u32, _>(stack);
}
