//! A process that reads the log while others write it and die.

use std::sync::atomic::{AtomicBool, Ordering};

use wal::{ErrorKind, LogReader, Lsn};

use crate::process::{say, task};
use crate::record::Name;

/// The test function that is executed as a process.
pub const TASK: &str = "reader::in_the_process_that_reads";

static IS_OVER: AtomicBool = AtomicBool::new(false);

#[test]
fn in_the_process_that_reads() {
    let Some((directory, _)) = task() else { return };
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        IS_OVER.store(true, Ordering::Relaxed);
    });
    let mut passes = 0_u64;
    while !IS_OVER.load(Ordering::Relaxed) {
        match pass(&directory) {
            Ok(()) => passes += 1,
            // The log is not there yet, or its start was moved meanwhile.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Truncated) => {}
            Err(error) => {
                say(format_args!("reading failed: {error}"));
                std::process::exit(1);
            }
        }
    }
    say(format_args!("passes {passes}"));
    std::process::exit(0);
}

fn pass(directory: &std::path::Path) -> wal::Result<()> {
    let mut last = Lsn::ZERO;
    for record in LogReader::open(directory)?.reader(Lsn::ZERO)? {
        let record = record?;
        let is_right = record.lsn > last && Name::in_payload(&record.payload).is_some();
        if !is_right {
            say(format_args!("at {} behind {last} stands what was never appended", record.lsn));
            std::process::exit(1);
        }
        last = record.lsn;
    }
    Ok(())
}
