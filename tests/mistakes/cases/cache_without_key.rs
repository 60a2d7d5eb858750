//! A cache of another type
//~ this method takes 1 argument but 0 arguments were supplied
//~ .layer(/* key */)

use buttress::{Cache, Error, InvalidConfig};
use tower::{ServiceBuilder, service_fn};

fn main() -> Result<(), InvalidConfig> {
    let names = Cache::builder("names").build::<String>()?;
    #[cfg(not(feature = "cure"))]
    let layer = names.layer();
    #[cfg(feature = "cure")]
    let layer = names.layer(|id: &u64| Some(*id));
    let _stack = ServiceBuilder::new()
        .layer(layer)
        .service(service_fn(async |id: u64| {
            Ok::<_, Error<std::io::Error>>(id.to_string())
        }));
    Ok(())
}
