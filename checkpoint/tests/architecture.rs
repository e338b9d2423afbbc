//! The shape of the crate, checked on its source text: who may import whom, where the operating system is called, and who may write pages.
//! `specs/architecture.md` says why.

use std::fs;
use std::path::Path;

/// The ladder of imports, from the ground up. A module imports only from rungs below its own; a name stands for the modules inside it too.
const LADDER: &[&[&str]] = &[
    &["museum", "page"],
    &["failure", "control", "change", "config"],
    &["proof"],
    &["file"],
    &["pool", "spare"],
    &["flush"],
    &["recover", "tree"],
    &["checkpointer", "batch"],
    &["shared"],
    &["schedule"],
    &["store"],
    &["inspect"],
    &["lib"],
];

const LINES_MAX: usize = 650;

/// A file below `checkpoint/src`.
struct Source {
    /// Relative to `checkpoint/src`, with `/`.
    path: String,
    /// The first part of its path: the name on the ladder.
    module: String,
    text: String,
    /// The lines without comments and without what is compiled for tests only.
    code: Vec<String>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&root, "", &mut sources);
    assert!(sources.len() > 15, "the sources are below {}", root.display());
    sources
}

fn collect(dir: &Path, prefix: &str, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).expect("the directory can be read") {
        let entry = entry.expect("the entry can be read");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = format!("{prefix}{name}");
        if name == "tests" {
            continue;
        }
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), sources);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).expect("the file can be read");
            let module = path.split(['/', '.']).next().expect("a name").to_owned();
            let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
            let code = code.map(|line| line.split("//").next().unwrap_or_default().to_owned()).collect();
            sources.push(Source { path, module, text, code });
        }
    }
}

fn rung_of(module: &str) -> Option<usize> {
    LADDER.iter().position(|rung| rung.contains(&module))
}

/// The modules of this crate that a line names by their full path.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    line.split("crate::").skip(1).map(move |rest| rest.split(|char| !is_word(char)).next().unwrap_or_default())
}

fn places(sources: &[Source], needle: &str, allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !allowed.contains(&source.path.as_str())) {
        for (index, line) in source.code.iter().enumerate().filter(|(_, line)| line.contains(needle)) {
            found.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
        }
    }
    found
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn imports_only_run_down_the_ladder() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for source in sources() {
        let Some(rung) = rung_of(&source.module) else {
            wrong.push(format!("{} has no rung: give it one in this test", source.path));
            continue;
        };
        for line in &source.code {
            assert!(!line.contains("use crate::{"), "{}: name the module in each import: {line}", source.path);
            for name in named(line).filter(|name| *name != source.module) {
                match rung_of(name) {
                    Some(other) if other < rung => seen += 1,
                    Some(other) => {
                        wrong.push(format!("{} (rung {rung}) imports {name} (rung {other})", source.path));
                    }
                    None => wrong.push(format!("{} names crate::{name}, which is no module", source.path)),
                }
            }
        }
    }
    assert_none(&wrong, "imports only run down the ladder");
    assert!(seen > 60, "only {seen} imports were found: this test looks in the wrong place");
}

#[test]
fn every_module_of_the_ladder_exists() {
    let sources = sources();
    let missing = LADDER.iter().copied().flatten();
    let missing = missing.filter(|name| !sources.iter().any(|source| source.module == **name));
    assert_none(&missing.map(|name| (*name).to_owned()).collect::<Vec<_>>(), "the ladder names what does not exist");
}

#[test]
fn pages_are_written_and_synced_in_one_place() {
    let sources = sources();
    // Whoever writes a page goes through the flusher; bulk loads and restored images are its neighbours.
    assert_none(
        &places(&sources, "file.write(", &["flush.rs", "recover.rs"]),
        "only the flusher and recovery write pages",
    );
    assert_none(&places(&sources, ".write_unreferenced(", &["flush.rs", "tree/bulk.rs"]), "only a bulk load writes so");
    assert_none(&places(&sources, ".write_images(", &["spare.rs"]), "only spare pages hold images");
    assert_none(&places(&sources, ".sync_data()", &["file.rs"]), "a sync that failed is remembered in one place");
    assert_none(&places(&sources, "LogDurable { ", &["proof.rs"]), "proofs are made where they are proven");
}

#[test]
fn the_log_is_truncated_in_one_place() {
    let sources = sources();
    let found = places(&sources, "truncate_before", &["proof.rs"]);
    // The other one is a bug of the museum.
    assert!(
        found.len() == 1 && found[0].starts_with("checkpointer.rs"),
        "the log is truncated with a proof: {found:#?}"
    );
}

#[test]
fn the_operating_system_is_called_only_behind_the_seam() {
    let sources = sources();
    for needle in ["std::fs", "std::os::", "std::net", "std::process", "std::env", "libc::", "SimFs", "fs::sim"] {
        assert_none(&places(&sources, needle, &[]), "every system call on files goes through `wal::fs`");
    }
    assert_none(
        &places(&sources, "RealFileSystem", &["store.rs"]),
        "the file system is chosen where a store is opened",
    );
}

#[test]
fn the_library_prints_nothing_and_leaves_nothing_to_do() {
    let sources = sources();
    for needle in ["println!", "print!(", "dbg!(", "unsafe "] {
        assert_none(&places(&sources, needle, &[]), "a library does not print, and this one is safe");
    }
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let found = sources.iter().filter(|source| words.iter().any(|word| source.text.contains(word)));
    assert_none(&found.map(|source| source.path.clone()).collect::<Vec<_>>(), "what is left to do stands in an issue");
}

#[test]
fn files_fit_a_few_screens() {
    let long = sources().into_iter().filter(|source| source.text.lines().count() > LINES_MAX);
    assert_none(&long.map(|source| source.path).collect::<Vec<_>>(), "a file fits a few screens");
}
