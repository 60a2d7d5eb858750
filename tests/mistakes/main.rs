//! What the compiler says to the mistakes that people make first: it names the cure, and the cure
//! compiles.
//!
//! Each file of `cases` is a program with one mistake, and with the feature `cure` without it. Its
//! first line is the mistake's title on the page `src/when_it_does_not_compile.md`. Each line that
//! begins with `//~` is a text that the compiler has to print; the page quotes the first.
#![cfg(feature = "full")]
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

mod package;

use package::{Case, cases, check};
use std::{fs, path::Path};

#[test]
fn every_mistake_is_refused_with_its_cure() {
    let cases = cases();
    let said = check(&cases, &["--keep-going"]);
    let mut lacking = String::new();
    for Case { name, texts, .. } in &cases {
        let said = said.get(name).map_or("", String::as_str);
        if said.is_empty() {
            lacking += &format!("\n{name} compiles\n");
        }
        for text in texts.iter().filter(|text| !said.contains(*text)) {
            lacking += &format!("\n{name}: not said: {text}\n{said}\n");
        }
    }
    assert!(lacking.is_empty(), "{lacking}");
    assert!(cases.len() >= 25, "{} cases", cases.len());
}

#[test]
fn every_cure_compiles() {
    let said = check(&cases(), &["--keep-going", "--features", "cure"]);
    let said: Vec<String> = said.into_values().collect();
    assert!(said.is_empty(), "{}", said.join("\n"));
}

#[test]
fn every_mistake_is_on_the_page_with_what_the_compiler_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/when_it_does_not_compile.md")).unwrap();
    for Case { name, title, texts } in cases() {
        let heading = format!("\n### {title}\n");
        let (_, section) = page.split_once(&heading).unwrap_or_else(|| {
            panic!("{name}: the page has no heading `{title}`");
        });
        let section = section.split("\n### ").next().unwrap_or_default();
        let text = texts
            .first()
            .unwrap_or_else(|| panic!("{name} wants no text"));
        assert!(
            section.contains(text),
            "{name}: the page does not quote: {text}"
        );
    }
}
