//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use wal::{Lsn, SyncMode};

use crate::bench::BenchArgs;
use crate::checkpoint::CheckpointCommand;
use crate::dump::DumpArgs;
use crate::failure::{Failure, Result};
use crate::fsync_test::FsyncTestArgs;
use crate::size::{parse_duration, parse_size};
use crate::top::TopArgs;

const EXITS: &str = "\
Exit codes: 0 fine (a torn tail is only a warning), 1 corruption or a gap was found, 2 the command line, a path or an LSN is \
wrong, 3 the log is in use, 4 refused by a safety rail, 5 I/O error, 6 unknown format version.";

/// Append to, look at, verify, truncate and repair write-ahead logs.
///
/// Data goes to standard output, words go to standard error. `dump`, `info`, `ls`, `stat`, `verify`, `top` and `checkpoint` take no lock, work on a log
/// that is in use, and never change or create a file.
#[derive(Debug, Parser)]
#[command(name = "walctl", version, after_help = EXITS)]
pub(crate) struct Walctl {
    #[command(flatten)]
    pub(crate) manners: Manners,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Manners {
    /// How data is printed.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
    /// When to use colours. `auto` does on a terminal, and heeds NO_COLOR and CLICOLOR_FORCE.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
    /// Leave out the words on standard error that are neither warnings nor errors.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say more on standard error.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// No progress bar. There is none anyway unless standard error is a terminal.
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

/// How data is printed. The JSON shapes are documented in `specs/walctl-json.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document; LSNs are strings.
    Json,
    /// A JSON object on a line for each item; LSNs are strings.
    Jsonl,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set, and where CLICOLOR_FORCE is.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Append one record per input line, creating the log if there is none.
    ///
    /// Lines are bytes and need not be UTF-8. The newline is not part of the record, an empty line is an empty record, and a last
    /// line without a newline is a record.
    #[command(after_help = format!("\
Examples:
  seq 1000 | walctl append orders
  walctl append orders --input events.txt --threads 4 --ack
  walctl append orders --sync-mode batch --batch-delay 5ms --batch-bytes 256KiB < events.txt

{EXITS}"))]
    Append(AppendArgs),
    /// Print the records of a log.
    ///
    /// All valid records are printed, up to the end that the log had when the command began. A torn tail behind them is a warning; damage behind
    /// them is an error. `--follow` goes on with what is appended meanwhile and later.
    ///
    /// A decoder is a program of your own that is run once: for each record it reads a line `LSN TYPE LENGTH` and then LENGTH
    /// bytes, and answers with one line of text.
    #[command(after_help = format!("\
Examples:
  walctl dump orders
  walctl dump orders --from 4096 --to 8192
  walctl dump orders -n 10 --format jsonl --payload base64
  walctl dump orders --reverse -n 1
  walctl dump orders --follow --type 7
  walctl dump orders --decoder ./decode.py
  walctl dump accounts/wal --payload tree

{EXITS}"))]
    Dump(DumpArgs),
    /// Show what a log consists of and in what state it is.
    #[command(after_help = format!("\
Examples:
  walctl info orders
  walctl info orders --format json

{EXITS}"))]
    Info(InspectArgs),
    /// List the files of a log, one on a line.
    ///
    /// Segments first, then the log's own files, then what does not belong to it.
    #[command(after_help = format!("\
Examples:
  walctl ls orders
  walctl ls orders --format jsonl

{EXITS}"))]
    Ls(InspectArgs),
    /// Count what is in a log: records by type, payload sizes, batches, and what they cost on disk.
    #[command(after_help = format!("\
Examples:
  walctl stat orders
  walctl stat orders --format json

{EXITS}"))]
    Stat(InspectArgs),
    /// Read every byte of a log and say what is right, what is wrong, and what to do.
    #[command(after_help = format!("\
Examples:
  walctl verify orders
  walctl verify orders --quick
  walctl verify orders --parallel 4 --format json && echo sound

{EXITS}"))]
    Verify(VerifyArgs),
    /// Remove records from the start or from the end of a log.
    ///
    /// Shows what it would do and changes nothing, unless `--apply` is given.
    #[command(after_help = format!("\
Examples:
  walctl truncate orders --before 65536
  walctl truncate orders --before 65536 --apply
  walctl truncate orders --checkpoint --apply --yes
  walctl truncate orders --after 4096 --apply --yes

{EXITS}"))]
    Truncate(TruncateArgs),
    /// Make a damaged log openable again, at the price of what is lost.
    ///
    /// Shows what is wrong, what is lost and what it would do, and changes nothing, unless `--apply` is given. What is good on both
    /// sides of damage is kept. What is removed is copied to a quarantine directory inside that of the log first.
    #[command(after_help = format!("\
Examples:
  walctl repair orders
  walctl repair orders --apply
  walctl repair orders --apply --yes --format json

{EXITS}"))]
    Repair(RepairArgs),
    /// Look at a store: a log with a page file and a B+tree beside it.
    ///
    /// Takes no lock, works on a store that is in use, and never changes or creates a file.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Kill writers in mid-commit, show that nothing acknowledged is lost, and measure.
    ///
    /// A record of every mode survives the death of its process. The loss of power is not shown here: it takes a power cut.
    #[command(after_help = format!("\
Examples:
  walctl demo
  walctl demo ./scratch

{EXITS}"))]
    Demo(DemoArgs),
    /// Measure how long appends take, and compare with what the device allows.
    ///
    /// Latencies are measured at 70 % of the highest rate, and each counts from the moment at which its append was due, so a
    /// stall is seen by every append that it delays.
    #[command(after_help = format!("\
Examples:
  walctl bench
  walctl bench /var/lib/orders --mode sync --threads 1,16 --svg latency.svg
  walctl bench --size 4KiB --secs 10 --format json --hgrm latency.hgrm

{EXITS}"))]
    Bench(BenchArgs),
    /// Compare the ways to make a write durable on a device, and say which settings suit.
    #[command(after_help = format!("\
Examples:
  walctl fsync-test /var/lib/orders
  walctl fsync-test . --size 4KiB --secs 30

{EXITS}"))]
    FsyncTest(FsyncTestArgs),
    /// Watch a log that is being written: rates, latencies, and what a recovery would cost.
    ///
    /// The files are read, without a lock. Latencies and what is durable right now are known to the process that writes; it offers them if it
    /// was told to (`statistics_interval` in its settings; `walctl append` does). Without that, what is durable is seen late.
    #[command(after_help = format!("\
Examples:
  walctl top orders
  walctl top orders --interval 5s -n 12 --format jsonl

{EXITS}"))]
    Top(TopArgs),
    /// Print completions for a shell.
    #[command(after_help = "\
Examples:
  walctl completions bash > ~/.local/share/bash-completion/completions/walctl
  walctl completions zsh > \"${fpath[1]}/_walctl\"
  walctl completions fish > ~/.config/fish/completions/walctl.fish")]
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command into a directory.
    #[command(after_help = "\
Examples:
  walctl man | man -l -
  walctl man --dir ~/.local/share/man/man1")]
    Man(ManArgs),
}

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// When it is durable. Appends that arrive together share one sync.
    Sync,
    /// When it was handed to the operating system; synced after a delay or a number of bytes.
    Batch,
    /// When it was handed to the operating system; synced at close.
    None,
}

/// `walctl append`.
#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    /// Directory of the log.
    #[arg(env = "WAL_DIR", hide_env_values = true)]
    pub(crate) dir: PathBuf,
    /// When a record is acknowledged.
    #[arg(long, value_enum, value_name = "MODE", default_value = "sync")]
    pub(crate) sync_mode: ModeArg,
    /// How long a record may stay unsynced in batch mode, such as 10ms [default: 10ms].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) batch_delay: Option<Duration>,
    /// How many bytes may stay unsynced in batch mode, such as 1MiB [default: 1MiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) batch_bytes: Option<u64>,
    /// How many threads append. They share the input, and LSN order is line order.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Size of a segment file, 8KiB to 1GiB, such as 64KiB or 16MiB [default: 16MiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) segment_size: Option<u64>,
    /// Where the lines come from; `-` is standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) input: PathBuf,
    /// Print `LSN<TAB>LINE NUMBER`, or as JSON, as soon as a record is acknowledged. Line numbers start at 1.
    #[arg(long)]
    pub(crate) ack: bool,
}

impl AppendArgs {
    /// The mode that the options describe together.
    pub(crate) fn mode(&self) -> Result<SyncMode> {
        let has_batch_options = self.batch_delay.is_some() || self.batch_bytes.is_some();
        if has_batch_options && self.sync_mode != ModeArg::Batch {
            return Err(Failure::usage("--batch-delay and --batch-bytes need --sync-mode batch"));
        }
        Ok(match (self.sync_mode, SyncMode::BATCH_DEFAULT) {
            (ModeArg::Batch, SyncMode::Batch { delay, bytes }) => {
                SyncMode::Batch { delay: self.batch_delay.unwrap_or(delay), bytes: self.batch_bytes.unwrap_or(bytes) }
            }
            (ModeArg::None, _) => SyncMode::None,
            _ => SyncMode::Sync,
        })
    }
}

/// `walctl verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Directory of the log.
    #[arg(env = "WAL_DIR", hide_env_values = true)]
    pub(crate) dir: PathBuf,
    /// Read only what an open reads: the segments that nothing proves to be durable, and at least the last one.
    #[arg(long, conflicts_with = "parallel")]
    pub(crate) quick: bool,
    /// Read so many segments at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
}

/// `walctl info`, `ls` and `stat`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Directory of the log.
    #[arg(env = "WAL_DIR", hide_env_values = true)]
    pub(crate) dir: PathBuf,
}

/// What happens to the segment in which the new start lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyArg {
    /// It is rewritten, so that not one byte before the new start stays.
    Rewrite,
    /// It stays whole, and the log starts where that segment starts.
    WholeSegments,
}

/// `walctl truncate`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["before", "checkpoint", "after"])))]
pub(crate) struct TruncateArgs {
    /// Directory of the log.
    #[arg(env = "WAL_DIR", hide_env_values = true)]
    pub(crate) dir: PathBuf,
    /// Remove the records that begin before this LSN.
    #[arg(long, value_name = "LSN")]
    pub(crate) before: Option<Lsn>,
    /// Remove the records before the last checkpoint that was declared.
    #[arg(long)]
    pub(crate) checkpoint: bool,
    /// Remove the records behind the one at this LSN, which stays. Their segments are copied to a quarantine first.
    #[arg(long, value_name = "LSN")]
    pub(crate) after: Option<Lsn>,
    /// What happens to the segment in which the new start lies [default: rewrite].
    #[arg(long, value_enum, conflicts_with = "after")]
    pub(crate) policy: Option<PolicyArg>,
    /// Do it. Asks on a terminal; elsewhere it needs `--yes`.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Do not ask.
    #[arg(long, requires = "apply")]
    pub(crate) yes: bool,
}

/// `walctl repair`.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Directory of the log.
    #[arg(env = "WAL_DIR", hide_env_values = true)]
    pub(crate) dir: PathBuf,
    /// Do it. Asks on a terminal; elsewhere it needs `--yes`.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Do not ask.
    #[arg(long, requires = "apply")]
    pub(crate) yes: bool,
}

/// `walctl demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the logs go: a directory that is empty or absent; it is kept [default: a temporary one, removed at the end].
    pub(crate) dir: Option<PathBuf>,
}

/// `walctl completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `walctl man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write `walctl.1`, `walctl-dump.1` and so on into this directory, which is there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
