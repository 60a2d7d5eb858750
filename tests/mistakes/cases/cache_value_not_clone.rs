//! A cache of another type
//~ the trait bound `User: Clone` is not satisfied
//~ consider annotating `User` with `#[derive(Clone)]`

use buttress::{Cache, InvalidConfig};
use std::sync::Arc;

struct User(#[allow(dead_code)] String);

#[cfg(not(feature = "cure"))]
type Answer = User;
#[cfg(feature = "cure")]
type Answer = Arc<User>;

fn main() -> Result<(), InvalidConfig> {
    let _users = Cache::builder("users").build::<Answer>()?;
    Ok(())
}
