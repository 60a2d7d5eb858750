//! A cache of another type
//~ this cache's layer does not fit a service that answers a `u64` with a `String`
//~ `cache.layer(|req: &u64| Some(..))`

use buttress::{Cache, Error, InvalidConfig};
use tower::{ServiceBuilder, service_fn};

fn main() -> Result<(), InvalidConfig> {
    let names = Cache::builder("names").build::<String>()?;
    #[cfg(not(feature = "cure"))]
    let layer = names.layer(|id: &u64| *id);
    #[cfg(feature = "cure")]
    let layer = names.layer(|id: &u64| Some(*id));
    let stack = ServiceBuilder::new()
        .layer(layer)
        .service(service_fn(async |id: u64| {
            Ok::<_, Error<std::io::Error>>(id.to_string())
        }));
    let _stack = buttress::check::<u64, _>(stack);
    Ok(())
}
