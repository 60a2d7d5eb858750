//! Whether the stacks that are tested are those that the README shows.

/// Checks that this many parts of a source stand in the README word for word, however their lines
/// are broken: those between `// As in the README:` and `// So far.`.
pub(crate) fn shows_the_parts_of(source: &str, parts: usize) {
    let plain = |text: &str| {
        let text: String = text.split_whitespace().collect();
        text.replace(",)", ")")
    };
    let readme = plain(include_str!("../../README.md"));
    let begun = source.split("    // As in the README:\n").skip(1);
    let found = begun.map(|part| part.split_once("    // So far.").unwrap().0);
    let found: Vec<_> = found.map(plain).collect();
    assert_eq!(found.len(), parts);
    for part in found {
        assert!(part.len() > 100 && readme.contains(&part), "{part}");
    }
}
