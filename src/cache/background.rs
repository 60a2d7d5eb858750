//! Work that nobody waits for.

use std::future::Future;
use tokio::runtime::Handle;

/// Does this beside the calls, if there is a runtime to do it: while one shuts down, nothing is.
pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(work);
    }
}
