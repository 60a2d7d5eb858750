//! The error cannot hold a rejection
//~ cannot hold a `Rejected`
//~ put `.map_err(buttress::Error::Service)`

use buttress::{Cache, Error};

async fn name() -> Result<String, std::io::Error> {
    Ok("tea".to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names: Cache<String> = Cache::builder("names").build()?;
    #[cfg(not(feature = "cure"))]
    names.run("7", name).await?;
    #[cfg(feature = "cure")]
    names.run("7", async || name().await.map_err(Error::Service)).await?;
    Ok(())
}
