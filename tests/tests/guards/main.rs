//! Guards of the code that nothing else would miss: each test here fails if one check, one sync or one step is taken out, and was written
//! because the rest of the suite did not notice that. The list of all guards is in `tests/mutants/guards/`.

mod awake;
mod changing;
mod closing;
mod commit;
mod errors;
mod files;
mod filling;
mod hooked;
mod order;
#[cfg(target_os = "linux")]
mod platform;
mod readers;
mod recovery;
mod repair;
mod truncation;
mod watched;

use wal::fs::sim::{Fault, Operation, SyncFailure, errno};
use wal_tests::oracle::{Allowed, Death};
use wal_tests::recovery::DIR;
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup};

const SYNC: usize = 0;
const BATCH: usize = 1;
const NONE: usize = 2;
const BUFFERED: u64 = 8;
const NO_RECYCLING: u64 = 2;

const FIRST: &str = "/log/0000000000000001.wal";
const SECOND: &str = "/log/0000000000000002.wal";

fn setup(mode: usize, variant: u64) -> Setup {
    Setup::new(MODES[mode], variant)
}

fn allowed(run: &Run, death: Death) -> Allowed {
    Allowed::between(&run.model, &run.model, death)
}

fn names(run: &Run) -> Vec<String> {
    run.fs.names(DIR).expect("the log is there")
}

/// A run whose last appends are written and whose sync failed, so that they are in the page cache alone.
fn with_a_failed_sync(mode: usize) -> Run {
    let ops = [Op::AppendDurable(100), Op::AppendWritten(4000), Op::AppendWritten(300), Op::AppendWritten(20)];
    let mut run = Run::through(&setup(mode, 0), &ops);
    run.fs.configure(|config| config.sync_failure = SyncFailure::PagesDropped);
    run.planned_errnos = vec![errno::EIO];
    run.fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).always());
    run.apply(Op::Flush).expect("it fails as planned");
    run
}
