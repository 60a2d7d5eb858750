//! A guard that is not one
//~ a guard of this layer may wait
//~ use `WaitLayer`

use buttress::{CircuitBreaker, LoadShed, guard};

fn main() {
    let guards = (LoadShed::new("api").queued(), CircuitBreaker::new("api"));
    #[cfg(not(feature = "cure"))]
    let _layer = guard::GuardLayer::new(guards).http();
    #[cfg(feature = "cure")]
    let _layer = guard::WaitLayer::new(guards).http();
}
