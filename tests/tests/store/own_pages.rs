//! A database with pages of its own, eight counters in a file, on the log and the checkpointer alone: crashed at every call, it has what was
//! acknowledged. One that does not sync its pages is found out.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use checkpoint::{CHECKPOINT, Checkpointer, DirtyTable, LogDurable, Pace, PageId, Pages, RedoPoint};
use wal::fs::OpenMode;
use wal::fs::durable::{LogDir, LogFile, create_dir_durable};
use wal::fs::sim::{CrashPlan, SimFs};
use wal::{Lsn, ManualClock, SyncMode, Wal};
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::world::config;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const DIR: &str = "/database";
const FILE: &str = "counters";
const PAGES: usize = 8;
const PAGE: usize = 4096;

type Values = [u64; PAGES];

/// A page in memory.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    value: u64,
    lsn: Lsn,
    /// The first change that the file does not have.
    dirty_since: Option<Lsn>,
}

/// The pages, in memory and in their file.
struct Counters {
    log: Wal,
    file: LogFile,
    all: Mutex<[Counter; PAGES]>,
    syncs: bool,
}

fn page_bytes(counter: &Counter, id: u64) -> Vec<u8> {
    let mut bytes = vec![0; PAGE];
    bytes[8..16].copy_from_slice(&counter.lsn.get().to_le_bytes());
    // The value stands in every sector, so that a torn page has two.
    for sector in bytes.chunks_exact_mut(512) {
        sector[16..24].copy_from_slice(&counter.value.to_le_bytes());
        sector[24..32].copy_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// The page, or `None` if it is torn.
fn read_page(bytes: &[u8], id: u64) -> Option<Counter> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let found = Counter { value: number(16), lsn: Lsn::new(number(8)), dirty_since: None };
    let is_blank = bytes.iter().all(|byte| *byte == 0);
    (is_blank || bytes == page_bytes(&found, id)).then_some(found)
}

impl Pages for Counters {
    fn take_redo_point(&self) -> wal::Result<(RedoPoint, DirtyTable)> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let dirty = all.iter().zip(0..).filter_map(|(page, id)| page.dirty_since.map(|since| (PageId::new(id), since)));
        Ok((RedoPoint::new(self.log.next_lsn()), DirtyTable::new(dirty.collect())))
    }

    fn write(&self, pages: &[PageId], durable: &LogDurable) -> wal::Result<u64> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for id in pages {
            let page = &mut all[id.get() as usize];
            let proof = if durable.covers(page.lsn) { *durable } else { LogDurable::through(&self.log, page.lsn)? };
            assert!(proof.covers(page.lsn));
            self.file.write_at(&page_bytes(page, id.get()), id.get() * PAGE as u64)?;
            page.dirty_since = None;
        }
        Ok(pages.len() as u64)
    }

    fn sync(&self) -> wal::Result<()> {
        if self.syncs { self.file.sync_data() } else { Ok(()) }
    }
}

/// The database, open.
struct Database {
    counters: Counters,
    checkpointer: Checkpointer,
}

impl Database {
    fn open(fs: &SimFs, syncs: bool) -> Outcome<Database> {
        create_dir_durable(fs, Path::new(DIR))?;
        let opener = Wal::opener(config(SyncMode::Sync).log).file_system(Arc::new(fs.clone()));
        let log = opener.clock(Arc::new(ManualClock::default())).open(Path::new(DIR).join("wal"))?;
        let dir = LogDir::open(fs, Path::new(DIR))?;
        let file = match dir.find_file(FILE, OpenMode::Write)? {
            Some(file) => file,
            None => {
                let temp = dir.write_temp(FILE, |file| file.write_zeros(0, (PAGES * PAGE) as u64))?;
                dir.commit(temp).map_err(wal::Error::from)?;
                dir.open_file(FILE, OpenMode::Write)?
            }
        };
        // Last of all: from then on there is a database.
        let checkpointer = Checkpointer::open(fs, Path::new(DIR), log.clone(), PAGE as u32)?;
        let mut all = [None; PAGES];
        for (id, page) in (0..).zip(&mut all) {
            let mut bytes = vec![0; PAGE];
            file.read_at(&mut bytes, id * PAGE as u64)?;
            *page = read_page(&bytes, id);
        }
        for record in log.reader(checkpointer.redo_lsn())? {
            let record = record?;
            if record.record_type == CHECKPOINT {
                continue;
            }
            // A record gives the whole page, so no image of it is needed.
            let page = &mut all[usize::from(record.payload[0])];
            let found = page.unwrap_or_default();
            let value = u64::from_le_bytes(record.payload[1..9].try_into()?);
            let newer = Counter { value, lsn: record.lsn, dirty_since: None };
            let since = found.dirty_since.or(Some(record.lsn));
            *page = Some(Counter { dirty_since: since, ..if found.lsn < record.lsn { newer } else { found } });
        }
        let torn = all.iter().position(Option::is_none);
        if let Some(id) = torn {
            return Err(format!("page {id} is torn, and the log does not have it").into());
        }
        let counters = Counters { log, file, all: Mutex::new(all.map(Option::unwrap_or_default)), syncs };
        Ok(Database { counters, checkpointer })
    }

    fn set(&self, id: usize, value: u64) -> Outcome<()> {
        let mut record = vec![0; 3000];
        record[0] = id as u8;
        record[1..9].copy_from_slice(&value.to_le_bytes());
        let mut all = self.counters.all.lock().unwrap_or_else(PoisonError::into_inner);
        let lsn = self.counters.log.append(&record)?;
        all[id] = Counter { value, lsn, dirty_since: all[id].dirty_since.or(Some(lsn)) };
        Ok(())
    }

    fn values(&self) -> Values {
        self.counters.all.lock().unwrap_or_else(PoisonError::into_inner).map(|page| page.value)
    }
}

/// Crashes a run before each call. What is wrong then, if anything is; else how many states there were.
fn crashed(seed: u64, syncs: bool, beat: &dyn Fn()) -> Outcome<u64> {
    let (fs, mut rng) = (SimFs::new(seed), Rng::new(seed));
    let database = Database::open(&fs, syncs)?;
    let (mut durable, mut states): (Values, u64) = ([0; PAGES], 0);
    fs.keep_crash_points(true);
    for step in 1..=120 {
        beat();
        let mut next = durable;
        match rng.below(10) {
            0 => database.checkpointer.run(&database.counters, Pace::Fast).map(drop)?,
            1 => database.checkpointer.run(&database.counters, Pace::Alone).map(drop)?,
            _ => {
                let id = rng.below(PAGES as u64) as usize;
                next[id] = step;
                database.set(id, step)?;
            }
        }
        for (call, point) in fs.take_crash_points() {
            let random = |plan| CrashPlan::random(seed ^ (call << 8) ^ plan).with_torn_sectors();
            for plan in [CrashPlan::keep_nothing(), CrashPlan::keep_everything(), random(0), random(1)] {
                let place = || format!("seed {seed}, step {step}, call {call}");
                let again = Database::open(&point.crash(&plan), true).map_err(|why| format!("{}: {why}", place()))?;
                if again.values() != durable && again.values() != next {
                    return Err(format!("{}: {:?}, not {durable:?}", place(), again.values()).into());
                }
                states += 1;
            }
        }
        durable = next;
    }
    let truncated = database.counters.log.start_lsn();
    assert!(truncated > Lsn::new(64 << 10), "seed {seed}: the log was truncated to {truncated} only");
    Ok(states)
}

#[test]
fn a_database_with_pages_of_its_own_keeps_what_was_acknowledged_whenever_it_crashes() {
    let watchdog = Watchdog::start();
    let states: u64 = (0..4)
        .map(|seed| {
            crashed(seed, true, &|| watchdog.beat(|| format!("seed {seed}"))).unwrap_or_else(|why| panic!("{why}"))
        })
        .sum();
    println!("{states} crash states");
    assert!(states > 1000);
}

#[test]
fn a_database_that_does_not_sync_its_pages_before_a_checkpoint_counts_is_found_out() {
    let found = (0..4).find_map(|seed| crashed(seed, false, &|| ()).err()).expect("a lost page is noticed").to_string();
    println!("{found}");
    assert!(found.contains("is torn") || found.contains(", not ["), "{found}");
}
