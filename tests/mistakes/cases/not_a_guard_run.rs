//! A guard that is not one
//~ is not a guard for requests of type
//~ and have `.layer()` and `.run(..)` of their own

use buttress::{Error, Retry};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let retry = Retry::new("db");
    let op = async || Ok::<_, Error<std::io::Error>>(7);
    #[cfg(not(feature = "cure"))]
    buttress::guard::run(&retry, &(), op).await?;
    #[cfg(feature = "cure")]
    retry.run(op).await?;
    Ok(())
}
