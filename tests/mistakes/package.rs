//! The package that the cases are programs of, checked once for all of them.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What the cases use besides the library; in the versions and with the features of its manifest,
/// so that little is compiled twice.
const DEPENDENCIES: [&str; 11] = [
    "axum",
    "bytes",
    "http",
    "http-body",
    "http-body-util",
    "reqwest",
    "serde",
    "tokio",
    "tonic",
    "tower",
    "tower-http",
];

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) title: String,
    /// What the compiler has to print.
    pub(crate) texts: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> PathBuf {
    root()
        .join("tests/mistakes/cases")
        .join(name)
        .with_extension("rs")
}

pub(crate) fn cases() -> Vec<Case> {
    let entries = fs::read_dir(root().join("tests/mistakes/cases")).unwrap();
    let mut cases: Vec<Case> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let source = fs::read_to_string(&path).unwrap();
            let lines = |prefix| {
                source
                    .lines()
                    .filter_map(move |line| line.strip_prefix(prefix))
            };
            Case {
                name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                title: lines("//! ").next().unwrap_or_default().to_owned(),
                texts: lines("//~ ").map(str::to_owned).collect(),
            }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn manifest(cases: &[Case]) -> String {
    let ours = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut manifest = format!(
        "[workspace]\n\
         [package]\nname = \"mistakes\"\nedition = \"2024\"\nautobins = false\n\
         [features]\ncure = []\n\
         [dependencies]\nbuttress = {{ path = {:?}, features = [\"full\"] }}\n",
        root()
    );
    for name in DEPENDENCIES {
        // The last is that of the tests, where there are two.
        let line = ours
            .lines()
            .rfind(|line| line.starts_with(&format!("{name} = ")));
        manifest += &line.unwrap().replace(", optional = true", "");
        manifest.push('\n');
    }
    for Case { name, .. } in cases {
        manifest += &format!("[[bin]]\nname = {name:?}\npath = {:?}\n", file(name));
    }
    manifest
}

/// Has the compiler check all cases; the errors that it has printed, by case.
pub(crate) fn check(cases: &[Case], arguments: &[&str]) -> BTreeMap<String, String> {
    // Tests run at the same time; each run of cargo has a manifest of its own.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(arguments.concat());
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("Cargo.toml"), manifest(cases)).unwrap();
    // What has been fetched for the tests is enough.
    fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    // This test is <target>/<profile>/deps/<test>.
    let test = env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();

    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo.args(["check", "--offline", "--bins", "--message-format=json"]);
    cargo.args(arguments).arg("--target-dir").arg(target);
    let output = cargo.current_dir(&directory).output().unwrap();

    let (mut errors, mut last) = (BTreeMap::<String, String>::new(), None);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        if message["reason"] == "build-finished" {
            last = message["success"].as_bool();
        }
        if message["reason"] == "compiler-message" && message["message"]["level"] == "error" {
            let name = message["target"]["name"].as_str().unwrap().to_owned();
            let text = message["message"]["rendered"].as_str().unwrap();
            errors.entry(name).or_default().push_str(text);
        }
    }
    // Cargo has come as far as compiling, and no other package has failed.
    let is_case = |name: &String| cases.iter().any(|case| case.name == *name);
    let all = errors.keys().all(is_case) && last == Some(errors.is_empty());
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(all, "cargo could not check the cases:\n{complaint}");
    errors
}
