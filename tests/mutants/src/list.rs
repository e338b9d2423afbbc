//! The list: `guards/*.txt`, one file for each file of the log, and `guards/checkpoint/*.txt` for the files of that crate.
//!
//! ```text
//! file wal/src/fs/durable.rs
//!
//! guard parent-directory-is-synced
//! noticed guards the_entry_of_a_new_directory_is_durable
//! -the text as it stands in the source, once
//! +the same without the guard, where GONE is true
//! ```
//!
//! Instead of `noticed BINARY TEST` an entry may say `unnoticed KIND REASON`. The reason goes on in lines that begin with two blanks. An entry
//! that says neither is not decided yet.

use std::fs;
use std::path::Path;

/// A guard and how it is taken out.
#[derive(Clone, Debug)]
pub struct Guard {
    /// What it is called.
    pub name: String,
    /// The file that it is in, relative to the root of the workspace.
    pub file: String,
    /// The text around it. It stands in the file exactly once.
    pub before: String,
    /// The same text with a switch: an expression `GONE`, true if the guard is gone.
    pub after: String,
    /// What became of trying it.
    pub verdict: Verdict,
}

/// Whether a test fails when a guard is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This test does.
    Noticed {
        /// The test binary; `wal` and `checkpoint` stand for the unit tests of these crates.
        binary: String,
        /// The full name of the test in it.
        test: String,
    },
    /// None does.
    Unnoticed {
        /// Why none can.
        kind: Kind,
        /// The reason, in words.
        reason: String,
    },
    /// Not decided: parts of the suite were tried, and none of them noticed, or none was tried. The entry has neither line.
    Open,
}

/// Why the removal of a guard breaks no promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Another guard comes to the same answer.
    Doubled,
    /// What stays behind costs space or time until the next open, and breaks nothing.
    Untidy,
    /// The log behaves the same to the byte.
    Same,
    /// The state that it guards against cannot be brought about without a fault that the contract excludes.
    Beyond,
}

impl Kind {
    /// All kinds, with the words that the list uses.
    pub const ALL: [(Kind, &'static str); 4] =
        [(Kind::Doubled, "doubled"), (Kind::Untidy, "untidy"), (Kind::Same, "same"), (Kind::Beyond, "beyond")];

    /// The word for it in the list.
    pub fn word(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

/// Reads all files of the directory `guards` and of the directories in it, in the order of their names.
///
/// # Errors
///
/// A file that cannot be read, or a line that means nothing, with its place.
pub fn read(guards: &Path) -> Result<Vec<Guard>, String> {
    let mut paths: Vec<_> = fs::read_dir(guards)
        .map_err(|error| format!("{}: {error}", guards.display()))?
        .map(|entry| entry.map(|entry| entry.path()).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut list = Vec::new();
    for path in paths {
        if path.is_dir() {
            list.extend(read(&path)?);
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        list.extend(parse(&text).map_err(|why| format!("{}: {why}", path.display()))?);
    }
    Ok(list)
}

/// Reads one file of the list.
///
/// # Errors
///
/// A line that means nothing, with its number.
pub fn parse(text: &str) -> Result<Vec<Guard>, String> {
    let mut file = None;
    let mut list: Vec<Guard> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = |why: &str| format!("line {}: {why}: {line}", index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(path) = line.strip_prefix("file ") {
            file = Some(path.to_owned());
            continue;
        }
        if let Some(name) = line.strip_prefix("guard ") {
            let file = file.clone().ok_or_else(|| at("no file was named before"))?;
            let (before, after) = (String::new(), String::new());
            list.push(Guard { name: name.to_owned(), file, before, after, verdict: Verdict::Open });
            continue;
        }
        let guard = list.last_mut().ok_or_else(|| at("no guard was named before"))?;
        if let Some(rest) = line.strip_prefix('-') {
            push_line(&mut guard.before, rest);
        } else if let Some(rest) = line.strip_prefix('+') {
            push_line(&mut guard.after, rest);
        } else if let Some(rest) = line.strip_prefix("noticed ") {
            let (binary, test) = rest.split_once(' ').ok_or_else(|| at("a binary and a test are wanted"))?;
            guard.verdict = Verdict::Noticed { binary: binary.to_owned(), test: test.to_owned() };
        } else if let Some(rest) = line.strip_prefix("unnoticed ") {
            let (word, reason) = rest.split_once(' ').ok_or_else(|| at("a kind and a reason are wanted"))?;
            let kind = Kind::ALL.iter().find(|(_, known)| *known == word).ok_or_else(|| at("no such kind"))?.0;
            guard.verdict = Verdict::Unnoticed { kind, reason: reason.to_owned() };
        } else if let (Some(rest), Verdict::Unnoticed { reason, .. }) = (line.strip_prefix("  "), &mut guard.verdict) {
            reason.push(' ');
            reason.push_str(rest);
        } else {
            return Err(at("it means nothing"));
        }
    }
    Ok(list.into_iter().map(without_first_break).collect())
}

/// Lines are collected with a line break in front of each.
fn push_line(text: &mut String, line: &str) {
    text.push('\n');
    text.push_str(line);
}

fn without_first_break(guard: Guard) -> Guard {
    let cut = |text: &str| text.strip_prefix('\n').unwrap_or_default().to_owned();
    Guard { before: cut(&guard.before), after: cut(&guard.after), ..guard }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_a_file_a_name_a_verdict_and_two_texts() {
        let text = "file a.rs\n\n# A remark.\nguard one\nnoticed guards a_test\n-    if x {\n-    }\n+    if x && !GONE {\n+    }\n\
                    guard two\nunnoticed doubled The other one\n  does the same.\n-y\n+z\n";
        let list = parse(text).expect("a list");
        assert_eq!((list[0].name.as_str(), list[0].file.as_str()), ("one", "a.rs"));
        assert_eq!(
            (list[0].before.as_str(), list[0].after.as_str()),
            ("    if x {\n    }", "    if x && !GONE {\n    }")
        );
        assert_eq!(list[0].verdict, Verdict::Noticed { binary: "guards".to_owned(), test: "a_test".to_owned() });
        let reason = "The other one does the same.".to_owned();
        assert_eq!(list[1].verdict, Verdict::Unnoticed { kind: Kind::Doubled, reason });
    }

    #[test]
    fn a_line_that_means_nothing_is_named_with_its_number() {
        let why = parse("file a.rs\nguard one\nhello\n").expect_err("that is no list");
        assert!(why.contains("line 3") && why.contains("hello"), "{why}");
    }
}
