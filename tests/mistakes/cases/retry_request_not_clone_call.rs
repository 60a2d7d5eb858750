//! A stack has no method `ready`, `call` or `oneshot`
//~ but its trait bounds were not satisfied
//~ `buttress::check` says.

use buttress::{Error, ErrorsAsFailures, Retry};
use tower::{ServiceBuilder, ServiceExt, service_fn};

#[cfg_attr(feature = "cure", derive(Clone))]
struct Mail(String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stack = ServiceBuilder::new()
        .layer(Retry::new("mailer").layer().classify(ErrorsAsFailures))
        .service(service_fn(async |mail: Mail| {
            Ok::<_, Error<std::io::Error>>(mail.0.len())
        }));
    stack.oneshot(Mail(String::new())).await?;
    Ok(())
}
