//! `.build()` is missing
//~ buttress::cure::AddBuild<_>
//~ `RetryBuilder: buttress::cure::AddBuild<_>`

use buttress::{InvalidConfig, Retry};
use tower::{ServiceBuilder, service_fn};

fn main() -> Result<(), InvalidConfig> {
    let retry = Retry::builder("orders").attempts(4);
    #[cfg(feature = "cure")]
    let retry = retry.build()?.layer().http();
    let service = service_fn(async |_: ()| Ok::<_, std::io::Error>(()));
    let _stack = ServiceBuilder::new().layer(retry).service(service);
    Ok(())
}
