//! The shape of the crate, checked on its source text: who may import whom, where the operating system is called, and what may
//! not stand anywhere. `specs/architecture.md` says why.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The ladder of imports, from the ground up. A module imports only from rungs below its own. A name stands for the module and
/// for the modules inside it that are not named themselves.
const LADDER: &[&[&str]] = &[
    &["lsn", "sync", "clock", "buffer", "gentle", "museum", "fs", "segment::name"],
    &["error", "event", "record", "metrics", "fs::sim", "last_written"],
    &["observe", "segment::header", "scan", "fs::durable"],
    &["config", "control", "watermark", "segment", "segment::chain", "segment::writer", "segment::reader", "stream"],
    &["prepare", "rewrite", "recover::survey", "statistics"],
    &["commit", "publish", "recover::decide"],
    &["report"],
    &["recover"],
    &["shared", "inspect"],
    &["truncate", "tail", "ticket", "append", "hold"],
    &["follow", "log_reader"],
    &["opener"],
    &["wal"],
    &["repair"],
    &["lib"],
];

/// The longest file, and those that are longer. An exception that is not needed any more is an error, so the list only shrinks.
const LINES_MAX: usize = 650;
const LONGER_FILES: &[(&str, usize)] = &[];

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
            let is_end =
                |index: usize| chars[index] == '"' && (index + 1..=index + hashes).all(|index| char_at(index) == '#');
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

/// Words, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(rest.len());
        let length = match word {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            word => word,
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// All paths that a file names in `use` items, and those in its code that begin with `crate` or `super`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            at = flatten(&tokens, at + 1, &[], &mut paths);
        } else if matches!(tokens[at], "crate" | "super") && tokens.get(at + 1) == Some(&"::") {
            let mut path = vec![tokens[at].to_owned()];
            while tokens.get(at + 1) == Some(&"::") {
                path.push(tokens[at + 2].to_owned());
                at += 2;
            }
            paths.push(path);
        }
        at += 1;
    }
    paths
}

/// Adds the paths of the tree of a `use` item that begins at `at`. Returns where it ends.
fn flatten(tokens: &[&str], mut at: usize, prefix: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    let mut is_complete = true;
    loop {
        match tokens[at] {
            "{" => {
                is_complete = false;
                at += 1;
                while tokens[at] != "}" {
                    at = flatten(tokens, at, &path, paths);
                    at += usize::from(tokens[at] == ",");
                }
            }
            "," | ";" | "}" => {
                if is_complete {
                    paths.push(path);
                }
                return at;
            }
            "::" => {}
            "as" => at += 1,
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
}

/// The path from the root of the crate; `None` if it leads to another crate.
fn resolve(source: &Source, path: &[String], modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([&source.module, rest].concat()),
        "super" => {
            let parent = source.module.split_last().map_or(&[][..], |(_, parent)| parent);
            Some([parent, rest].concat())
        }
        _ => {
            let child = [&source.module[..], std::slice::from_ref(first)].concat();
            modules.contains(&child).then(|| [&source.module, path].concat())
        }
    }
}

/// The module of the ladder that a path leads into, and its rung.
fn rung_of(path: &[String]) -> Option<(usize, &'static str)> {
    let on_ladder = |name: String| {
        let rung = LADDER.iter().position(|rung| rung.contains(&name.as_str()))?;
        LADDER[rung].iter().find(|module| **module == name).map(|module| (rung, *module))
    };
    if path.is_empty() {
        return on_ladder("lib".to_owned());
    }
    (1..=path.len()).rev().find_map(|length| on_ladder(path[..length].join("::")))
}

/// Where `needle` stands in the code, as `path:line`.
fn places(sources: &[Source], needle: &str) -> Vec<String> {
    let in_source = |source: &Source| {
        let at_line = |(index, line): (usize, &str)| {
            line.contains(needle).then(|| format!("{}:{}: {}", source.path, index + 1, line.trim()))
        };
        source.code.lines().enumerate().filter_map(at_line).collect::<Vec<_>>()
    };
    sources.iter().flat_map(in_source).collect()
}

/// As [`places`], without the files that are allowed to have it there.
fn places_outside(sources: &[Source], needle: &str, allowed: &[&str]) -> Vec<String> {
    let is_allowed = |place: &String| allowed.iter().any(|path| place.starts_with(path));
    places(sources, needle).into_iter().filter(|place| !is_allowed(place)).collect()
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn imports_only_run_down_the_ladder() {
    let sources = sources();
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|source| source.module.clone()).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources.iter().filter(|source| !source.path.starts_with("fs/sim/tests")) {
        let Some((rung, module)) = rung_of(&source.module) else {
            wrong.push(format!("{} has no rung: give it one in this test", source.path));
            continue;
        };
        for path in paths(&source.code).iter().filter_map(|path| resolve(source, path, &modules)) {
            let name = path.join("::");
            match rung_of(&path) {
                Some((_, "lib")) | None if module != "lib" => {
                    wrong.push(format!(
                        "{} names crate::{name}, which is no module: import it from its own",
                        source.path
                    ));
                }
                Some((other, target)) if target != module && other >= rung => {
                    wrong.push(format!("{} (rung {rung}) imports crate::{name} (rung {other})", source.path));
                }
                _ => seen += 1,
            }
        }
    }
    assert_none(&wrong, "imports only run down the ladder");
    assert!(seen > 100, "only {seen} imports were found: this test looks in the wrong place");
}

#[test]
fn every_module_of_the_ladder_exists_and_every_file_is_a_module() {
    let sources = sources();
    let mut wrong = Vec::new();
    for name in LADDER.iter().copied().flatten().filter(|name| **name != "lib") {
        let module: Vec<String> = name.split("::").map(str::to_owned).collect();
        if !sources.iter().any(|source| source.module == module) {
            wrong.push(format!("the ladder names {name}, which does not exist"));
        }
    }
    for source in &sources {
        let Some((name, parent)) = source.module.split_last() else { continue };
        let declares = |text: &str| text.lines().any(|line| line.trim_end().ends_with(&format!("mod {name};")));
        if !sources.iter().any(|other| other.module == parent && declares(&other.text)) {
            wrong.push(format!("nothing declares {}, so it is never compiled", source.path));
        }
    }
    assert_none(&wrong, "ladder and files fit together");
}

#[test]
fn a_file_system_is_chosen_only_where_a_log_is_opened() {
    let sources = sources();
    let chosen = places_outside(&sources, "RealFileSystem", &["fs/mod.rs", "fs/real.rs"]);
    let allowed = ["log_reader.rs", "opener.rs"];
    assert!(
        chosen.len() == 4
            && allowed.iter().all(|path| chosen.iter().filter(|place| place.starts_with(path)).count() == 2),
        "`LogReader::open` and `Wal::opener` choose the real file system, each with one import: {chosen:#?}"
    );
    for needle in ["SimFs", "fs::sim", "fs::real", "mod real", "mod sim"] {
        assert_none(
            &places_outside(&sources, needle, &["fs/mod.rs", "fs/sim/"]),
            "no module knows which file system it has",
        );
    }
}

#[test]
fn the_operating_system_is_called_only_behind_the_seam() {
    let sources = sources();
    for needle in ["std::fs", "rustix::fs", "std::os::", "std::net", "std::process", "std::env", "libc::"] {
        let mut found = places_outside(&sources, needle, &["fs/real.rs"]);
        // The statistics file names the process that writes it.
        found.retain(|place| !(place.starts_with("publish.rs") && place.contains("std::process::id()")));
        assert_none(&found, "every system call on files goes through `fs`");
    }
}

#[test]
fn rename_is_called_in_one_place() {
    let sources = sources();
    let calls = places_outside(&sources, ".rename(", &["fs/sim/"]);
    let (system, composed): (Vec<String>, Vec<String>) =
        calls.into_iter().partition(|place| place.contains("directory.rename("));
    assert!(system.len() == 1 && system[0].starts_with("fs/durable.rs"), "the one call of rename: {system:#?}");
    let others: Vec<String> = composed
        .into_iter()
        .filter(|place| !place.contains("self.dir.rename(") && !place.contains(" dir.rename("))
        .filter(|place| !(place.starts_with("fs/durable.rs") && place.contains("self.rename(")))
        .collect();
    assert_none(&others, "whoever renames goes through `LogDir::rename`");
}

#[test]
fn nothing_is_opened_truncated_or_replaced_in_place() {
    let sources = sources();
    for needle in ["O_TRUNC", "OFlags::TRUNC", ".truncate(true)", "File::create(", "fs::write("] {
        assert_none(&places(&sources, needle), "nothing live is ever opened with O_TRUNC");
    }
}

#[test]
fn only_one_module_knows_the_names_of_files() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.path != "segment/name.rs") {
        for line in source.text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            if ["wal", "prepare", "recycle", "tmp"].iter().any(|suffix| line.contains(&format!(".{suffix}\""))) {
                found.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    found.retain(|place| !place.starts_with("fs/sim/"));
    assert_none(&found, "only `segment::name` formats and parses the names of files");
}

#[test]
fn the_library_prints_nothing() {
    let sources = sources();
    for needle in ["println!", "print!(", "dbg!(", "stdout()", "stderr()"] {
        assert_none(&places(&sources, needle), "a library does not print");
    }
}

#[test]
fn nothing_is_left_to_do_in_the_source() {
    // Put together here, so that this file does not have them.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut found = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    assert_none(&found, "what is left to do stands in an issue");
}

#[test]
fn files_fit_a_few_screens() {
    let mut wrong = Vec::new();
    let sources = sources();
    for source in &sources {
        let lines = source.text.lines().count();
        let exception = LONGER_FILES.iter().find(|(path, _)| *path == source.path);
        let lines_max = exception.map_or(LINES_MAX, |(_, lines)| *lines);
        if lines > lines_max {
            wrong.push(format!("{} has {lines} lines, at most {lines_max} are allowed: split it", source.path));
        }
        if exception.is_some() && lines <= LINES_MAX {
            wrong.push(format!("{} has {lines} lines and needs no exception any more", source.path));
        }
    }
    assert_none(&wrong, "a file fits a few screens");
}

#[test]
fn the_parser_of_this_test_sees_what_it_should() {
    let code = without_tests(&without_words(
        "use crate::a::{self, b::C, d as e}; // use crate::x;\nfn f<'a>(_: &'a str) { let _ = '\"'; crate::g::h(\"crate::y\") }\n\
         #[cfg(test)]\nmod tests { use crate::z; fn t() { r#\"}\"#; } }\nuse super::k;",
    ));
    let found: Vec<String> = paths(&code).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a::self", "crate::a::b::C", "crate::a::d", "crate::g::h", "super::k"]);
}
