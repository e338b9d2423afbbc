//! The test binaries of a copy of the workspace in which every guard has its switch.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::list::Guard;
use crate::switch::{VARIABLE, with_switches};

/// The packages whose tests may notice something.
const PACKAGES: [&str; 4] = ["wal", "checkpoint", "wal-tests", "wal-scheduled"];

/// The test binaries that are looked at when nobody knows which one notices that a guard of the log is gone, the quick ones first.
const LOG_ORDER: [&str; 24] = [
    "wal",
    "decision_table",
    "guards",
    "museum",
    "disk_full",
    "damaged_neighbours",
    "lying_device",
    "crash_explorer",
    "contract",
    "write_in_flight",
    "catalogue",
    "crash_recovery",
    "repair",
    "fault_storms",
    "marks",
    "interleavings",
    "kill",
    "profiles",
    "crash_threads",
    "faults",
    "bits",
    "crash_random",
    "store",
    "crash_exhaustive",
];

/// The same for a guard of the crate `checkpoint`.
const CHECKPOINT_ORDER: [&str; 2] = ["checkpoint", "store"];

/// The test binaries in which something may notice that this guard is gone, the quick ones first.
pub fn order(guard: &Guard) -> &'static [&'static str] {
    if guard.file.starts_with("checkpoint/") { &CHECKPOINT_ORDER } else { &LOG_ORDER }
}

/// Named tests that take longer than this hang, and that is noticed too. With every guard in its place they take seconds.
const NAMED_LIMIT: Duration = Duration::from_secs(30);
/// The same for a whole test binary.
const BINARY_LIMIT: Duration = Duration::from_secs(600);

/// The built test binaries.
#[derive(Debug)]
pub struct Suite {
    binaries: BTreeMap<String, Binary>,
}

#[derive(Debug)]
struct Binary {
    path: PathBuf,
    /// The directory of its package, in which tests expect to run.
    dir: PathBuf,
}

/// How a run of tests ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All passed.
    Passed,
    /// These failed; none if the process died.
    Failed(Vec<String>),
    /// It took too long and was ended.
    Hung,
    /// No test was run: there is none of this name.
    Nothing,
}

/// The root of the workspace that this package was built in.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Copies the workspace `root` into `scratch`, puts the switches in, and builds the tests.
///
/// # Errors
///
/// A guard that does not fit, a file that cannot be copied, a build that fails.
pub fn build(root: &Path, guards: &[Guard], scratch: &Path) -> Result<Suite, String> {
    let copy = scratch.join("source");
    let mut files = BTreeSet::new();
    collect(root, Path::new(""), &mut files)?;
    for file in &files {
        let bytes = fs::read(root.join(file)).map_err(|error| format!("{}: {error}", file.display()))?;
        let of_file: Vec<&Guard> = guards.iter().filter(|guard| Path::new(&guard.file) == file).collect();
        let bytes = if of_file.is_empty() {
            bytes
        } else {
            let text = String::from_utf8(bytes).map_err(|error| format!("{}: {error}", file.display()))?;
            with_switches(&text, &of_file)?.into_bytes()
        };
        write_if_changed(&copy.join(file), &bytes).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let mut copied = BTreeSet::new();
    collect(&copy, Path::new(""), &mut copied)?;
    for stale in copied.difference(&files) {
        fs::remove_file(copy.join(stale)).map_err(|error| format!("{}: {error}", stale.display()))?;
    }
    compile(&copy, &scratch.join("target"))
}

/// The files of a workspace, without what was built and the history.
fn collect(root: &Path, dir: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", root.join(dir).display());
    for entry in fs::read_dir(root.join(dir)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = dir.join(entry.file_name());
        if entry.file_name() == "target" || entry.file_name() == ".git" {
            continue;
        }
        if entry.file_type().map_err(failed)?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

/// A file that stays as it was is not built again.
fn write_if_changed(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

fn compile(copy: &Path, target: &Path) -> Result<Suite, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(copy).env("CARGO_TARGET_DIR", target).args(["test", "--no-run", "--message-format=json"]);
    for package in PACKAGES {
        cargo.args(["-p", package]);
    }
    let output = cargo.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if !output.status.success() {
        let errors: Vec<&str> = messages.iter().filter_map(|message| message["message"]["rendered"].as_str()).collect();
        return Err(format!("the copy does not build:\n{}", errors.concat()));
    }
    let binaries = messages.iter().filter_map(|message| {
        let path = PathBuf::from(message["executable"].as_str()?);
        let dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
        Some((message["target"]["name"].as_str()?.to_owned(), Binary { path, dir }))
    });
    Ok(Suite { binaries: binaries.collect() })
}

impl Suite {
    /// Runs the tests with these full names of a binary, or all of it if none is named, with one guard gone or with none.
    ///
    /// # Errors
    ///
    /// There is no such binary, or it cannot be started.
    pub fn run(&self, binary: &str, tests: &[&str], gone: Option<&str>) -> Result<Outcome, String> {
        let found = self.binaries.get(binary).ok_or_else(|| format!("there is no test binary {binary}"))?;
        let mut command = Command::new(&found.path);
        command.current_dir(&found.dir).arg("--quiet").env("RUST_BACKTRACE", "0").env_remove(VARIABLE);
        if !tests.is_empty() {
            command.arg("--exact").args(tests);
        }
        if let Some(gone) = gone {
            command.env(VARIABLE, gone);
        }
        // Both streams go into one pipe, so that nothing is left in another one that nobody reads.
        let (mut reader, writer) = std::io::pipe().map_err(|error| format!("{binary}: {error}"))?;
        let second = writer.try_clone().map_err(|error| format!("{binary}: {error}"))?;
        let mut child = command.stdout(writer).stderr(second).spawn().map_err(|error| format!("{binary}: {error}"))?;
        // The command holds the writing end of the pipe, which would never end.
        drop(command);
        let (sender, receiver) = mpsc::channel();
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            let result = reader.read_to_end(&mut bytes).map(|_| bytes);
            sender.send(result).is_ok()
        });
        let limit = if tests.is_empty() { BINARY_LIMIT } else { NAMED_LIMIT };
        let Ok(output) = receiver.recv_timeout(limit) else {
            end(&mut child, binary)?;
            return Ok(Outcome::Hung);
        };
        reading.join().map_err(|_| format!("{binary}: the thread that reads died"))?;
        let text = String::from_utf8_lossy(&output.map_err(|error| format!("{binary}: {error}"))?).into_owned();
        let status = child.wait().map_err(|error| format!("{binary}: {error}"))?;
        if !status.success() {
            return Ok(Outcome::Failed(failures(&text)));
        }
        Ok(if text.contains("running 0 tests") { Outcome::Nothing } else { Outcome::Passed })
    }
}

fn end(child: &mut Child, binary: &str) -> Result<(), String> {
    child.kill().and_then(|()| child.wait()).map(drop).map_err(|error| format!("{binary}: {error}"))
}

/// The names in the last list of failures that a test binary prints.
fn failures(text: &str) -> Vec<String> {
    let Some((_, list)) = text.rsplit_once("failures:\n") else { return Vec::new() };
    list.lines().take_while(|line| line.starts_with("    ")).map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_failed_tests_are_read_from_the_last_list() {
        let text = "failures:\n\n---- a::b stdout ----\nboo\n\nfailures:\n    a::b\n    c\n\ntest result: FAILED.\n";
        assert_eq!(failures(text), ["a::b", "c"]);
    }
}
