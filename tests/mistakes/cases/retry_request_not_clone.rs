//! A retry of what cannot be cloned
//~ cannot send a `Mail` again
//~ derive `Clone` for them
//~ `.http()`

use buttress::{Error, ErrorsAsFailures, Retry};
use tower::{ServiceBuilder, service_fn};

#[cfg_attr(feature = "cure", derive(Clone))]
struct Mail(String);

fn main() {
    let stack = ServiceBuilder::new()
        .layer(Retry::new("mailer").layer().classify(ErrorsAsFailures))
        .service(service_fn(async |mail: Mail| {
            Ok::<_, Error<std::io::Error>>(mail.0.len())
        }));
    let _stack = buttress::check::<Mail, _>(stack);
}
