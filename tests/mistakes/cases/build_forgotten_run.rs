//! `.build()` is missing
//~  has not been built
//~ `CircuitBreakerBuilder` has not been built
//~ add `.build()?` to the builder

use buttress::{CircuitBreaker, Error};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let breaker = CircuitBreaker::builder("db").failure_rate(0.3);
    #[cfg(feature = "cure")]
    let breaker = breaker.build()?;
    let answer = breaker
        .run(async || Ok::<_, Error<std::io::Error>>(7))
        .await?;
    println!("{answer}");
    Ok(())
}
