//! The error cannot hold a rejection
//~ cannot hold a `Rejected`
//~ put `.map_err(buttress::Error::Service)`

use buttress::{CircuitBreaker, Error};

async fn query() -> Result<u32, std::io::Error> {
    Ok(7)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let breaker = CircuitBreaker::new("db");
    #[cfg(not(feature = "cure"))]
    breaker.run(query).await?;
    #[cfg(feature = "cure")]
    breaker
        .run(async || query().await.map_err(Error::Service))
        .await?;
    Ok(())
}
