//! How a run is set up, and how much is explored.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wal::fs::sim::{SimConfig, SimFs};
use wal::museum::Bugs;
use wal::{Background, Clock, Config, SyncMode, Wal};

use crate::recovery::{DIR, LOG_ID};

/// The three modes, with limits that a short test reaches.
pub const MODES: [SyncMode; 3] =
    [SyncMode::Sync, SyncMode::Batch { delay: Duration::from_millis(10), bytes: 6000 }, SyncMode::None];

type How = dyn Fn(&SimFs, &Setup, Arc<dyn Clock>) -> wal::Result<Wal> + Send + Sync;

/// How a log is opened. The usual way is the right one; a test that wants a log with a fault of its own gives another.
#[derive(Clone)]
pub struct Opening {
    name: &'static str,
    how: Arc<How>,
}

impl Opening {
    /// Another way to open a log, with a name for messages.
    pub fn new(
        name: &'static str,
        how: impl Fn(&SimFs, &Setup, Arc<dyn Clock>) -> wal::Result<Wal> + Send + Sync + 'static,
    ) -> Opening {
        Opening { name, how: Arc::new(how) }
    }

    /// Opens the log in [`DIR`].
    pub fn open(&self, fs: &SimFs, setup: &Setup, clock: Arc<dyn Clock>) -> wal::Result<Wal> {
        (self.how)(fs, setup, clock)
    }
}

impl Default for Opening {
    fn default() -> Opening {
        Opening::new("as it is", |fs, setup, clock| {
            let opener = Wal::opener(setup.config.clone()).file_system(Arc::new(fs.clone()));
            opener.clock(clock).log_id(LOG_ID).bugs(setup.bugs).open(DIR)
        })
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How the log is opened.
    pub opening: Opening,
    /// Settings of the log.
    pub config: Config,
    /// Settings of the file system.
    pub sim: SimConfig,
    /// Crashes may tear sectors.
    pub torn_sectors: bool,
    /// How the log is broken on purpose.
    pub bugs: Bugs,
}

impl Setup {
    /// The smallest segments, everything else by the bits of `variant`.
    pub fn new(sync_mode: SyncMode, variant: u64) -> Setup {
        let config = Config {
            sync_mode,
            segment_bytes_max: 8 << 10,
            queue_bytes_max: 64 << 10,
            group_bytes_max: 8 << 10,
            gather_max: Duration::ZERO,
            verify_bytes_on_open: if variant & 1 == 0 { 0 } else { 1 << 30 },
            recycle_segments_max: if variant & 2 == 0 { 2 } else { 0 },
            direct_io: variant & 8 == 0,
            pad_groups: variant & 48 == 48,
            reserve_bytes: if variant & 4 == 0 { 0 } else { 4096 },
            background: Background::Inline,
            ..Config::default()
        };
        let mut sim = SimConfig::default();
        sim.seed = variant;
        Setup { opening: Opening::default(), config, sim, torn_sectors: false, bugs: Bugs::NONE }
    }

    /// The same with another way to open the log.
    #[must_use]
    pub fn opened(mut self, opening: Opening) -> Setup {
        self.opening = opening;
        self
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, it must be a number")))
}

/// Whether the long form of the tests is asked for.
pub fn is_deep() -> bool {
    number_from_environment("WAL_TEST_DEEP").is_some_and(|deep| deep > 0)
}

/// How many outcomes of one crash point are looked at: `usual`, many more in the long form, or what `WAL_TEST_STATES` says.
pub fn states_per_point(usual: u64) -> u64 {
    let deep = if is_deep() { usual.max(1 << 16) } else { usual };
    number_from_environment("WAL_TEST_STATES").unwrap_or(deep)
}

/// The seeds of a random test: `usual` many, twenty times as many in the long form, or the one in `WAL_TEST_SEED`; of them the share that is asked for.
pub fn seeds(usual: u64) -> Vec<u64> {
    match number_from_environment("WAL_TEST_SEED") {
        Some(seed) => vec![seed],
        None => share((0..if is_deep() { usual * 20 } else { usual }).collect()),
    }
}

/// The share of a long run that is asked for: with `WAL_TEST_SHARE=3/20` every twentieth item, from the third on, so that twenty runs come to all
/// of them. Without it all items.
///
/// # Panics
///
/// If the variable says something else.
pub fn share<T>(items: Vec<T>) -> Vec<T> {
    let Ok(text) = std::env::var("WAL_TEST_SHARE") else { return items };
    let Some((number, count)) = parse_share(&text) else {
        panic!("WAL_TEST_SHARE is {text:?}, it must be like 3/20");
    };
    items.into_iter().skip(number - 1).step_by(count).collect()
}

fn parse_share(text: &str) -> Option<(usize, usize)> {
    let (number, count) = text.split_once('/')?;
    let (number, count) = (number.parse().ok()?, count.parse().ok()?);
    (1..=count).contains(&number).then_some((number, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_of_a_count() {
        assert_eq!(parse_share("3/20"), Some((3, 20)));
        assert_eq!(parse_share("1/1"), Some((1, 1)));
        for wrong in ["", "3", "0/4", "5/4", "a/4", "1/0"] {
            assert_eq!(parse_share(wrong), None, "{wrong}");
        }
    }
}
