//! `.build()` is missing
//~  has not been built
//~ `LoadShedBuilder` has not been built
//~ add `.build()?` to the builder

use buttress::{InvalidConfig, LoadShed};
use tower::ServiceBuilder;

fn main() -> Result<(), InvalidConfig> {
    let shed = LoadShed::builder("api").fixed(10);
    #[cfg(feature = "cure")]
    let shed = shed.build()?;
    let _stack = ServiceBuilder::new().layer(shed.layer().http());
    Ok(())
}
