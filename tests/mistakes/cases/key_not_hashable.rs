//! The key of a policy
//~ is not a key for requests of type
//~ it returns something hashable, or with `borrowed_key(..)` around it

use buttress::{Error, InvalidConfig, RateLimiter};
use std::time::Duration;
use tower::{ServiceBuilder, service_fn};

fn main() -> Result<(), InvalidConfig> {
    #[cfg(not(feature = "cure"))]
    let key = |price: &f64| *price;
    #[cfg(feature = "cure")]
    let key = |price: &f64| price.to_bits();
    let limiter = RateLimiter::builder("prices", 10, Duration::from_secs(1))
        .keyed(key)
        .build()?;
    let stack = ServiceBuilder::new()
        .layer(limiter.layer())
        .service(service_fn(
            async |_: f64| Ok::<_, Error<std::io::Error>>(()),
        ));
    let _stack = buttress::check::<f64, _>(stack);
    Ok(())
}
