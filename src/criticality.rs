//! How much a request matters.

use std::{fmt, str::FromStr};

/// The importance of a request, in the four classes of Google's SRE book, chapter 21.
///
/// It is read by whoever has to refuse something: under overload a load shed refuses what matters
/// least first, and a job queue of yours can do so too. It travels with a call in its
/// [context](crate::context), and between processes in a header (`http::CriticalityHeaderLayer`),
/// so that every service on the way refuses the same calls. The default is
/// [`Critical`](Self::Critical). Classes are ordered by importance, the most important first: it
/// compares as the least.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Criticality {
    /// Refusing it causes serious damage that users see.
    CriticalPlus = 0,
    /// Users notice if it is refused. A request of which nothing is known belongs here.
    #[default]
    Critical = 1,
    /// It can be done minutes or hours later: a batch job that retries.
    SheddablePlus = 2,
    /// It can be refused now and then, or for a long time.
    Sheddable = 3,
}

impl Criticality {
    /// All classes, the most important first.
    pub const ALL: [Self; 4] = [
        Self::CriticalPlus,
        Self::Critical,
        Self::SheddablePlus,
        Self::Sheddable,
    ];

    /// Returns the name of this class as it travels in headers, such as `sheddable-plus`.
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

/// The error of reading a [`Criticality`] from a text that names none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a criticality: critical-plus, critical, sheddable-plus or sheddable")]
#[non_exhaustive]
pub struct UnknownCriticality;

impl FromStr for Criticality {
    type Err = UnknownCriticality;

    /// Reads the name of a class, in upper or lower case, with its words joined by `-` or `_`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_found_by_its_name_and_nothing_else_is_a_class() {
        for class in Criticality::ALL {
            assert_eq!(class.as_str().parse(), Ok(class));
            let shouted = class.as_str().to_uppercase().replace('-', "_");
            assert_eq!(shouted.parse(), Ok(class));
        }
        for other in ["", "critical+", "critical-", "sheddable plus"] {
            assert_eq!(
                other.parse::<Criticality>(),
                Err(UnknownCriticality),
                "{other}"
            );
        }
        assert!(Criticality::CriticalPlus < Criticality::Sheddable);
    }
}
