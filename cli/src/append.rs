//! `walctl append`: lines to records.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wal::{Config, Lsn, Wal};

use crate::args::{AppendArgs, Format};
use crate::failure::{Exit, Failure, Result};
use crate::log::{is_unclean, recovery_words};
use crate::output::{SCHEMA, count, say};
use crate::ui::Ui;

/// Runs the command.
pub(crate) fn run(args: &AppendArgs, ui: Ui) -> Result<Exit> {
    let mut config = Config::with_mode(args.mode()?);
    if let Some(bytes) = args.segment_size {
        config.segment_bytes_max = bytes;
    }
    // Whoever looks on with `walctl top` sees more. A command that ends before that leaves no trace.
    config.statistics_interval = Some(Duration::from_secs(1));
    let line_bytes_max = config.segment_bytes_max;
    // The input comes first, so that a wrong name does not leave an empty log behind.
    let input = open_input(&args.input)?;
    let wal = Wal::open(&args.dir, config)?;
    let report = wal.recovery_report();
    if ui.is_verbose || (!ui.is_quiet && is_unclean(report)) {
        say(format_args!("walctl: {}", recovery_words(report)));
    }
    let work = Work {
        wal: &wal,
        feed: Mutex::new(Feed { input, lines: 0, line_bytes_max }),
        acks: args.ack.then_some(ui.format),
        is_stopped: AtomicBool::new(false),
        first_failure: Mutex::new(None),
        records: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| work.run());
        }
    });
    let duration = started.elapsed();
    let (records, bytes) = (work.records.into_inner(), work.bytes.into_inner());
    let failure = work.first_failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    let end = wal.next_lsn();
    // Closing after a failure does what can still be done. Its own error would only repeat the first one.
    let closed = wal.close().map_err(Failure::from);
    if !ui.is_quiet {
        summarize(records, bytes, duration, end);
    }
    failure.map_or(closed, Err).map(|()| Exit::Fine)
}

fn open_input(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(64 << 10, io::stdin())));
    }
    match File::open(path) {
        Ok(file) => Ok(Box::new(BufReader::with_capacity(64 << 10, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::usage(format!("there is no file {}", path.display())))
        }
        Err(error) => Err(Failure::io(format!("open {}", path.display()), error)),
    }
}

fn summarize(records: u64, bytes: u64, duration: Duration, end: Lsn) {
    let seconds = duration.as_secs_f64();
    let rate = records as f64 / seconds.max(1e-9);
    say(format_args!(
        "appended {}, {} in {seconds:.3} s, {rate:.0} records/s; the next LSN is {end}",
        count(records, "record"),
        count(bytes, "byte")
    ));
}

/// The input, shared by the threads.
struct Feed {
    input: Box<dyn BufRead + Send>,
    /// Lines read so far, so the number of the last one.
    lines: u64,
    /// A line of more bytes cannot be a record, and is not read into memory.
    line_bytes_max: u64,
}

impl Feed {
    /// Reads the next line into `line`, without its newline. `None` at the end of the input.
    fn next(&mut self, line: &mut Vec<u8>) -> Result<Option<u64>> {
        line.clear();
        let bytes_max = self.line_bytes_max + 1;
        let read = self.input.by_ref().take(bytes_max).read_until(b'\n', line);
        let number = self.lines + 1;
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(Failure::io("read the input", error).at_line(number)),
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == bytes_max {
            let words = "the line is larger than a segment; use a larger --segment-size";
            return Err(Failure::usage(words).at_line(number));
        }
        self.lines = number;
        Ok(Some(number))
    }
}

/// What the appending threads share.
///
/// A thread holds `feed` while it reads a line and submits it, so LSN order is line order. It waits for the record and
/// writes its acknowledgement without it. `first_failure` is taken while `feed` is held, never the other way round.
struct Work<'a> {
    wal: &'a Wal,
    feed: Mutex<Feed>,
    /// In which form records are acknowledged, if they are.
    acks: Option<Format>,
    is_stopped: AtomicBool,
    first_failure: Mutex<Option<Failure>>,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Work<'_> {
    fn run(&self) {
        let mut line = Vec::new();
        loop {
            match self.append_line(&mut line) {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) => return self.stop(failure),
            }
        }
    }

    /// Appends one line and waits for it. `false` at the end of the input, or when another thread failed.
    fn append_line(&self, line: &mut Vec<u8>) -> Result<bool> {
        let mut feed = lock(&self.feed);
        if self.is_stopped.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let submitted = match feed.next(line) {
            Ok(None) => return Ok(false),
            Ok(Some(number)) => match self.wal.submit(line.as_slice()) {
                Ok(ticket) => Ok((ticket, number)),
                Err(error) => Err(Failure::from(error).at_line(number)),
            },
            Err(failure) => Err(failure),
        };
        let (ticket, number) = match submitted {
            Ok(submitted) => submitted,
            Err(failure) => {
                // Still under the mutex: no other thread may append the lines behind one that failed.
                self.stop(failure);
                return Ok(false);
            }
        };
        drop(feed);
        let lsn = ticket.wait().map_err(|error| Failure::from(error).at_line(number))?;
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
        if let Some(format) = self.acks {
            acknowledge(format, lsn, number)?;
        }
        Ok(true)
    }

    /// Stops all threads; the first failure is the one that counts.
    fn stop(&self, failure: Failure) {
        self.is_stopped.store(true, Ordering::Relaxed);
        lock(&self.first_failure).get_or_insert(failure);
    }
}

/// Writes the acknowledgement as one line by one write, at once: whoever reads it may rely on the record, even if this process
/// is killed next.
fn acknowledge(format: Format, lsn: Lsn, number: u64) -> Result<()> {
    let line = match format {
        Format::Table => format!("{lsn}\t{number}\n"),
        Format::Json | Format::Jsonl => {
            format!("{{\"schema\":{SCHEMA},\"kind\":\"ack\",\"lsn\":\"{lsn}\",\"line\":{number}}}\n")
        }
    };
    let mut stdout = io::stdout().lock();
    // Standard output passes whole lines on by itself, so the flush finds nothing left to write.
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::stdout)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
