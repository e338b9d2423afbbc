//! `walctl dump`: the records of a log, read without a lock.

mod decoder;
mod print;
mod tree;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wal::fs::RealFileSystem;
use wal::inspect::{Depth, SegmentInfo, survey};
use wal::{Error, ErrorKind, LogReader, Lsn, Reader};

use crate::failure::{Exit, Failure, Result};
use crate::log::{cut_words, is_in_use, is_of_the_log, seen_end};
use crate::output::{Out, warn};
use crate::size::parse_size;
use crate::ui::Ui;
use print::{Head, Printer};

/// How long `--follow` waits before it looks again. Another process cannot be waited for by an event.
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);

/// How payloads are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PayloadForm {
    /// Not at all.
    None,
    /// As text. A table escapes what does not print; JSON replaces what is not UTF-8 and adds `"lossy": true`.
    Utf8,
    /// As hexadecimal digits.
    Hex,
    /// As base64.
    Base64,
    /// As records of a store's log: pages, changes, keys. Other records as without this.
    Tree,
}

/// `walctl dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// Directory of the log.
    #[arg(env = "WAL_DIR", hide_env_values = true)]
    pub(crate) dir: PathBuf,
    /// Print the records at and behind this LSN; 0 is the start of the log [default: 0].
    #[arg(long, value_name = "LSN")]
    pub(crate) from: Option<Lsn>,
    /// Print the records below this LSN; the record at it is left out.
    #[arg(long, value_name = "LSN")]
    pub(crate) to: Option<Lsn>,
    /// Print at most this many records.
    #[arg(short = 'n', long = "count", value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Print only records of this type; may be given several times.
    #[arg(long = "type", value_name = "TYPE", value_parser = clap::value_parser!(u16).range(0..=0x3FFF))]
    pub(crate) types: Vec<u16>,
    /// Print only records of this segment.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) segment: Option<u64>,
    /// Wait for further records, across rotations and truncations, until it is interrupted.
    #[arg(short, long, conflicts_with = "reverse")]
    pub(crate) follow: bool,
    /// Print the newest record first. Holds the records of one segment in memory.
    #[arg(long)]
    pub(crate) reverse: bool,
    /// How payloads are printed. Without it a table shows the beginning that fits, and JSON leaves payloads out.
    #[arg(long, value_enum)]
    pub(crate) payload: Option<PayloadForm>,
    /// Print at most this many bytes of a payload.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_bytes: Option<u64>,
    /// Pipe the payloads through this command of the shell and print what it says. For each record it reads a line
    /// `LSN TYPE LENGTH` and then LENGTH bytes, and answers with one line.
    #[arg(long, value_name = "CMD", conflicts_with_all = ["payload", "max_bytes"])]
    pub(crate) decoder: Option<String>,
}

/// Takes records, one after the other, until it has enough.
type Sink<'a> = &'a mut dyn FnMut(Head, &[u8]) -> Result<ControlFlow<()>>;

/// Runs the command.
pub(crate) fn run(args: &DumpArgs, ui: Ui) -> Result<Exit> {
    let was_in_use = is_in_use(&args.dir);
    let source = Source::open(args, ui)?;
    let mut out = Out::new();
    let mut printer = Printer::new(args, ui.format, &mut out)?;
    let result = match &args.decoder {
        Some(command) => decoder::run(command, source, &mut printer),
        None => {
            source.run(&mut |head, payload, printer: &mut Printer<'_>| printer.record(&head, payload), &mut printer)
        }
    };
    // The records before an error are shown before the error is.
    printer.finish()?;
    // At the end of a live log a write in flight looks like a torn one.
    if let Some(end) = result?
        && !was_in_use
        && !is_in_use(&args.dir)
        && let Some(reason) = end.cut
    {
        warn(format_args!("torn tail at LSN {}: {}. The next open cuts it.", end.lsn, cut_words(reason)));
    }
    Ok(Exit::Fine)
}

/// Where the records come from, and which of them are wanted.
struct Source {
    log: LogReader,
    dir: PathBuf,
    from: Lsn,
    to: Lsn,
    count: u64,
    types: Vec<u16>,
    segment: Option<u64>,
    is_following: bool,
    is_reversed: bool,
    ui: Ui,
}

impl Source {
    fn open(args: &DumpArgs, ui: Ui) -> Result<Source> {
        let log = LogReader::open(&args.dir)?;
        let mut from = args.from.unwrap_or(Lsn::ZERO);
        if let Some(to) = args.to.filter(|&to| to < from) {
            return Err(Failure::usage(format!("--from {from} lies behind --to {to}")));
        }
        if from > Lsn::ZERO && from < log.start_lsn() {
            log.reader(from)?;
        }
        if let Some(number) = args.segment {
            let segments = segments(&args.dir)?;
            let base = segments.iter().find(|segment| segment.number == number).and_then(|segment| segment.base_lsn);
            let base = base.ok_or_else(|| Failure::usage(format!("segment {number} is not part of the log")))?;
            from = from.max(base);
        }
        // Without an end that stands still, a log that is written faster than it is read would be read for ever.
        let seen = if args.follow { Lsn::LIMIT } else { end_of(&args.dir) };
        Ok(Source {
            from: from.max(log.start_lsn()),
            to: args.to.unwrap_or(Lsn::LIMIT).min(seen),
            count: args.count.unwrap_or(u64::MAX),
            types: args.types.clone(),
            segment: args.segment,
            is_following: args.follow,
            is_reversed: args.reverse,
            dir: args.dir.clone(),
            log,
            ui,
        })
    }

    /// Gives the wanted records to `take`, together with `state`. Returns why the log ends, if its end was reached.
    fn run<S: Finish>(
        self,
        take: &mut impl FnMut(Head, &[u8], &mut S) -> Result<()>,
        state: &mut S,
    ) -> Result<Option<wal::LogEnd>> {
        let mut left = self.count;
        if left == 0 {
            return Ok(None);
        }
        let mut sink = |head: Head, payload: &[u8], state: &mut S| -> Result<ControlFlow<()>> {
            if self.types.is_empty() || self.types.contains(&head.record_type) {
                take(head, payload, state)?;
                left -= 1;
            }
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        if self.is_reversed {
            return self.backwards(&mut |head, payload| sink(head, payload, state)).map(|()| None);
        }
        if !self.is_following {
            let mut reader = self.log.reader(self.from)?;
            let flow = self.forwards(&mut reader, &mut |head, payload| sink(head, payload, state))?;
            return Ok(if flow.is_continue() { reader.end().copied() } else { None });
        }
        let mut position = self.from;
        loop {
            match self.follow(&mut position, &mut |head, payload| sink(head, payload, state))? {
                ControlFlow::Break(()) => return Ok(None),
                ControlFlow::Continue(()) => state.pause()?,
            }
            thread::sleep(FOLLOW_PAUSE);
        }
    }

    fn forwards(&self, reader: &mut Reader, sink: Sink<'_>) -> Result<ControlFlow<()>> {
        while let Some(record) = reader.next_record()? {
            let is_past = record.lsn >= self.to || self.segment.is_some_and(|number| record.segment > number);
            if is_past || sink(Head::of(&record), record.payload)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// One look at a log that another process goes on writing.
    fn follow(&self, position: &mut Lsn, sink: Sink<'_>) -> Result<ControlFlow<()>> {
        let log = LogReader::open(&self.dir)?;
        let mut reader = match log.reader(*position) {
            Ok(reader) => reader,
            Err(error) => return self.restart(error, &log, position),
        };
        let flow = self.forwards(&mut reader, sink);
        *position = reader.position_lsn().max(*position);
        match flow {
            Err(Failure::Log(error)) => self.restart(error, &log, position),
            other => other,
        }
    }

    /// The records at the position were removed meanwhile: goes on with what is there.
    fn restart(&self, error: Error, log: &LogReader, position: &mut Lsn) -> Result<ControlFlow<()>> {
        if error.kind() != ErrorKind::Truncated {
            return Err(error.into());
        }
        let start = LogReader::open(&self.dir)?.start_lsn().max(log.start_lsn());
        if !self.ui.is_quiet {
            warn(format_args!("the log was truncated meanwhile: {}", error.detail()));
        }
        // A cut removed what was behind the position; the next record has a larger LSN, so the position stays right.
        *position = start.max(*position);
        Ok(ControlFlow::Continue(()))
    }

    /// From the newest segment to the oldest, each read forwards and given backwards.
    fn backwards(&self, sink: Sink<'_>) -> Result<()> {
        let wanted = |segment: &SegmentInfo| self.segment.is_none_or(|number| segment.number == number);
        let mut segments = segments(&self.dir)?;
        segments.retain(|segment| wanted(segment) && segment.base_lsn.is_some_and(|base| base < self.to));
        for segment in segments.iter().rev() {
            let base = segment.base_lsn.unwrap_or(self.from);
            if segment.end_lsn.is_some_and(|end| end <= self.from) {
                return Ok(());
            }
            let mut reader = self.log.reader(base.max(self.from))?;
            let mut held = Vec::new();
            let ended = loop {
                match reader.next_record() {
                    Ok(Some(record)) if record.segment == segment.number && record.lsn < self.to => {
                        held.push((Head::of(&record), record.payload.to_vec()));
                    }
                    Ok(_) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            for (head, payload) in held.iter().rev() {
                if sink(*head, payload)?.is_break() {
                    return Ok(());
                }
            }
            ended?;
        }
        Ok(())
    }
}

/// What is done when a following dump has shown all there is.
trait Finish {
    fn pause(&mut self) -> Result<()>;
}

/// The segments in which records of the log may lie, oldest first.
fn segments(dir: &Path) -> Result<Vec<SegmentInfo>> {
    let survey = survey(&RealFileSystem, dir, Depth::Tail, |_| {})?;
    Ok(survey.segments.into_iter().filter(is_of_the_log).collect())
}

/// Where the log ends now. What keeps that from being known does not keep the records in front of it from being read.
fn end_of(dir: &Path) -> Lsn {
    survey(&RealFileSystem, dir, Depth::Tail, |_| {}).map_or(Lsn::LIMIT, |survey| seen_end(&survey))
}
