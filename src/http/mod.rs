//! HTTP: answers instead of errors, what a status means, who the client is, deadlines and retries.

mod classify;
mod deadline;
mod fields;
mod keys;
mod respond;
mod retry;
mod settle;
