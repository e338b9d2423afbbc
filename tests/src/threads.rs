//! Several threads append, truncate and read, while images of crashes are taken; each image is recovered and judged.
//!
//! The threads are real, so a seed fixes what they do but not how they interleave. For a broken promise the image is therefore
//! kept as files, with the calls that led to it, and the message says where.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wal::fs::sim::{CrashPlan, Event, SimFs};
use wal::{AppendOptions, Background, Durability, ErrorKind, Lsn, SystemClock, TruncatePolicy, Wal};

use crate::oracle::{Allowed, Death, Model, Observed, Rec, frame_bytes};
use crate::recovery::{DIR, check_recovery};
use crate::rng::{Rng, mix};
use crate::settings::Setup;

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Threads that append.
    pub appenders: u64,
    /// What each of them does in one life of the log.
    pub operations: u64,
    /// Images of crashes taken in one life.
    pub images: u64,
    /// How often the log goes on from an image.
    pub lives: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Runs.
    pub runs: u64,
    /// Records that were appended.
    pub records: u64,
    /// Images that were recovered.
    pub images: u64,
    /// Records that readers saw.
    pub read: u64,
    /// Truncations.
    pub truncations: u64,
}

impl Count {
    /// Adds another count.
    pub fn add(&mut self, other: Count) {
        self.runs += other.runs;
        self.records += other.records;
        self.images += other.images;
        self.read += other.read;
        self.truncations += other.truncations;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { runs, records, images, read, truncations } = self;
        write!(
            f,
            "{runs} runs, {records} records, {images} crash images, {truncations} truncations, {read} records read"
        )
    }
}

/// What the log said so far.
#[derive(Clone, Debug, Default)]
struct Told {
    records: Vec<Rec>,
    durable: u64,
    written: u64,
    handed: u64,
    /// Where the log starts for sure, and up to where a truncation was asked for.
    start: u64,
    start_asked: u64,
    truncations: u64,
}

/// The file system after a death, and what had been promised before it.
struct Image {
    fs: SimFs,
    death: Death,
    told: Told,
    call: u64,
    plan: String,
}

struct Life<'a> {
    log: Wal,
    fs: SimFs,
    length: &'a Length,
    seed: u64,
    told: Mutex<Told>,
    read: AtomicU64,
    appenders_left: AtomicU64,
    is_broken: AtomicBool,
    broken: Mutex<Vec<String>>,
}

/// Runs the lives of one log. `setup` says how it is opened; threads are added to it.
///
/// # Errors
///
/// The broken promise, the seed, and where the image and the calls are kept.
pub fn run(setup: &Setup, seed: u64, length: &Length) -> Result<Count, String> {
    let mut threaded = setup.clone();
    threaded.config.background = Background::Threads;
    let mut count = Count { runs: 1, ..Count::default() };
    let mut fs = SimFs::with_config(setup.sim.clone());
    let mut rng = Rng::new(seed);
    let mut before =
        Observed { records: Vec::new(), start: Lsn::FIRST.get(), next: Lsn::FIRST.get(), checkpoint: None };
    for life in 0..length.lives {
        fs.record_trace(true);
        let place = |why: String| format!("seed {seed}, life {life} of {length:?}: {why}\nsettings {setup:?}");
        let (told, images, read) = live(&threaded, &fs, length, &before, rng.number()).map_err(place)?;
        count.records += (told.records.len() - before.records.len()) as u64;
        count.truncations += told.truncations;
        count.read += read;
        let mut next = None;
        for (number, image) in images.iter().enumerate() {
            count.images += 1;
            let seen = judge(setup, image, &told, rng.number()).map_err(|why| {
                let kept = keep(&image.fs, &fs.take_trace(), seed);
                place(format!("image {number}, before call {}, {}: {why}\n{kept}", image.call, image.plan))
            })?;
            next = Some((image.fs.kill(), seen));
        }
        (fs, before) = next.expect("there is an image of the end");
    }
    Ok(count)
}

/// Whether this image may be left, given everything that was appended in the end.
fn judge(setup: &Setup, image: &Image, all: &Told, seed: u64) -> Result<Observed, String> {
    let Told { durable, written, handed, start, start_asked, .. } = image.told;
    let records = all.records.clone();
    // A truncation starts the log at the first record that it leaves.
    let asked = records.iter().map(|record| record.lsn).find(|lsn| *lsn >= start_asked).unwrap_or(start_asked);
    let start_alt = Some((start, asked.max(start)));
    let model = Model { records, durable, written, handed, start, start_alt, ..Model::default() };
    check_recovery(&image.fs.kill(), setup, &Allowed::between(&model, &model, image.death), seed)
}

/// One life of the log: from an open to the last image. Returns all that was told, sorted, and the images.
fn live(
    setup: &Setup,
    fs: &SimFs,
    length: &Length,
    before: &Observed,
    seed: u64,
) -> Result<(Told, Vec<Image>, u64), String> {
    let log = setup.opening.open(fs, setup, Arc::new(SystemClock::default()));
    let log = log.map_err(|error| format!("does not open: {error:?}"))?;
    let start = log.start_lsn().get();
    let as_rec = |(lsn, record_type, payload): &(u64, u16, Vec<u8>)| Rec {
        lsn: *lsn,
        record_type: *record_type,
        payload: payload.as_slice().into(),
        ends_batch: true,
    };
    let records: Vec<Rec> = before.records.iter().map(as_rec).collect();
    let end = records.last().map_or(0, Rec::end);
    let told = Told { records, durable: end, written: end, handed: end, start, start_asked: start, truncations: 0 };
    let life = Life {
        log,
        fs: fs.clone(),
        length,
        seed,
        told: Mutex::new(told),
        read: AtomicU64::new(0),
        appenders_left: AtomicU64::new(length.appenders),
        is_broken: AtomicBool::new(false),
        broken: Mutex::default(),
    };
    let images = std::thread::scope(|scope| {
        for number in 0..length.appenders {
            let life = &life;
            scope.spawn(move || {
                let result = life.append_all(number);
                life.note(result);
                life.appenders_left.fetch_sub(1, Ordering::SeqCst);
            });
        }
        scope.spawn(|| life.note(life.truncate_often()));
        scope.spawn(|| life.note(life.read_often()));
        life.take_images(setup.torn_sectors)
    });
    // The process dies: what the handle does when it is dropped changes nothing.
    life.fs.crash_at(0);
    let mut told = life.told.into_inner().expect("no thread panics with it");
    told.records.sort_by_key(|record| record.lsn);
    let broken = life.broken.into_inner().expect("no thread panics with it");
    if let Some(twice) = told.records.windows(2).find(|pair| pair[0].end() > pair[1].lsn) {
        return Err(format!("LSN {} was given to two records", twice[1].lsn));
    }
    match broken.first() {
        Some(why) => Err(why.clone()),
        None => Ok((told, images, life.read.into_inner())),
    }
}

impl Life<'_> {
    fn note(&self, result: Result<(), String>) {
        if let Err(why) = result {
            self.broken.lock().expect("no thread panics with it").push(why);
            self.is_broken.store(true, Ordering::SeqCst);
        }
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().expect("no thread panics with it"));
    }

    fn is_over(&self) -> bool {
        self.appenders_left.load(Ordering::SeqCst) == 0 || self.is_broken.load(Ordering::SeqCst)
    }

    fn append_all(&self, number: u64) -> Result<(), String> {
        let mut rng = Rng::new(mix(self.seed, number));
        for _ in 0..self.length.operations {
            if self.is_broken.load(Ordering::SeqCst) {
                return Ok(());
            }
            self.append_somehow(&mut rng).map_err(|error| format!("appender {number}: {error:?}"))?;
        }
        Ok(())
    }

    fn append_somehow(&self, rng: &mut Rng) -> wal::Result<()> {
        match rng.below(10) {
            0..5 => {
                let payload = payload(rng);
                let lsn = self.log.append(&payload)?.get();
                self.appended(lsn, &[payload], self.is_sync());
            }
            5 => {
                let payload = payload(rng);
                let options = AppendOptions::new().durability(Durability::Durable);
                let lsn = self.log.append_with(&payload, options)?.get();
                self.appended(lsn, &[payload], true);
            }
            6 => {
                // Together they fit the smallest segment.
                let mut payloads = [payload(rng), payload(rng), payload(rng)];
                payloads.iter_mut().for_each(|payload| payload.truncate(1200));
                let first = self.log.append_batch(&payloads)?.first.get();
                self.appended(first, &payloads, self.is_sync());
            }
            7 | 8 => {
                let payloads: Vec<Vec<u8>> = (0..1 + rng.below(6)).map(|_| payload(rng)).collect();
                let tickets =
                    payloads.iter().map(|payload| self.log.submit(payload)).collect::<wal::Result<Vec<_>>>()?;
                for (ticket, payload) in tickets.iter().zip(payloads) {
                    ticket.wait()?;
                    self.appended(ticket.lsn().get(), &[payload], self.is_sync());
                }
            }
            _ => {
                let durable = self.log.flush()?.get();
                self.tell(|told| told.durable = told.durable.max(durable));
            }
        }
        Ok(())
    }

    fn is_sync(&self) -> bool {
        self.log.config().sync_mode == wal::SyncMode::Sync
    }

    fn appended(&self, first: u64, payloads: &[Vec<u8>], is_durable: bool) {
        self.tell(|told| {
            let mut lsn = first;
            for (index, payload) in payloads.iter().enumerate() {
                let ends_batch = index + 1 == payloads.len();
                told.records.push(Rec { lsn, record_type: 0, payload: payload.as_slice().into(), ends_batch });
                lsn += frame_bytes(payload.len());
            }
            told.handed = told.handed.max(lsn);
            told.written = told.written.max(lsn);
            if is_durable {
                told.durable = told.durable.max(lsn);
            }
        });
    }

    /// Truncates somewhere in the durable part, again and again.
    fn truncate_often(&self) -> Result<(), String> {
        let mut rng = Rng::new(mix(self.seed, 1000));
        while !self.is_over() {
            let (start, durable) = (self.log.start_lsn().get(), self.log.durable_lsn().get());
            let lsn = start + rng.below((durable - start) / 8 + 1) / rng.pick(&[1, 2, 8]) * 8;
            self.tell(|told| told.start_asked = told.start_asked.max(lsn));
            let policy = rng.pick(&[TruncatePolicy::RewriteBoundary, TruncatePolicy::WholeSegments]);
            let truncation = self.log.truncate_before_with(Lsn::new(lsn), policy);
            let truncation = truncation.map_err(|error| format!("truncate before {lsn}: {error:?}"))?;
            self.tell(|told| {
                told.start = told.start.max(truncation.start_lsn.get());
                told.start_asked = told.start_asked.max(told.start);
                told.truncations += 1;
            });
            // A truncation is rare besides the appends: some of them go on meanwhile.
            let calls = self.fs.calls();
            while self.fs.calls() < calls + 40 && !self.is_over() {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Reads everything that is durable, again and again: in order, as it was appended.
    fn read_often(&self) -> Result<(), String> {
        while !self.is_over() {
            let reader = match self.log.reader(Lsn::ZERO) {
                Ok(reader) => reader,
                Err(error) if error.kind() == ErrorKind::Truncated => continue,
                Err(error) => return Err(format!("reader: {error:?}")),
            };
            let mut last = 0;
            for record in reader {
                let record = match record {
                    Ok(record) => record,
                    Err(error) if error.kind() == ErrorKind::Truncated => break,
                    Err(error) => return Err(format!("reader: {error:?}")),
                };
                if record.lsn.get() <= last || !is_ours(&record.payload) {
                    return Err(format!(
                        "a reader sees LSN {} behind {last}, {} bytes",
                        record.lsn,
                        record.payload.len()
                    ));
                }
                last = record.lsn.get();
                self.read.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Takes images at random calls, and two at the end.
    fn take_images(&self, is_torn: bool) -> Vec<Image> {
        let mut rng = Rng::new(mix(self.seed, 2000));
        let mut images = Vec::new();
        while (images.len() as u64) < self.length.images && !self.is_over() {
            let target = self.fs.calls() + rng.below(60);
            while self.fs.calls() < target && !self.is_over() {
                std::thread::yield_now();
            }
            images.push(self.image(&mut rng, is_torn));
        }
        while !self.is_over() {
            std::thread::yield_now();
        }
        images.extend((0..2).map(|_| self.image(&mut rng, is_torn)));
        images
    }

    /// What was promised is noted before the image is made, and what was asked for after it.
    fn image(&self, rng: &mut Rng, is_torn: bool) -> Image {
        let mut told = self.told.lock().expect("no thread panics with it").clone();
        told.durable = told.durable.max(self.log.durable_lsn().get());
        told.written = told.written.max(self.log.written_lsn().get());
        let call = self.fs.calls();
        let (fs, death, plan) = if rng.percent(20) {
            (self.fs.kill(), Death::Process, "death of the process".to_owned())
        } else {
            let plan = CrashPlan::random(rng.number());
            let plan = if is_torn && rng.percent(50) { plan.with_torn_sectors() } else { plan };
            (self.fs.crash(&plan), Death::Machine, format!("{plan:?}"))
        };
        told.start_asked = self.told.lock().expect("no thread panics with it").start_asked;
        told.records.clear();
        Image { fs, death, told, call, plan }
    }
}

/// A payload that shows whether it is whole: every eight bytes follow from the first eight.
fn payload(rng: &mut Rng) -> Vec<u8> {
    let first = rng.number();
    let length = rng.pick(&[0, 3, 40, 40, 200, 700, 2500]);
    let mut bytes: Vec<u8> = (0..length / 8 + 1).flat_map(|at| mix(first, at).to_le_bytes()).collect();
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes.truncate((length as usize).max(8));
    bytes
}

fn is_ours(payload: &[u8]) -> bool {
    let Some(first) = payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else { return false };
    let wanted = |at: usize| mix(first, at as u64).to_le_bytes();
    payload.chunks(8).enumerate().skip(1).all(|(at, bytes)| bytes == &wanted(at)[..bytes.len()])
}

/// Keeps an image and the calls that led to it, and says where.
fn keep(image: &SimFs, calls: &[Event], seed: u64) -> String {
    let dir: PathBuf = std::env::temp_dir().join(format!("wal-image-{seed}-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&dir)?;
        for name in image.names(DIR)? {
            std::fs::write(dir.join(&name), image.read_file(format!("{DIR}/{name}"))?)?;
        }
        let calls: Vec<String> = calls.iter().map(Event::to_string).collect();
        std::fs::write(dir.join("calls"), calls.join("\n"))
    };
    match write() {
        Ok(()) => format!("the image and the {} calls of its life are in {}", calls.len(), dir.display()),
        Err(error) => format!("the image could not be kept: {error}"),
    }
}
