//! A stack has no method `ready`, `call` or `oneshot`
//~ but its trait bounds were not satisfied
//~ /* `buttress::check` says why */
use buttress::{Error, Timeout};
use std::time::Duration;
use tower::{ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = reqwest::Client::new();
    let request = client.get("http://127.0.0.1/").build()?;
    let stack = ServiceBuilder::new().layer(Timeout::new("orders", Duration::from_secs(1)).layer());
    #[cfg(feature = "cure")]
    let stack = stack.map_err(Error::Service);
    stack.service(client).oneshot(request).await?;
    Ok(())
}
