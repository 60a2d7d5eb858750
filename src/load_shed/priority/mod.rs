//! Which requests to keep when not all can be served.
//!
//! Every request has a [`Criticality`], and may belong to a user. Under overload, the requests of the
//! lowest class are refused first, and among those of one class the ones of the users who ask for
//! the most: a flood sheds itself. How far up that goes is learnt from the requests that *arrive*.
//! (Learnt from the ones that were let in, it ratchets: what is refused is not seen any more, the
//! rest looks like too much again, and 30 % to be shed become 95 %.)

#[cfg(test)]
mod tests;
mod threshold;
mod usage;

pub(crate) use threshold::Threshold;

use crate::key::KeyHash;
use std::{fmt, hash::Hash, str::FromStr};

/// How much a request matters, as in Google's SRE book, chapter 21.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Criticality {
    /// Refusing it does serious damage that users see.
    CriticalPlus = 0,
    /// Refusing it is seen by users. What says nothing else is this.
    #[default]
    Critical = 1,
    /// It can be made later, in minutes or hours: batches that retry.
    SheddablePlus = 2,
    /// It can be left out now and then, or for long.
    Sheddable = 3,
}

impl Criticality {
    /// All of them, the most important first.
    pub const ALL: [Self; 4] = [
        Self::CriticalPlus,
        Self::Critical,
        Self::SheddablePlus,
        Self::Sheddable,
    ];

    /// Its name, as it travels in headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CriticalPlus => "critical-plus",
            Self::Critical => "critical",
            Self::SheddablePlus => "sheddable-plus",
            Self::Sheddable => "sheddable",
        }
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a [`Criticality`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a class of priority")]
#[non_exhaustive]
pub struct UnknownCriticality;

impl FromStr for Criticality {
    type Err = UnknownCriticality;

    /// Upper or lower case, words joined by `-` or `_`.
    fn from_str(text: &str) -> Result<Self, UnknownCriticality> {
        let same = |class: &Self| {
            let name = class.as_str().bytes();
            name.len() == text.len()
                && name
                    .zip(text.bytes())
                    .all(|(a, b)| a == b.to_ascii_lowercase() || (a, b) == (b'-', b'_'))
        };
        Self::ALL.into_iter().find(same).ok_or(UnknownCriticality)
    }
}

/// How much a request matters, and whose it is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Priority {
    class: Criticality,
    /// A hash, the same for equal users.
    user: Option<u64>,
}

impl Priority {
    /// A request of this class that belongs to nobody in particular.
    pub const fn new(class: Criticality) -> Self {
        Self { class, user: None }
    }

    /// The same, of this user (a tenant, an API key, an address): under overload, users who ask for
    /// more than others are refused before them.
    #[must_use]
    pub fn of_user(self, user: impl Hash) -> Self {
        Self {
            user: Some(KeyHash::of(&|_: &()| &user, &()).0),
            ..self
        }
    }

    /// Its class.
    pub const fn class(self) -> Criticality {
        self.class
    }
}

impl From<Criticality> for Priority {
    fn from(class: Criticality) -> Self {
        Self::new(class)
    }
}

/// Finds out how much a request matters. Closures that return a [`Criticality`] or a [`Priority`] do.
///
/// ```
/// use buttress::load_shed::{Criticality, Prioritize, Priority};
///
/// struct Request { tenant: String, batch: bool }
///
/// let by_kind = |req: &Request| if req.batch { Criticality::Sheddable } else { Criticality::Critical };
/// let fair = |req: &Request| Priority::new(Criticality::Critical).of_user(&req.tenant);
///
/// let req = Request { tenant: "acme".to_owned(), batch: true };
/// assert_eq!(by_kind.priority(&req), Criticality::Sheddable.into());
/// assert_eq!(fair.priority(&req).class(), Criticality::Critical);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how much a request of type `{Req}` matters",
    note = "write `|req: &{Req}| Criticality::Critical`, or a `Priority` with a user"
)]
pub trait Prioritize<Req> {
    /// How much this request matters, and whose it is.
    fn priority(&self, req: &Req) -> Priority;

    /// Whether it can tell requests apart at all.
    fn is_equal(&self) -> bool {
        false
    }
}

impl<Req, P: Into<Priority>, F: Fn(&Req) -> P> Prioritize<Req> for F {
    #[inline]
    fn priority(&self, req: &Req) -> Priority {
        self(req).into()
    }
}

/// All requests matter equally.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Equal;

impl<Req> Prioritize<Req> for Equal {
    #[inline]
    fn priority(&self, _: &Req) -> Priority {
        Priority::default()
    }

    #[inline]
    fn is_equal(&self) -> bool {
        true
    }
}
