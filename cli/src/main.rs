//! `walctl`, the command line of the write-ahead log `wal`.
//!
//! Data goes to standard output, words go to standard error, and the exit code says what became of it: see [`failure`].

mod append;
mod args;
mod bench;
mod checkpoint;
mod demo;
mod device;
mod dump;
mod failure;
mod fsync_test;
mod info;
mod log;
mod ls;
mod man;
mod output;
mod payload;
mod repair;
mod size;
mod stat;
mod top;
mod truncate;
mod ui;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Command, Walctl};
use failure::{Exit, Failure};
use ui::Ui;

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
    let ui = Ui::new(&walctl.manners);
    let outcome = match &walctl.command {
        Command::Append(args) => append::run(args, ui),
        Command::Dump(args) => dump::run(args, ui),
        Command::Info(args) => info::run(args, ui),
        Command::Ls(args) => ls::run(args, ui),
        Command::Stat(args) => stat::run(args, ui),
        Command::Verify(args) => verify::run(args, ui),
        Command::Truncate(args) => truncate::run(args, ui),
        Command::Repair(args) => repair::run(args, ui),
        Command::Checkpoint(command) => checkpoint::run(command, ui),
        Command::Demo(args) => demo::run(args, ui),
        Command::Bench(args) => bench::run(args, ui),
        Command::FsyncTest(args) => fsync_test::run(args, ui),
        Command::Top(args) => top::run(args, ui),
        Command::Completions(args) => man::completions(args),
        Command::Man(args) => man::man(args),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(Failure::ClosedPipe) => Exit::Fine.into(),
        Err(failure) => {
            output::say(format_args!("walctl: {}", ui::paint_words(ui::BAD, &failure.to_string())));
            failure.exit().into()
        }
    }
}
