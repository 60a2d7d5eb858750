//! A guard that is not one
//~ is not a guard
//~ tuples of two to four

use buttress::{CircuitBreaker, GuardLayer, LoadShed, Throttle};

fn main() {
    let (a, b) = (CircuitBreaker::new("a"), CircuitBreaker::new("b"));
    let (c, d) = (LoadShed::new("c"), LoadShed::new("d"));
    let e = Throttle::new("e");
    #[cfg(not(feature = "cure"))]
    let _layer = GuardLayer::new((a, b, c, d, e)).http();
    #[cfg(feature = "cure")]
    let _layer = GuardLayer::new(((a, b), c, d, e)).http();
}
