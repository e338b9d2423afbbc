//! This package is the crate `wal` compiled once more, so it has to have the same features and dependencies.

use std::collections::BTreeSet;
use std::path::Path;

/// The lines of the sections that say what the source is compiled with.
fn sections(manifest: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut section = "";
    let mut lines = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line;
        } else if matches!(section, "[features]" | "[dependencies]") || section.starts_with("[target.") {
            lines.insert(format!("{section} {line}"));
        }
    }
    lines
}

#[test]
fn the_features_and_dependencies_are_those_of_the_log() {
    let differs = |line: &String| !line.starts_with("[features] default") && !line.contains("wal-scheduler");
    let log: BTreeSet<String> = sections("../../wal/Cargo.toml").into_iter().filter(differs).collect();
    let this: BTreeSet<String> = sections("Cargo.toml").into_iter().filter(differs).collect();
    assert!(log.len() > 10, "the sections are found: {log:?}");
    assert_eq!(log, this);
}
