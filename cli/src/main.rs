//! `walctl`, the command line of the write-ahead log `wal`.
//!
//! Data goes to standard output, words go to standard error, and the exit code says what became of it: see [`failure`].

mod append;
mod args;
mod demo;
mod dump;
mod failure;
mod info;
mod log;
mod output;
mod payload;
mod size;
mod truncate;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Command, Walctl};
use failure::{Exit, Failure};

fn main() -> ExitCode {
    let walctl = match Walctl::try_parse() {
        Ok(walctl) => walctl,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Fine };
            // Nobody is left to be told if this stream is closed; the exit code still says what it says.
            return match error.print() {
                Ok(()) | Err(_) => exit.into(),
            };
        }
    };
    let outcome = match &walctl.command {
        Command::Append(args) => append::run(args, walctl.quiet),
        Command::Dump(args) => dump::run(args),
        Command::Info(args) => info::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Truncate(args) => truncate::run(args, walctl.quiet),
        Command::Demo(args) => demo::run(args),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(Failure::ClosedPipe) => Exit::Fine.into(),
        Err(failure) => {
            output::say(format_args!("walctl: {failure}"));
            failure.exit().into()
        }
    }
}
