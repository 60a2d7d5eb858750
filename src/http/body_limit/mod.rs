//! Limits that hold over bodies, and not only up to the head of a response.
//!
//! A layer answers with a head and a body whose limits are still running. The body is in a cell
//! (`cell.rs`) that a timer can empty: so what it occupies comes home in time, even if nobody polls
//! it any more. `pace.rs` says when a body comes in too slowly, as arithmetic; `body.rs` and
//! `upload.rs` are the bodies, and `timeout.rs` and `deadline.rs` the layers.

mod body;
mod cell;
mod cut;
mod deadline;
mod pace;
mod timeout;
mod upload;

pub use body::LimitedBody;
pub use cut::{BodyCut, BodyLimit};
pub use deadline::{BodyDeadlineFuture, BodyDeadlineLayer, BodyDeadlineService};
pub use pace::MinRate;
pub use timeout::{BodyTimeoutFuture, BodyTimeoutLayer, BodyTimeoutService};
pub use upload::{AnyUpload, AsUploadBody, MapUploadBody, PrepareUpload, UploadBody, UploadLimit};
