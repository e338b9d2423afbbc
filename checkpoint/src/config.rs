//! Settings of a store: data, checked once.

use std::time::Duration;

use wal::{Error, ErrorKind, Result};

use crate::page::{PAGE_BYTES_MAX, PAGE_BYTES_MIN};

/// The smallest pool, in pages: what the operations of some threads need at the same time.
const POOL_PAGES_MIN: usize = 64;

/// The smallest segment of the log, in pages: a change of the tree's structure is one record, and images of some pages are.
const SEGMENT_PAGES_MIN: usize = 16;

/// Segments that are kept to be used again: as many as the log fills between two checkpoints by default.
const RECYCLE_SEGMENTS_MAX: usize = 16;

/// The settings of a store. All but `page_bytes` may change from one open to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct Config {
    /// The settings of the log below: among them when a change is acknowledged, and whether a missing store is created. Its segments hold at
    /// least 16 pages. By default up to 16 segments that a checkpoint removes are kept to be used again, because filling new ones holds
    /// commits up while a checkpoint writes its images.
    pub log: wal::Config,
    /// Size of a page in bytes: 4, 8, 16 or 32 KiB. Decided when the store is created; later the store's own size counts. Default: 8 KiB.
    pub page_bytes: usize,
    /// Memory for pages, in bytes; at least 64 pages. What the store keeps in memory is bounded by this, by the log's queue and by what
    /// operations are working on. Default: 64 MiB.
    pub pool_bytes: usize,
    /// A checkpoint starts when this has passed since the last one, if anything was changed. Default: one minute.
    pub checkpoint_interval: Duration,
    /// A checkpoint starts when this many bytes of log have come since the last one, and that bounds what an open after a crash has to read.
    /// Default: 256 MiB.
    pub checkpoint_log_bytes: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            log: wal::Config { recycle_segments_max: RECYCLE_SEGMENTS_MAX, ..wal::Config::default() },
            page_bytes: 8 << 10,
            pool_bytes: 64 << 20,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_log_bytes: 256 << 20,
        }
    }
}

impl Config {
    /// Checks every setting, once, at open.
    pub(crate) fn validated(mut self) -> Result<Config> {
        let invalid = |detail: String| Err(Error::new(ErrorKind::Invalid, "use settings", detail));
        if !self.page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&self.page_bytes) {
            return invalid(format!("page_bytes is {}, it must be 4, 8, 16 or 32 KiB", self.page_bytes));
        }
        if self.checkpoint_interval.is_zero() {
            return invalid("checkpoint_interval is zero".to_owned());
        }
        if self.checkpoint_log_bytes == 0 {
            return invalid("checkpoint_log_bytes is zero".to_owned());
        }
        // Records build on one another here: what follows one that a full disk refused could not be replayed.
        self.log.poison_if_write_is_full = true;
        Ok(self)
    }

    /// The most bytes of page images in one record of the log.
    pub(crate) fn image_bytes_max(&self, page_bytes: usize) -> Result<usize> {
        let segment_bytes = self.log.segment_bytes_max as usize;
        if segment_bytes >= SEGMENT_PAGES_MIN * page_bytes {
            return Ok(segment_bytes / 2);
        }
        let detail = format!(
            "segment_bytes_max of the log is {segment_bytes}, it must be at least {SEGMENT_PAGES_MIN} pages of {page_bytes} bytes"
        );
        Err(Error::new(ErrorKind::Invalid, "use settings", detail))
    }

    /// How many pages the pool holds.
    pub(crate) fn pool_pages(&self, page_bytes: usize) -> Result<usize> {
        let pages = self.pool_bytes / page_bytes;
        if pages >= POOL_PAGES_MIN {
            return Ok(pages);
        }
        let detail = format!(
            "pool_bytes is {}, it must be at least {POOL_PAGES_MIN} pages of {page_bytes} bytes",
            self.pool_bytes
        );
        Err(Error::new(ErrorKind::Invalid, "use settings", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        type Setting = (&'static str, fn(&mut Config));
        let changes: [Setting; 7] = [
            ("page_bytes", |config| config.page_bytes = 6000),
            ("page_bytes", |config| config.page_bytes = 2 << 10),
            ("page_bytes", |config| config.page_bytes = 64 << 10),
            ("checkpoint_interval", |config| config.checkpoint_interval = Duration::ZERO),
            ("checkpoint_log_bytes", |config| config.checkpoint_log_bytes = 0),
            ("segment_bytes_max", |config| config.log.segment_bytes_max = 15 * (8 << 10)),
            ("pool_bytes", |config| config.pool_bytes = 63 * (8 << 10)),
        ];
        let check = |config: Config| -> Result<()> {
            let config = config.validated()?;
            config.pool_pages(config.page_bytes)?;
            config.image_bytes_max(config.page_bytes).map(drop)
        };
        check(Config::default()).expect("the default is good");
        for (setting, change) in changes {
            let mut config = Config::default();
            change(&mut config);
            let error = check(config).expect_err(setting);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{setting}: {error}");
            assert!(error.to_string().contains(setting), "{error}");
        }
    }

    #[test]
    fn a_write_that_finds_the_disk_full_poisons_the_log_of_a_store_whatever_its_settings_say() {
        assert!(Config::default().validated().expect("the default is good").log.poison_if_write_is_full);
    }
}
