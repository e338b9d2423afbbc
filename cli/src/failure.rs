//! What went wrong, and the exit code that says so.

use std::fmt;
use std::io;
use std::process::ExitCode;

use wal::{Error, ErrorKind};

/// The result of a step of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The exit codes. They are documented in the help, and scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Fine. A torn tail is a warning.
    Fine = 0,
    /// Corruption or a gap was found, or a demo lost a record.
    Corruption = 1,
    /// The command line is wrong: an argument, a path, an LSN, a record that is too large.
    Usage = 2,
    /// Another handle has the log open for writing.
    InUse = 3,
    /// A safety rail refused.
    Refused = 4,
    /// The operating system or the device failed.
    Io = 5,
    /// A newer version wrote the log.
    Version = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The end of a command that did not work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of standard output went away. That is no failure to anybody: the command ends quietly.
    ClosedPipe,
    /// The library failed.
    Log(Error),
    /// The operating system failed at something other than the log.
    Io(String, io::Error),
    /// Words for anything else.
    Words(Exit, String),
    /// A failure at a place in the input.
    AtLine(u64, Box<Failure>),
}

impl Failure {
    /// The command line is wrong.
    pub(crate) fn usage(words: impl Into<String>) -> Failure {
        Failure::Words(Exit::Usage, words.into())
    }

    /// An I/O failure while doing what `what` says, for example "read standard input".
    pub(crate) fn io(what: impl Into<String>, error: io::Error) -> Failure {
        Failure::Io(what.into(), error)
    }

    /// A failure to write standard output.
    pub(crate) fn stdout(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::ClosedPipe;
        }
        Failure::io("write standard output", error)
    }

    /// The same failure, with the input line at which it happened.
    pub(crate) fn at_line(self, line: u64) -> Failure {
        Failure::AtLine(line, Box::new(self))
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::ClosedPipe => Exit::Fine,
            Failure::Log(error) => exit_of(error),
            Failure::Io(..) => Exit::Io,
            Failure::Words(exit, _) => *exit,
            Failure::AtLine(_, failure) => failure.exit(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Log(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::ClosedPipe => f.write_str("standard output was closed"),
            Failure::Log(error) => {
                error.fmt(f)?;
                advise(f, error.io_error())
            }
            Failure::Io(what, error) => {
                write!(f, "cannot {what}: {error}")?;
                advise(f, Some(error))
            }
            Failure::Words(_, words) => f.write_str(words),
            Failure::AtLine(line, failure) => write!(f, "line {line}: {failure}"),
        }
    }
}

/// What to do about a failure of the operating system, where that can be told from its kind.
fn advise(f: &mut fmt::Formatter<'_>, error: Option<&io::Error>) -> fmt::Result {
    match error.map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => f.write_str(" (run walctl as the user that owns the files)"),
        Some(io::ErrorKind::NotADirectory) => f.write_str(" (give the directory that holds the log)"),
        _ => Ok(()),
    }
}

/// The exit code for an error of the library. A poisoned handle is judged by what poisoned it.
pub(crate) fn exit_of(error: &Error) -> Exit {
    match error.kind() {
        ErrorKind::Corruption => Exit::Corruption,
        ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::TooLarge => Exit::Usage,
        ErrorKind::InUse => Exit::InUse,
        ErrorKind::Refused | ErrorKind::Truncated | ErrorKind::Exhausted => Exit::Refused,
        ErrorKind::UnsupportedVersion => Exit::Version,
        ErrorKind::Poisoned => {
            let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
            cause.map_or(Exit::Io, exit_of)
        }
        // A path to something that is no directory is a wrong path, and no failure of the device.
        ErrorKind::Io if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotADirectory) => {
            Exit::Usage
        }
        _ => Exit::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_operating_system_says_what_to_do_where_its_kind_tells() {
        let words = |kind: io::ErrorKind| Failure::io("open orders", kind.into()).to_string();
        assert!(words(io::ErrorKind::PermissionDenied).ends_with("(run walctl as the user that owns the files)"));
        assert!(words(io::ErrorKind::NotADirectory).ends_with("(give the directory that holds the log)"));
        assert!(!words(io::ErrorKind::StorageFull).contains('('));
        let of_the_log = Error::io("open", "orders/control", io::ErrorKind::PermissionDenied.into());
        assert!(Failure::Log(of_the_log).to_string().contains("as the user that owns the files"));
    }
}
