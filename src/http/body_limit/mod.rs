//! Limits that hold over bodies, and not only up to the head of a response.
//!
//! A layer answers with a head and a body whose limits are still running. The body is in a cell
//! (`cell.rs`) that the timer of its end can empty: so what it occupies comes home by the deadline,
//! or by the end of a timeout that holds for all of it, even if nobody polls it any more. `pace.rs`
//! says when a body comes in too slowly, as arithmetic, and `wake.rs` notes when it was woken: only
//! while a reader waits, so the timer of the pace wakes that reader. `body.rs` and `upload.rs` are
//! the bodies, and `timeout.rs` and `deadline.rs` the layers.

mod body;
mod cell;
mod cut;
mod deadline;
mod pace;
mod timeout;
mod upload;
mod wake;

pub use body::LimitedBody;
pub use cut::{BodyCut, BodyLimit};
pub use deadline::{BodyDeadlineFuture, BodyDeadlineLayer, BodyDeadlineService};
pub use pace::MinRate;
pub use timeout::{BodyTimeoutFuture, BodyTimeoutLayer, BodyTimeoutService};
pub use upload::{AnyUpload, AsUploadBody, MapUploadBody, PrepareUpload, UploadBody, UploadLimit};
