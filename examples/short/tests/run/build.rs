//! Finds the built examples.

use std::{
    collections::HashMap,
    env,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

/// The executable of an example of this package, built if it was not or is out of date:
/// `cargo test --test NAME` does not build examples, plain `cargo test` does.
pub(crate) fn executable(name: &'static str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<&'static str, PathBuf>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let known = built.get_or_insert_default();
    known.entry(name).or_insert_with(|| build(name)).clone()
}

fn build(name: &str) -> PathBuf {
    // This test is <target>/<profile>/deps/<test>, examples are <target>/<profile>/examples/<name>.
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo.args(["build", "--quiet", "--example", name]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    let path = profile.join("examples").join(name);
    assert!(
        built.is_ok_and(|status| status.success()),
        "cannot build {name}"
    );
    assert!(path.exists(), "{} is not there", path.display());
    path
}
