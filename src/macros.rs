//! What all services and futures spell out in the same way.

/// Access to the service that a `XService` with a field `inner` wraps.
macro_rules! inner_accessors {
    () => {
        /// Gets a reference to the underlying service.
        pub const fn get_ref(&self) -> &S {
            &self.inner
        }

        /// Gets a mutable reference to the underlying service.
        ///
        /// What the layer above it knows of its readiness stays as it was.
        pub const fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// Consumes `self`, returning the underlying service.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}
