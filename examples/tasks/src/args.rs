//! What is said on the command line.

use std::fmt;

/// What to start.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Args {
    /// So many, each a process; else one, in this process.
    pub(crate) instances: Option<u16>,
    /// And nginx before them.
    pub(crate) nginx: bool,
    /// We are one of the several.
    pub(crate) until_stdin_ends: bool,
}

/// What was said is not understood.
#[derive(Debug)]
pub(crate) struct Unknown(String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; there are --instances N (from 1 to 64) and --nginx",
            self.0
        )
    }
}

impl Args {
    pub(crate) fn parse(mut given: impl Iterator<Item = String>) -> Result<Self, Unknown> {
        let mut args = Self::default();
        while let Some(arg) = given.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            match (name, value) {
                ("--nginx", None) => args.nginx = true,
                ("--until-stdin-ends", None) => args.until_stdin_ends = true,
                ("--instances", value) => {
                    let value = value.or_else(|| given.next()).unwrap_or_default();
                    let count = value.parse().ok().filter(|count| (1..=64).contains(count));
                    let wrong = || Unknown(format!("--instances is {value:?}"));
                    args.instances = Some(count.ok_or_else(wrong)?);
                }
                _ => return Err(Unknown(format!("{arg:?} is not known"))),
            }
        }
        Ok(args)
    }
}
