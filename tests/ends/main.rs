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
mod table;
mod uploads;
