//! The shape of the crate, checked on its source text: who may import whom, where the operating system is called, and what may
//! not stand anywhere. `specs/architecture.md` says why.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The ladder of imports, from the ground up. A module imports only from rungs below its own. A name stands for the module and
/// for the modules inside it that are not named themselves.
const LADDER: &[&[&str]] = &[
    &["lsn", "event", "clock", "fs", "segment::name"],
    &["error", "record", "metrics", "fs::sim"],
    &["observe", "segment::header", "scan", "fs::durable"],
    &["config", "control", "watermark", "segment", "segment::chain", "segment::writer", "segment::reader"],
    &["prepare", "rewrite", "recover::survey"],
    &["commit", "recover::decide"],
    &["report"],
    &["recover"],
    &["shared", "inspect"],
    &["truncate", "tail", "ticket"],
    &["wal"],
    &["lib"],
];

/// The longest file, and those that are longer. An exception that is not needed any more is an error, so the list only shrinks.
const LINES_MAX: usize = 650;
const LONGER_FILES: &[(&str, usize)] = &[("tail.rs", 680), ("wal.rs", 720)];

/// A file below `wal/src`.
struct Source {
    /// Relative to `wal/src`, with `/`.
    path: String,
    /// The module it is: `["commit", "lead"]`; nothing for `lib.rs`.
    module: Vec<String>,
    text: String,
    /// The text with comments and literals blanked and without what is compiled for tests only.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&root, "", &mut sources);
    assert!(sources.iter().any(|source| source.path == "lib.rs"), "the sources are below {}", root.display());
    sources
}

fn collect(dir: &Path, prefix: &str, sources: &mut Vec<Source>) {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("the directory can be read")
        .map(|entry| entry.expect("the entry can be read").file_name().into_string().expect("names are UTF-8"))
        .collect();
    names.sort_unstable();
    for name in names {
        let path = format!("{prefix}{name}");
        if dir.join(&name).is_dir() {
            collect(&dir.join(&name), &format!("{path}/"), sources);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(dir.join(&name)).expect("the file can be read");
            let code = without_tests(&without_words(&text));
            sources.push(Source { module: module_of(&path), path, text, code });
        }
    }
}

fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").expect("a source file");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Blanks comments and literals, keeping the lines.
fn without_words(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_words(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&char| if char == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal ends that begins at `at`; `at` if none does.
fn end_of_words(chars: &[char], at: usize) -> usize {
    let char_at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let find = |from: usize, wanted: &dyn Fn(usize) -> bool| (from..chars.len()).find(|&index| wanted(index));
    let is_in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], char_at(at + 1)) {
        ('/', '/') => find(at, &|index| chars[index] == '\n').unwrap_or(chars.len()),
        ('/', '*') => {
            find(at + 3, &|index| chars[index] == '/' && chars[index - 1] == '*').map_or(chars.len(), |end| end + 1)
        }
        ('"', _) => {
            let mut end = at + 1;
            while end < chars.len() && chars[end] != '"' {
                end += if chars[end] == '\\' { 2 } else { 1 };
            }
            end + 1
        }
        ('r', '"' | '#') if !is_in_word || chars[at - 1] == 'b' => {
            let hashes = (at + 1..chars.len()).take_while(|&index| chars[index] == '#').count();
            if char_at(at + 1 + hashes) != '"' {
                return at;
            }
            let is_end = |index: usize| {
                chars[index] == '"' && (index + 1..=index + hashes).all(|index| char_at(index) == '#')
            };
            find(at + 2 + hashes, &is_end).map_or(chars.len(), |end| end + 1 + hashes)
        }
        ('\'', '\\') => find(at + 3, &|index| chars[index] == '\'').map_or(chars.len(), |end| end + 1),
        ('\'', _) if char_at(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

/// Removes what follows `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(ATTRIBUTE) {
        kept.push_str(&rest[..at]);
        rest = &rest[at + ATTRIBUTE.len()..];
        let mut depth = 0;
        let end = rest.find(|char: char| {
            depth += i32::from(char == '{') - i32::from(char == '}');
            depth == 0 && matches!(char, '}' | ';')
        });
        rest = &rest[end.expect("an item ends") + 1..];
    }
    kept + rest
}

/// The paths below the root of the crate that a file names.
fn imports(source: &Source, modules: &BTreeSet<Vec<String>>) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut rest = String::with_capacity(source.code.len());
    for item in source.code.split_inclusive([';', '{', '}']).scan(String::new(), join_use_trees) {
        match item.find("use ").filter(|&at| item[..at].trim_end().is_empty() || item[..at].trim_end().ends_with(')') || item[..at].trim_end().ends_with("pub") || item[..at].trim_end().ends_with(']')) {
            Some(at) if item.ends_with(';') => flatten(item[at + 4..].trim_end_matches(';'), &[], &mut paths),
            _ => rest.push_str(&item),
        }
    }
    for root in ["crate::", "super::"] {
        for (at, _) in rest.match_indices(root) {
            let path: String = rest[at..].chars().take_while(|&c| c.is_alphanumeric() || c == '_' || c == ':').collect();
            let is_start = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if is_start {
                paths.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
            }
        }
    }
    paths.into_iter().filter_map(|path| resolve(source, &path, modules)).collect()
}
