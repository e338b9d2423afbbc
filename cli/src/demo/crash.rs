//! One writer that is killed, and the reckoning afterwards.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wal::{Config, ErrorKind, Lsn, Wal};

use super::{SEGMENT_BYTES, THREADS};
use crate::failure::{Exit, Failure, Result};
use crate::log::recovery_words;
use crate::output::Out;

/// How long a writer lives after its first acknowledgements.
const LIFE: Duration = Duration::from_millis(900);
/// A writer that has acknowledged this many dies earlier, so that the reckoning stays short.
const ACKS_MAX: u64 = 100_000;
/// A writer that is killed has acknowledged at least this many, if the device is not very slow.
const ACKS_MIN: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(10);
/// Every acknowledged record is found by reading on; so many of them are also looked up one by one.
const LOOKUPS_MAX: usize = 500;

/// What became of the records.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) acknowledged: u64,
    pub(super) missing: u64,
    pub(super) different: u64,
    /// Records of the log that are not the ones that were appended, in the order in which they were.
    pub(super) misplaced: u64,
}

impl Tally {
    /// Whether everything is where it should be.
    pub(super) fn is_whole(&self) -> bool {
        self.acknowledged > 0 && self.missing == 0 && self.different == 0 && self.misplaced == 0
    }

    /// Adds the tally of one more crash. A crash before any acknowledgement would prove nothing, so it is an error.
    pub(super) fn add(&mut self, other: &Tally) -> Result<()> {
        if other.acknowledged == 0 {
            let words = "the writer acknowledged nothing before it was killed; the demo shows nothing here";
            return Err(Failure::Words(Exit::Io, words.to_owned()));
        }
        self.acknowledged += other.acknowledged;
        self.missing += other.missing;
        self.different += other.different;
        self.misplaced += other.misplaced;
        Ok(())
    }
}

/// An acknowledgement: the LSN and the number of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ack {
    lsn: Lsn,
    line: u64,
}

/// Lets a writer append, kills it, opens the log, and looks for everything that was acknowledged.
pub(super) fn run(out: &mut Out, dir: &Path, mode: &str) -> Result<Tally> {
    let mut child = start(dir, mode)?;
    let killed = append_and_kill(&mut child);
    // Whatever happened, no child is left behind.
    if killed.is_err() && child.kill().is_ok() {
        child.wait().map_err(|error| Failure::io("wait for the writer", error))?;
    }
    let mut acks = killed?;
    acks.sort_unstable();
    out.line(format_args!("mode {mode}: {THREADS} threads; killed after {} acknowledgements", acks.len()))?;
    let config = Config { segment_bytes_max: SEGMENT_BYTES, create: false, ..Config::default() };
    let wal = Wal::open(dir, config)?;
    out.line(format_args!("  reopened: {}", recovery_words(wal.recovery_report())))?;
    let (tally, records) = reckon(&wal, &acks)?;
    wal.close()?;
    out.line(format_args!(
        "  {} records are there, {} of them never acknowledged; of the acknowledged ones {} are missing and {} differ",
        records,
        records.saturating_sub(tally.acknowledged - tally.missing),
        tally.missing,
        tally.different
    ))?;
    Ok(tally)
}

fn start(dir: &Path, mode: &str) -> Result<Child> {
    let program = std::env::current_exe().map_err(|error| Failure::io("find the program itself", error))?;
    Command::new(program)
        .args(["append", "--quiet", "--ack", "--sync-mode", mode])
        .arg(format!("--threads={THREADS}"))
        .arg(format!("--segment-size={SEGMENT_BYTES}"))
        .arg("--")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::io("start a writer", error))
}

/// Feeds the writer and collects its acknowledgements until it is killed.
fn append_and_kill(child: &mut Child) -> Result<Vec<Ack>> {
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::Words(Exit::Io, "the writer has no pipes".to_owned()));
    };
    let count = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stdin = BufWriter::new(stdin);
            // The pipe breaks when the writer is killed: that is the end of the input.
            (1..).try_for_each(|line| stdin.write_all(&payload(line)).and_then(|()| stdin.write_all(b"\n"))).err()
        });
        let collector = scope.spawn(|| collect(BufReader::new(stdout), &count));
        let started = Instant::now();
        let mut first = None;
        loop {
            thread::sleep(Duration::from_millis(5));
            let acks = count.load(Ordering::Relaxed);
            if acks > 0 {
                first.get_or_insert_with(Instant::now);
            }
            let is_old = first.is_some_and(|first| first.elapsed() >= LIFE) && acks >= ACKS_MIN;
            if is_old || acks >= ACKS_MAX || started.elapsed() >= PATIENCE || collector.is_finished() {
                break;
            }
        }
        child.kill().map_err(|error| Failure::io("kill the writer", error))?;
        child.wait().map_err(|error| Failure::io("wait for the writer", error))?;
        // What the writer wrote before it died is still in the pipe, and counts.
        collector.join().map_err(|_| Failure::Words(Exit::Io, "the acknowledgements could not be read".to_owned()))?
    })
}

fn collect(mut stdout: impl BufRead, count: &AtomicU64) -> Result<Vec<Ack>> {
    let mut acks = Vec::new();
    let mut text = String::new();
    loop {
        text.clear();
        stdout.read_line(&mut text).map_err(|error| Failure::io("read acknowledgements", error))?;
        // A line without its newline was not written to its end, so it acknowledges nothing.
        let Some(line) = text.strip_suffix('\n') else { return Ok(acks) };
        let ack = line
            .split_once('\t')
            .and_then(|(lsn, line)| Some(Ack { lsn: lsn.parse().ok()?, line: line.parse().ok()? }));
        let Some(ack) = ack else {
            return Err(Failure::Words(Exit::Io, format!("{line:?} is no acknowledgement")));
        };
        acks.push(ack);
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Compares the log with what was appended and acknowledged. LSN order is line order, so the log must hold the lines from 1 on,
/// without a hole. Also gives the number of records.
fn reckon(wal: &Wal, acks: &[Ack]) -> Result<(Tally, u64)> {
    let mut tally = Tally { acknowledged: acks.len() as u64, ..Tally::default() };
    let mut left = acks.iter().peekable();
    let mut reader = wal.reader(Lsn::ZERO)?;
    let mut records = 0;
    while let Some(record) = reader.next_record()? {
        records += 1;
        while left.next_if(|ack| ack.lsn < record.lsn).is_some() {
            tally.missing += 1;
        }
        if let Some(ack) = left.next_if(|ack| ack.lsn == record.lsn)
            && record.payload != payload(ack.line)
        {
            tally.different += 1;
        }
        if record.payload != payload(records) {
            tally.misplaced += 1;
        }
    }
    tally.missing += left.count() as u64;
    if tally.missing > 0 || tally.different > 0 {
        return Ok((tally, records));
    }
    let step = acks.len().div_ceil(LOOKUPS_MAX).max(1);
    for ack in acks.iter().step_by(step).chain(acks.last()) {
        match wal.read(ack.lsn) {
            Ok(record) if record.payload == payload(ack.line) => {}
            Ok(_) => tally.different += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => tally.missing += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((tally, records))
}

/// The payload of a line: it names the line, and its length and filling differ from line to line.
fn payload(line: u64) -> Vec<u8> {
    let mut payload = format!("record {line} ").into_bytes();
    let mut state = line.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let filling = 20 + ((state >> 32) & 127);
    for _ in 0..filling {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        payload.push(b'a' + (state >> 32) as u8 % 26);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of the lines 1 to 5, and what was honestly acknowledged of them.
    fn log() -> Result<(tempfile::TempDir, Wal, Vec<Ack>)> {
        let dir = tempfile::tempdir().map_err(|error| Failure::io("create a temporary directory", error))?;
        let wal = Wal::open(dir.path(), Config::default())?;
        let append = |line| Ok(Ack { lsn: wal.append(&payload(line))?, line });
        let acks = (1..=5).map(append).collect::<Result<_>>()?;
        Ok((dir, wal, acks))
    }

    #[test]
    fn what_is_there_is_found() -> Result<()> {
        let (_dir, wal, acks) = log()?;
        let (tally, records) = reckon(&wal, &acks[..4])?;
        assert!(tally.is_whole());
        assert_eq!((tally.acknowledged, records), (4, 5));
        Ok(())
    }

    #[test]
    fn a_lost_record_is_noticed_in_the_middle_and_at_the_end() -> Result<()> {
        let (_dir, wal, acks) = log()?;
        for lsn in [acks[2].lsn.get() + 8, acks[4].lsn.get() + 4096] {
            let mut forged = acks.clone();
            forged.push(Ack { lsn: Lsn::new(lsn), line: 6 });
            forged.sort_unstable();
            let (tally, _) = reckon(&wal, &forged)?;
            assert_eq!((tally.missing, tally.different), (1, 0), "{lsn}");
            assert!(!tally.is_whole());
        }
        Ok(())
    }

    #[test]
    fn a_record_that_differs_or_is_out_of_place_is_noticed() -> Result<()> {
        let (_dir, wal, mut acks) = log()?;
        acks[1].line = 3;
        let (tally, _) = reckon(&wal, &acks)?;
        assert_eq!((tally.missing, tally.different), (0, 1));
        wal.append(&payload(9))?;
        acks[1].line = 2;
        let (tally, _) = reckon(&wal, &acks)?;
        assert_eq!((tally.missing, tally.different, tally.misplaced), (0, 0, 1));
        Ok(())
    }

    #[test]
    fn an_acknowledgement_without_its_newline_does_not_count() -> Result<()> {
        let count = AtomicU64::new(0);
        let acks = collect(&b"4096\t1\n4152\t2\n42"[..], &count)?;
        assert_eq!(acks.len(), 2);
        assert_eq!(acks[1], Ack { lsn: Lsn::new(4152), line: 2 });
        assert!(collect(&b"nonsense\n"[..], &count).is_err());
        Ok(())
    }
}
