//! What each command says and with which exit code it ends, as sessions on a terminal: `tests/cmd/*.md` and the operator's guide.
//!
//! In a block marked `console`, a line that begins with `$ ` is a command for `sh`, and what follows is what it prints on both streams. A line
//! `? N` says that it ended with exit code N; without one it is 0. `[..]` stands for anything within a line, and a line `...` for any lines. A comment
//! `fixture: NAME` says what is in the directory `orders` when the session begins. `SNAPSHOTS=overwrite cargo test -p walctl --test snapshots`
//! writes what is printed into the files; read the difference before you keep it.

#[path = "snapshots/fixture.rs"]
mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command of a session with what it should print.
struct Step {
    command: String,
    expected: Vec<String>,
}

enum Part {
    Text(String),
    Step(Step),
}

fn parse(text: &str) -> Vec<Part> {
    let (mut parts, mut is_console) = (Vec::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            is_console = line == "```console";
            parts.push(Part::Text(line.to_owned()));
        } else if !is_console {
            parts.push(Part::Text(line.to_owned()));
        } else if let Some(command) = line.strip_prefix("$ ") {
            parts.push(Part::Step(Step { command: command.to_owned(), expected: Vec::new() }));
        } else if let Some(Part::Step(step)) = parts.last_mut() {
            step.expected.push(line.to_owned());
        }
    }
    parts
}

fn run(command: &str, sandbox: &Path) -> Vec<String> {
    let walctl = PathBuf::from(env!("CARGO_BIN_EXE_walctl"));
    let bin = walctl.parent().expect("it lies in a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths =
        std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path))).expect("the paths can be joined");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec 2>&1; {command}")]).current_dir(sandbox).stdin(Stdio::null());
    for name in ["WAL_DIR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        shell.env_remove(name);
    }
    let output = shell.env("PATH", paths).env("LC_ALL", "C").output().expect("sh starts");
    let text = String::from_utf8(output.stdout).expect("the output is UTF-8");
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    match output.status.code() {
        Some(0) => {}
        code => lines.push(format!("? {}", code.map_or("killed".to_owned(), |code| code.to_string()))),
    }
    lines
}

/// Whether a line is the expected one, in which `[..]` stands for anything.
fn matches(expected: &str, line: &str) -> bool {
    let mut pieces = expected.split("[..]");
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

/// Whether lines are the expected ones, among which `...` stands for any.
fn all_match(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => (0..=lines.len()).any(|skipped| all_match(rest, &lines[skipped..])),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, others)| matches(first, line) && all_match(rest, others))
        }
    }
}

fn check(file: &Path) {
    let text = fs::read_to_string(file).expect("the session can be read");
    let name = text.lines().find_map(|line| line.trim().strip_prefix("<!-- fixture: ")?.strip_suffix(" -->"));
    let sandbox = tempfile::tempdir().expect("a temporary directory");
    let held = fixture::make(name.unwrap_or("none"), &sandbox.path().join("orders"));
    let is_overwriting = std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite");
    let (mut written, mut wrong) = (String::new(), Vec::new());
    for part in parse(&text) {
        match part {
            Part::Text(line) => written += &format!("{line}\n"),
            Part::Step(Step { command, expected }) => {
                let lines = run(&command, sandbox.path());
                let is_right = all_match(&expected, &lines);
                let kept = if is_right { &expected } else { &lines };
                written += &format!("$ {command}\n");
                kept.iter().for_each(|line| written += &format!("{line}\n"));
                if !is_right {
                    wrong.push(format!(
                        "$ {command}\nexpected:\n{}\nprinted:\n{}",
                        expected.join("\n"),
                        lines.join("\n")
                    ));
                }
            }
        }
    }
    drop(held);
    if is_overwriting {
        fs::write(file, written).expect("the session can be written");
    } else {
        assert!(wrong.is_empty(), "{}:\n{}", file.display(), wrong.join("\n\n"));
    }
}

#[test]
fn every_command_says_what_its_session_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd");
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .expect("the sessions are there")
        .map(|entry| entry.expect("the entry can be read").path())
        .collect();
    files.sort();
    assert!(files.len() > 10, "{files:?}");
    files.iter().for_each(|file| check(file));
}

#[test]
fn the_session_in_the_guide_of_the_operator_goes_as_it_is_told() {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../specs/guide/operator.md"));
}

#[test]
fn lines_match_with_and_without_gaps() {
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    assert!(matches("a [..] c", "a b c") && matches("[..]", "") && matches("a[..]b[..]c", "a1b2c"));
    assert!(!matches("a [..] c", "a b d") && !matches("a", "ab") && !matches("a[..]b[..]c", "a1c"));
    assert!(all_match(&lines("a\n...\nc"), &lines("a\nb\nb\nc")) && all_match(&lines("...\nc"), &lines("c")));
    assert!(!all_match(&lines("a\n...\nc"), &lines("a\nb")));
}
