//! A service that cannot be cloned
//~ the trait bound `Database: Clone` is not satisfied
//~ required for `WaitService<Database, Queued>` to implement
//~ consider annotating `Database` with `#[derive(Clone)]`

use buttress::{Error, ErrorsAsFailures, LoadShed};
use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};
use tower::{Service, ServiceBuilder};

#[cfg_attr(feature = "cure", derive(Clone))]
struct Database;

impl Service<u32> for Database {
    type Response = u32;
    type Error = Error<std::io::Error>;
    type Future = Ready<Result<u32, Self::Error>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, n: u32) -> Self::Future {
        ready(Ok(n))
    }
}

fn main() {
    let stack = ServiceBuilder::new()
        .layer(
            LoadShed::new("db")
                .queued()
                .layer()
                .classify(ErrorsAsFailures),
        )
        .service(Database);
    let _stack = buttress::check::<u32, _>(stack);
}
