//! The closure that `run` is given
//~ async closure does not implement `FnMut` because it captures state from its environment

use buttress::{Error, Retry};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut attempts = 0;
    #[cfg(not(feature = "cure"))]
    Retry::new("mailer")
        .run(async || {
            attempts += 1;
            Ok::<_, Error<std::io::Error>>(())
        })
        .await?;
    #[cfg(feature = "cure")]
    Retry::new("mailer")
        .run(|| {
            attempts += 1;
            async { Ok::<_, Error<std::io::Error>>(()) }
        })
        .await?;
    println!("{attempts} attempts");
    Ok(())
}
