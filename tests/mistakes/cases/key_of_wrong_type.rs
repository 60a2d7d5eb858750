//! The key of a policy
//~ type mismatch in closure arguments
//~ expected closure signature `for<'a> fn(&'a http::Request<String>) -> _`

use buttress::{Error, InvalidConfig, RateLimiter};
use std::time::Duration;
use tower::{ServiceBuilder, service_fn};

fn main() -> Result<(), InvalidConfig> {
    #[cfg(not(feature = "cure"))]
    let key = |uri: &http::Uri| uri.path().to_owned();
    #[cfg(feature = "cure")]
    let key = |request: &http::Request<String>| request.uri().path().to_owned();
    let limiter = RateLimiter::builder("paths", 10, Duration::from_secs(1))
        .keyed(key)
        .build()?;
    let stack = ServiceBuilder::new()
        .layer(limiter.layer())
        .service(service_fn(async |_: http::Request<String>| {
            Ok::<_, Error<std::io::Error>>(())
        }));
    let _stack = buttress::check::<http::Request<String>, _>(stack);
    Ok(())
}
