//! The name of a policy
//~ the trait bound `Name: From<&String>` is not satisfied

use buttress::CircuitBreaker;

fn main() {
    let host = String::from("db-1");
    #[cfg(not(feature = "cure"))]
    let _breaker = CircuitBreaker::new(&host);
    #[cfg(feature = "cure")]
    let _breaker = CircuitBreaker::new(host);
}
