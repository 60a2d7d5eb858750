//! Configuration that is refused.

use super::Name;
use std::fmt;

/// The error of a policy that cannot be built from its settings. It names the policy and its kind,
/// the field, the value that was given and what the field accepts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidConfig {
    policy: &'static str,
    name: Option<Name>,
    field: &'static str,
    given: String,
    accepts: &'static str,
}

impl InvalidConfig {
    /// Creates the error of a field that does not accept the value it was given, in a policy of
    /// this kind.
    pub fn new(
        policy: &'static str,
        field: &'static str,
        given: impl fmt::Debug,
        accepts: &'static str,
    ) -> Self {
        Self {
            policy,
            name: None,
            field,
            given: format!("{given:?}"),
            accepts,
        }
    }

    /// Says of which policy of this kind it is the error, unless that has been said. A part that
    /// has no name, such as a backoff, is named after the policy that it is a part of.
    #[must_use]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name.get_or_insert_with(|| name.into());
        self
    }

    /// Returns `Ok` if `valid`, else what was wrong.
    #[allow(dead_code)] // which features use it depends on which are on
    pub(crate) fn check(
        valid: bool,
        policy: &'static str,
        field: &'static str,
        given: impl fmt::Debug,
        accepts: &'static str,
    ) -> Result<(), Self> {
        if valid {
            Ok(())
        } else {
            Err(Self::new(policy, field, given, accepts))
        }
    }

    /// Returns the name of the policy, if it has one.
    pub fn name(&self) -> Option<&'static str> {
        self.name.map(Name::as_str)
    }

    /// Returns the name of the field.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// Returns what the field accepts, such as `in (0, 1]`.
    pub fn accepts(&self) -> &'static str {
        self.accepts
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            policy,
            name,
            field,
            given,
            accepts,
        } = self;
        write!(f, "invalid {policy}")?;
        if let Some(name) = name {
            write!(f, " {name:?}")?;
        }
        write!(f, ": {field} is {given}, but must be {accepts}")
    }
}

impl std::error::Error for InvalidConfig {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_policy_the_field_the_value_and_the_accepted_range() {
        let error = InvalidConfig::new("circuit breaker", "failure_rate", f64::NAN, "in (0, 1]");
        let text = "invalid circuit breaker: failure_rate is NaN, but must be in (0, 1]";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.name(), None);
        let error = error.named("db").named("another");
        let text = "invalid circuit breaker \"db\": failure_rate is NaN, but must be in (0, 1]";
        assert_eq!((error.to_string(), error.name()), (text.into(), Some("db")));
        assert_eq!(
            (error.field(), error.accepts()),
            ("failure_rate", "in (0, 1]")
        );
    }
}
