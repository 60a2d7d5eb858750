//! The closure that `run` is given
//~ expected a `FnOnce()` closure, found `impl Future

use buttress::{CircuitBreaker, Error};

async fn query() -> Result<u32, Error<std::io::Error>> {
    Ok(7)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let breaker = CircuitBreaker::new("db");
    #[cfg(not(feature = "cure"))]
    breaker.run(query()).await?;
    #[cfg(feature = "cure")]
    breaker.run(query).await?;
    Ok(())
}
