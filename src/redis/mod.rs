//! State that is shared by all instances, in Redis.
