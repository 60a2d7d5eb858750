//! The key of a policy
//~ lifetime may not live long enough

use buttress::RateLimiter;
use std::time::Duration;

struct Query {
    name: String,
}

fn main() -> Result<(), buttress::InvalidConfig> {
    let builder = RateLimiter::builder("names", 10, Duration::from_secs(1));
    #[cfg(not(feature = "cure"))]
    let limiter = builder.keyed(|query: &Query| query.name.as_str()).build()?;
    #[cfg(feature = "cure")]
    let limiter = builder
        .keyed(buttress::borrowed_key(|query: &Query| query.name.as_str()))
        .build()?;
    let query = Query {
        name: "ada".to_owned(),
    };
    println!("{:?}", limiter.status(&query));
    Ok(())
}
