//! `.build()` is missing
//~  has not been built
//~ `CacheBuilder` has not been built
//~ add `.build()?` to the builder

use buttress::{Cache, InvalidConfig};
use std::time::Duration;

fn main() -> Result<(), InvalidConfig> {
    let users = Cache::builder("users").lease(Duration::from_secs(1));
    #[cfg(feature = "cure")]
    let users = users.build::<String>()?;
    let _layer = users.layer(|id: &u64| Some(*id));
    Ok(())
}
