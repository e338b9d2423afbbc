//! The list of guards is true: every entry fits the source, has a verdict, and names a test that exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use wal_mutants::list::{Guard, Kind, Verdict, read};
use wal_mutants::suite::{order, root};
use wal_mutants::switch::with_switches;

fn guards() -> Vec<Guard> {
    read(&root().join("tests/mutants/guards")).unwrap_or_else(|why| panic!("{why}"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_guard_of_the_list_stands_in_the_source_once_and_changes_bytes_of_its_own() {
    let list = guards();
    let names: BTreeSet<&str> = list.iter().map(|guard| guard.name.as_str()).collect();
    assert_eq!(names.len(), list.len(), "two guards have one name");
    let mut files: BTreeMap<&str, Vec<&Guard>> = BTreeMap::new();
    for guard in &list {
        files.entry(&guard.file).or_default().push(guard);
    }
    let wrong: Vec<String> =
        files.iter().filter_map(|(file, guards)| with_switches(&text(file), guards).err()).collect();
    assert!(wrong.is_empty(), "the source has changed; change the list with it: {wrong:#?}");
}

/// The names of all functions in Rust files below `dir`, each behind the name of its module: that of its file, or of the directory of that.
fn functions(dir: &Path, names: &mut BTreeSet<(String, String)>) {
    for entry in fs::read_dir(dir).expect("the directory can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("the file can be read");
            let is_named_by_directory = path.ends_with("mod.rs") || path.ends_with("main.rs");
            let module = if is_named_by_directory { dir.file_name() } else { path.file_stem() };
            let module = module.expect("it has a name").to_string_lossy();
            let names_of = text.lines().filter_map(|line| {
                let rest = line.trim_start().trim_start_matches("pub ").strip_prefix("fn ")?;
                Some((module.clone().into_owned(), rest[..rest.find(['(', '<'])?].to_owned()))
            });
            names.extend(names_of);
        }
    }
}

/// The module and the name of a test; one that is in no module is in the file of its binary.
fn module_and_name(binary: &str, test: &str) -> (String, String) {
    let mut parts: Vec<&str> = test.split("::").filter(|part| !["real", "simulated"].contains(part)).collect();
    // The file system that is real has a module of its own.
    if test.contains("fs::real::") {
        parts = test.split("::").collect();
    }
    let name = parts.pop().unwrap_or_default();
    let module = parts.into_iter().rfind(|part| *part != "tests").unwrap_or(binary);
    (module.to_owned(), name.to_owned())
}

#[test]
fn every_test_that_the_list_names_exists_and_every_guard_that_none_notices_has_a_reason() {
    let mut names = BTreeSet::new();
    for dir in ["wal/src", "checkpoint/src", "tests/tests", "tests/scheduled/tests"] {
        functions(&root().join(dir), &mut names);
    }
    let wrong: Vec<String> = guards()
        .into_iter()
        .filter(|guard| match &guard.verdict {
            Verdict::Noticed { binary, test } => {
                !order(guard).contains(&binary.as_str()) || !names.contains(&module_and_name(binary, test))
            }
            Verdict::Unnoticed { reason, .. } => reason.len() < 20,
            Verdict::Open => false,
        })
        .map(|guard| format!("{}: {:?}", guard.name, guard.verdict))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The sections of the page on testing, and the crates whose guards they count.
const SECTIONS: [(&str, &str); 2] =
    [("## Guards: what happens if one is taken out\n", "wal/"), ("## Guards of checkpoint\n", "checkpoint/")];

#[test]
fn the_page_on_testing_counts_the_guards_as_the_list_does() {
    let (list, page) = (guards(), text("specs/testing.md"));
    for (heading, dir) in SECTIONS {
        let (_, section) = page.split_once(heading).unwrap_or_else(|| panic!("specs/testing.md has no {heading}"));
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        compare(section, dir, &list.iter().filter(|guard| guard.file.starts_with(dir)).collect::<Vec<_>>());
    }
    assert!(list.iter().all(|guard| SECTIONS.iter().any(|(_, dir)| guard.file.starts_with(dir))), "of another crate");
}

/// Compares a section with the guards that it is about.
fn compare(section: &str, dir: &str, list: &[&Guard]) {
    let noticed = list.iter().filter(|guard| matches!(guard.verdict, Verdict::Noticed { .. })).count();
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for guard in list {
        if let Verdict::Unnoticed { kind, .. } = guard.verdict {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let total = format!("{} guards, {noticed} of them noticed when they are gone", list.len());
    assert!(section.contains(&total), "specs/testing.md does not say of {dir}: {total}");
    let open = list.iter().filter(|guard| guard.verdict == Verdict::Open).count();
    let rows = kinds.iter().map(|(kind, count)| (kind.word(), *count)).chain([("not decided", open)]);
    for row in rows.filter(|(_, count)| *count > 0).map(|(word, count)| format!("| {word} | {count} |")) {
        assert!(section.contains(&row), "specs/testing.md has no row for {dir}: {row}");
    }
    let unnamed: Vec<&str> = list
        .iter()
        .filter(|guard| !matches!(guard.verdict, Verdict::Noticed { .. }))
        .map(|guard| guard.name.as_str())
        .filter(|name| !section.contains(&format!("`{name}`")))
        .collect();
    assert!(unnamed.is_empty(), "specs/testing.md does not name guards that nothing notices: {unnamed:#?}");
}
