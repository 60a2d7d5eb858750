//! A layer in a registry
//~ cannot be listed in a registry
//~ `registry.add(&breaker)`

use buttress::{CircuitBreaker, registry::Registry};

fn main() {
    let breaker = CircuitBreaker::new("db");
    #[cfg(not(feature = "cure"))]
    Registry::new().add(&breaker.layer().http());
    #[cfg(feature = "cure")]
    Registry::new().add(&breaker);
}
