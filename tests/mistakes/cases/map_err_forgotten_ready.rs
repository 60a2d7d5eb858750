//! A stack has no method `ready`, `call` or `oneshot`
//~ but its trait bounds were not satisfied
//~ /* `buttress::check` says why */
use buttress::{CircuitBreaker, Error, ErrorsAsFailures};
use tower::{ServiceBuilder, ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stack =
        ServiceBuilder::new().layer(CircuitBreaker::new("db").layer().classify(ErrorsAsFailures));
    #[cfg(feature = "cure")]
    let stack = stack.map_err(Error::Service);
    let mut stack = stack.service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)));
    stack.ready().await?;
    Ok(())
}
