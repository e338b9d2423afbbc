//! Guards of the code that nothing else would miss: each test here fails if one check, one sync or one step is taken out, and was written
//! because the rest of the suite did not notice that. The list of all guards is in `tests/mutants/guards/`.

mod commit;
mod errors;
mod files;
mod order;
#[cfg(target_os = "linux")]
mod platform;
mod readers;
mod recovery;
mod repair;
mod truncation;
mod watched;

use wal_tests::oracle::{Allowed, Death};
use wal_tests::recovery::DIR;
use wal_tests::run::Run;
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
