//! A stack over reqwest
//~ but its trait bounds were not satisfied
//~ // A client of one body lacks `.map_body(..)`; what else there is, `buttress::check` says.

use buttress::{Error, Retry};
use tower::{ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = reqwest::Client::new();
    let retry = Retry::new("orders").layer().http();
    #[cfg(feature = "cure")]
    let retry = retry.map_body(reqwest::Body::wrap);
    let orders = ServiceBuilder::new()
        .layer(retry)
        .map_err(Error::Service)
        .map_response(http::Response::<reqwest::Body>::from)
        .service_fn(move |request: http::Request<reqwest::Body>| {
            let client = client.clone();
            async move { client.execute(request.try_into()?).await }
        });
    let request = http::Request::get("http://127.0.0.1/").body(reqwest::Body::default())?;
    orders.oneshot(request).await?;
    Ok(())
}
