//! A cache of another type
//~ type annotations needed

use buttress::{Cache, InvalidConfig};

fn main() -> Result<(), InvalidConfig> {
    #[cfg(not(feature = "cure"))]
    let _names = Cache::builder("names").build()?;
    #[cfg(feature = "cure")]
    let _names: Cache<String> = Cache::builder("names").build()?;
    Ok(())
}
