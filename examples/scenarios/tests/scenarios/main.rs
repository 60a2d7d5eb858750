//! The scenarios' command line. The scenarios themselves take minutes, and are run by hand.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn scenarios_says_how_it_is_used() {
    for arguments in [
        &[][..],
        &["nothing"],
        &["all", "--report"],
        &["all", "--slow"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.starts_with("scenarios data-service|tasks|all"),
            "{text}"
        );
    }
}
