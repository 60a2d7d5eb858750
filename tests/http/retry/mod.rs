//! Which requests are sent again, with what, and when.

mod bodies;
mod requests;
mod responses;
mod support;
mod unsent;
