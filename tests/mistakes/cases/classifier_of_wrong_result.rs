//! The classifier of a layer
//~ does not judge a `Result<
//~ a classifier is a closure `|result: Result<&u32, &

use buttress::{CircuitBreaker, Error, Outcome};
use tower::{ServiceBuilder, service_fn};

type Failure = Error<std::io::Error>;

fn main() {
    #[cfg(not(feature = "cure"))]
    let classifier = |answer: Result<&u32, &Failure>| answer.is_ok();
    #[cfg(feature = "cure")]
    let classifier = |answer: Result<&u32, &Failure>| match answer {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    };
    let stack = ServiceBuilder::new()
        .layer(CircuitBreaker::new("db").layer().classify(classifier))
        .service(service_fn(async |n: u32| Ok::<_, Failure>(n)));
    let _stack = buttress::check::<u32, _>(stack);
}
