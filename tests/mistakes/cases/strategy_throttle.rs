//! A layer has not been told what responses mean
//~ `Unclassified: AnyStrategy`
//~ say `.http()`, `.grpc()` or `.classify(ErrorsAsFailures)` to the layer

use buttress::{Error, Throttle};
use tower::{Layer, service_fn};

fn main() {
    let layer = Throttle::new("orders").layer();
    #[cfg(feature = "cure")]
    let layer = layer.http();
    let service = service_fn(async |_: http::Request<String>| {
        Ok::<_, Error<std::io::Error>>(http::Response::new(String::new()))
    });
    let _client = layer.layer(service);
}
