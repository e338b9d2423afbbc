//! `specs/testing.md` is true: it has a row for every fault, and every test that it names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const FAULTS: u32 = 61;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn collect(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("the directory can be read") {
        let path = entry.expect("an entry").path();
        let is_built = path.file_name().is_some_and(|name| name == "target" || name == ".git");
        if path.is_dir() && !is_built {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("the file can be read");
            names.extend(functions(&text));
        }
    }
}

/// The functions that are tests: behind `#[test]`, or with a `world`, which a macro turns into two tests.
fn functions(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let name = |line: &str| {
        let rest = line.trim_start_matches("pub ").strip_prefix("fn ")?;
        Some(rest[..rest.find(['(', '<'])?].to_owned())
    };
    let is_test = |index: usize| {
        let attributes = lines[..index].iter().rev().take_while(|line| line.starts_with('#') || line.starts_with("//"));
        lines[index].contains("(world: &World)") || attributes.into_iter().any(|line| line.starts_with("#[test]"))
    };
    (0..lines.len()).filter(|index| is_test(*index)).filter_map(|index| name(lines[index])).collect()
}

fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    ["wal", "tests", "cli", "checkpoint", "specs"]
        .iter()
        .map(|dir| root().join(dir))
        .filter(|dir| dir.exists())
        .for_each(|dir| collect(&dir, &mut names));
    assert!(names.len() > 300, "only {} tests were found: this test looks in the wrong place", names.len());
    names
}

fn page() -> String {
    fs::read_to_string(root().join("specs/testing.md")).expect("specs/testing.md is there")
}

/// What stands between backquotes and looks like the name of a test: words with underscores, five at least.
fn named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| {
        word.matches('_').count() >= 3
            && word.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
    };
    quoted.filter(is_name).collect()
}

/// The rows of the table of faults: number and text.
fn rows(page: &str) -> Vec<(u32, &str)> {
    page.lines()
        .filter_map(|line| {
            let (number, rest) = line.strip_prefix("| ")?.split_once(" | ")?;
            Some((number.parse().ok()?, rest))
        })
        .collect()
}

#[test]
fn every_test_that_the_page_on_testing_names_exists() {
    let (tests, page) = (tests(), page());
    let missing: Vec<&str> = named(&page).into_iter().filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "specs/testing.md names tests that do not exist: {missing:#?}");
}

#[test]
fn every_fault_of_the_catalogue_has_a_row_with_a_test_or_a_word_why_not() {
    let page = page();
    let rows = rows(&page);
    let numbers: Vec<u32> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=FAULTS).collect::<Vec<_>>(), "the rows of specs/testing.md");
    for (number, text) in rows {
        assert!(
            !named(text).is_empty() || text.contains("pending"),
            "fault {number} names no test and does not say why"
        );
    }
}

#[test]
fn every_test_named_after_a_fault_is_in_the_row_of_that_fault() {
    let page = page();
    let rows = rows(&page);
    for name in tests().iter().filter(|name| name.starts_with("fault_")) {
        let number: u32 = name[6..8].parse().expect("fault_ and two digits");
        let row = rows.iter().find(|row| row.0 == number).map_or("", |row| row.1);
        assert!(named(row).contains(&name.as_str()), "the row of fault {number} does not name {name}");
    }
}
