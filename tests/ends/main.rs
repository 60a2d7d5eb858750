//! What the ends of calls teach: whole stacks, over real sockets where the fault was found over
//! sockets.
#![cfg(feature = "full")]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

mod dropped;
mod forms;
mod grpc_server;
mod grpc_stacks;
mod grpc_uploads;
mod hang_ups;
mod in_every_form;
mod layers;
mod provenance;
mod readme;
mod rpc;
mod stacks;
mod streams;
mod table;
mod uploads;

use std::{future::Future, panic::Location, time::Duration};

/// Waits for what takes no time to speak of: after half a minute it fails, and says where.
#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let here = Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(30), future).await {
            Ok(output) => output,
            Err(_) => panic!("still waiting after half a minute: {here}"),
        }
    }
}

/// Waits until it is true, as [`within`] does.
#[track_caller]
pub(crate) fn until(mut is: impl FnMut() -> bool) -> impl Future<Output = ()> {
    within(async move {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}
