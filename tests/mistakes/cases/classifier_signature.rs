//! The classifier of a layer
//~ type mismatch in closure arguments
//~ expected closure signature `for<'a, 'b> fn(Result<&'a u32, &'b

use buttress::{CircuitBreaker, Error, Outcome};
use tower::{ServiceBuilder, service_fn};

fn main() {
    #[cfg(not(feature = "cure"))]
    let classifier = |answer: &u32| match answer {
        0 => Outcome::Failure,
        _ => Outcome::Success,
    };
    #[cfg(feature = "cure")]
    let classifier = |answer: Result<&u32, &Error<std::io::Error>>| match answer {
        Ok(0) | Err(_) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    };
    let stack = ServiceBuilder::new()
        .layer(CircuitBreaker::new("db").layer().classify(classifier))
        .service(service_fn(async |n: u32| Ok::<_, Error<std::io::Error>>(n)));
    let _stack = buttress::check::<u32, _>(stack);
}
