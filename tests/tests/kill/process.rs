//! Other processes: this test binary, executed again with another task.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal};

/// Names the directory of the log to the other process.
const DIRECTORY: &str = "WAL_KILL_DIRECTORY";
/// Its arguments.
const ARGUMENTS: &str = "WAL_KILL_ARGUMENTS";
/// What it says begins with this, so that nothing else on the pipe is taken for it.
const MARK: &str = "kill-test ";

/// Another process, and what it says. It is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts the test function `task` of this binary in a process of its own.
    pub fn start(task: &str, directory: &Path, arguments: &[u64]) -> Process {
        let arguments: Vec<String> = arguments.iter().map(u64::to_string).collect();
        let mut child = Command::new(std::env::current_exe().expect("the test binary is there"))
            .args(["--exact", task, "--nocapture"])
            .env(DIRECTORY, directory)
            .env(ARGUMENTS, arguments.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary can be executed");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        Process { child, lines }
    }

    /// The next thing that it says; `None` when it is dead and everything it had said was heard.
    pub fn next(&mut self) -> Option<String> {
        loop {
            match self.lines.next()? {
                Ok(line) => {
                    // The test harness writes a line without an end in front of the first one.
                    if let Some((_, said)) = line.split_once(MARK) {
                        return Some(said.to_owned());
                    }
                }
                Err(error) => panic!("its output cannot be read: {error}"),
            }
        }
    }

    /// The next thing that it says, which must be this.
    #[track_caller]
    pub fn expect(&mut self, what: &str) {
        assert_eq!(self.next().as_deref(), Some(what));
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("it was not waited for, so it exists");
    }

    /// Kills it and returns what it had said that was not heard yet.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it was not waited for, so it exists");
        self.child.wait().expect("it is killed");
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Ends its input and waits until it ends. It must end well.
    #[track_caller]
    pub fn finish(mut self) {
        drop(self.child.stdin.take());
        let rest: Vec<String> = std::iter::from_fn(|| self.next()).collect();
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {rest:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// In the other process: its directory and arguments. `None` if this is not another process, but one more test.
pub fn task() -> Option<(std::path::PathBuf, Vec<u64>)> {
    let directory = std::env::var_os(DIRECTORY)?;
    let arguments = std::env::var(ARGUMENTS).ok()?;
    let arguments = arguments.split_whitespace().map(|number| number.parse().expect("it is a number"));
    Some((directory.into(), arguments.collect()))
}

/// In the other process: says something, with one write, so that it is in the pipe whole or not at all.
pub fn say(what: std::fmt::Arguments<'_>) {
    let line = format!("{MARK}{what}\n");
    let mut output = std::io::stdout().lock();
    // Nobody hears it any more when the test that started this process has ended.
    if output.write_all(line.as_bytes()).and_then(|()| output.flush()).is_err() {
        std::process::exit(3);
    }
}

/// How often a test kills: `usual` many, twenty times as many in the long form, or what `WAL_TEST_KILLS` says.
pub fn kills(usual: u64) -> u64 {
    let deep = if wal_tests::settings::is_deep() { usual * 20 } else { usual };
    match std::env::var("WAL_TEST_KILLS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("WAL_TEST_KILLS is {text:?}, it must be a number")),
        Err(_) => deep,
    }
}

/// The seed of a run: the one in `WAL_TEST_SEED`, or `usual`. It is printed, and shown if the test fails.
pub fn seed(usual: u64) -> u64 {
    let seed =
        std::env::var("WAL_TEST_SEED").ok().map_or(usual, |text| text.parse().expect("WAL_TEST_SEED is a number"));
    println!("seed {seed}");
    seed
}
