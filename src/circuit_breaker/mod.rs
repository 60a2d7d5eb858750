//! circuit_breaker
