//! A guard that is added is named wherever people look for one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

/// The types that implement `Guard`, without references and tuples.
fn guards() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut guards = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| line.starts_with("impl"));
        for line in code.filter(|line| line.contains(" Guard<Req> for ")) {
            let (_, of) = line.split_once(" Guard<Req> for ").unwrap();
            let name = of.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            // An `Option` is the standard library's, and named in the texts.
            if name.len() > 1 && name != "Option" {
                guards.insert(name.to_owned());
            }
        }
    }
    guards
}

/// The part of a text from one line to another.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap();
    rest.split_once(to).map_or(rest, |(part, _)| part)
}

#[test]
fn every_guard_is_in_the_compilers_texts_and_on_the_front_page() {
    let guards = guards();
    assert!(guards.len() >= 7, "{guards:?}");
    let texts = read("src/guard/mod.rs");
    let notes: Vec<&str> = texts
        .lines()
        .filter(|line| line.contains("note = \"guards are "))
        .collect();
    assert_eq!(notes.len(), 2);
    let (front, cures) = (read("src/lib.rs"), read("src/cure.rs"));
    for guard in &guards {
        for note in &notes {
            assert!(note.contains(&format!("`{guard}`")), "{guard}: {note}");
        }
        assert!(front.contains(guard), "{guard} on the front page");
        assert!(cures.contains(guard), "{guard} in src/cure.rs");
    }
}

#[test]
fn every_feature_is_in_full_and_on_the_front_page() {
    let manifest = read("Cargo.toml");
    let features = between(&manifest, "\n[features]\n", "\n\n");
    let full = features
        .lines()
        .find(|line| line.starts_with("full = "))
        .unwrap();
    let front = read("src/lib.rs");
    let page = between(&front, "//! # Features\n", "//! # A server\n");
    let names = features.lines().filter_map(|line| line.split_once(" = "));
    let names: Vec<&str> = names.map(|(name, _)| name).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names
        .iter()
        .filter(|name| !matches!(**name, "default" | "full"))
    {
        assert!(full.contains(&format!("\"{name}\"")), "{name} in `full`");
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} on the front page"
        );
    }
}
