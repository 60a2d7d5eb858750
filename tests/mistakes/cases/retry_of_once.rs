//! The closure that `run` is given
//~ which is behind a mutable reference

use buttress::{Error, Retry};

async fn send(mail: String) -> Result<usize, Error<std::io::Error>> {
    Ok(mail.len())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mail = "hello".to_owned();
    #[cfg(not(feature = "cure"))]
    Retry::new("mailer").run(async move || send(mail).await).await?;
    #[cfg(feature = "cure")]
    Retry::new("mailer").run(async || send(mail.clone()).await).await?;
    Ok(())
}
