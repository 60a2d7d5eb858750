//! Which requests to keep when not all can be served.
//!
//! Every request has a [`Criticality`], and may belong to a user. Under overload, the requests of
//! the lowest class are refused first, and among those of one class the ones of the users who ask
//! for the most: a flood sheds itself. How far up that goes is learnt from the requests that
//! *arrive*. (Learnt from the ones that were let in, it ratchets: what is refused is not seen any
//! more, the rest looks like too much again, and 30 % to be shed become 95 %.)

#[cfg(test)]
mod tests;
mod threshold;
mod usage;

pub(crate) use threshold::Threshold;

use crate::{criticality::Criticality, key::KeyHash};
use std::hash::Hash;

/// The priority of a request: how much it matters, and whose it is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Priority {
    class: Criticality,
    /// A hash, the same for equal users.
    user: Option<u64>,
}

impl Priority {
    /// Returns the priority of a request of this class that belongs to nobody in particular.
    pub const fn new(class: Criticality) -> Self {
        Self { class, user: None }
    }

    /// Sets the request's user, such as a tenant, an API key or an address. Under overload, among
    /// requests of one class, users who ask for more than others are refused first.
    #[doc(alias("fairness", "fair_queueing"))]
    #[must_use]
    pub fn of_user(self, user: impl Hash) -> Self {
        Self {
            user: Some(KeyHash::of(&|_: &()| &user, &()).0),
            ..self
        }
    }

    /// Returns the class of the request.
    pub const fn class(self) -> Criticality {
        self.class
    }
}

impl From<Criticality> for Priority {
    fn from(class: Criticality) -> Self {
        Self::new(class)
    }
}

/// A function that says how much a request matters, such as a closure that returns a
/// [`Criticality`] or a [`Priority`].
///
/// ```
/// use buttress::{Criticality, load_shed::{Prioritize, Priority}};
///
/// struct Request { tenant: String, batch: bool }
///
/// let by_kind = |req: &Request| match req.batch {
///     true => Criticality::Sheddable,
///     false => Criticality::Critical,
/// };
/// let fair = |req: &Request| Priority::new(Criticality::Critical).of_user(&req.tenant);
///
/// let req = Request { tenant: "acme".to_owned(), batch: true };
/// assert_eq!(by_kind.priority(&req), Criticality::Sheddable.into());
/// assert_eq!(fair.priority(&req).class(), Criticality::Critical);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how much a request of type `{Req}` matters",
    label = "does not look at a `{Req}`",
    note = "write `|req: &{Req}| Criticality::Critical`, or a `Priority` with a user",
    note = "`run` has no request to tell apart: `policy.run_for(&request, op)` takes one"
)]
pub trait Prioritize<Req> {
    /// Returns how much this request matters, and whose it is.
    fn priority(&self, req: &Req) -> Priority;
}

#[diagnostic::do_not_recommend]
impl<Req, P: Into<Priority>, F: Fn(&Req) -> P> Prioritize<Req> for F {
    #[inline]
    fn priority(&self, req: &Req) -> Priority {
        self(req).into()
    }
}

/// The default priority, under which all requests matter equally.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Equal;

impl<Req> Prioritize<Req> for Equal {
    #[inline]
    fn priority(&self, _: &Req) -> Priority {
        Priority::default()
    }
}
