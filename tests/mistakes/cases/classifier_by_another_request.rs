//! A classifier for each request
//~ is not for requests of this type (`http::Request<String>`)
//~ `.settle_by(..)` and `.classify_by(..)` take a closure `|request: &http::Request<String>| ..`

use buttress::{CircuitBreaker, Error, Outcome};
use http::{Request, Response};
use std::io;
use tower::{ServiceBuilder, service_fn};

type Answer = Response<String>;

fn main() {
    #[cfg(not(feature = "cure"))]
    let choose = |uri: &http::Uri| judge(uri.path() == "/health");
    #[cfg(feature = "cure")]
    let choose = |request: &Request<String>| judge(request.uri().path() == "/health");
    let stack = ServiceBuilder::new()
        .layer(CircuitBreaker::new("orders").layer().classify_by(choose))
        .service(service_fn(async |_: Request<String>| {
            Ok::<_, Error<io::Error>>(Answer::default())
        }));
    let _stack = buttress::check::<Request<String>, _>(stack);
}

fn judge(is_health: bool) -> impl Fn(Result<&Answer, &Error<io::Error>>) -> Outcome {
    move |result| match result {
        Ok(answer) if answer.status() == 404 && is_health => Outcome::Failure,
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    }
}
