//! A layer has not been told what responses mean
//~ `Unclassified: AnyStrategy`
//~ say `.http()`, `.grpc()` or `.classify(ErrorsAsFailures)` to the layer

use buttress::{Error, ErrorsAsFailures, Retry};
use tower::{ServiceBuilder, service_fn};

fn main() {
    let layer = Retry::new("mailer").layer();
    #[cfg(feature = "cure")]
    let layer = layer.classify(ErrorsAsFailures);
    let stack = ServiceBuilder::new()
        .layer(layer)
        .map_err(Error::Service)
        .service(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)));
    let _stack = buttress::check::<u32, _>(stack);
}
