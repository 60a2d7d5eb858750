//! The closure that `run` is given
//~ may outlive the current function
//~ use the `move` keyword

use buttress::{Cache, Error};
use std::sync::Arc;

struct Database;

impl Database {
    async fn name(&self) -> Result<String, Error<std::io::Error>> {
        Ok("tea".to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names: Cache<String> = Cache::builder("names").build()?;
    let database = Arc::new(Database);
    #[cfg(not(feature = "cure"))]
    names.run("7", || async { database.name().await }).await?;
    #[cfg(feature = "cure")]
    names.run("7", move || async move { database.name().await }).await?;
    Ok(())
}
