//! The process that is killed.

use std::time::Duration;

use wal::{AppendOptions, Batch, Config, ErrorKind, Lsn, SyncMode, TruncatePolicy, Wal};
use wal_tests::rng::Rng;

use crate::process::{say, task};
use crate::record::{Name, THREADS, frame_bytes};

/// The test function that is executed as a process.
pub const TASK: &str = "writer::in_the_process_that_is_killed";

/// A log that is longer than this is truncated, so that reading it stays quick.
const LOG_BYTES_MAX: u64 = 160 << 10;

/// The modes, by number.
pub fn mode(number: u64) -> SyncMode {
    match number {
        0 => SyncMode::Sync,
        1 => SyncMode::Batch { delay: Duration::from_millis(2), bytes: 20_000 },
        _ => SyncMode::None,
    }
}

/// Small segments, so that rotation and truncation happen all the time.
pub fn config(sync_mode: SyncMode) -> Config {
    Config {
        sync_mode,
        segment_bytes_max: 16 << 10,
        queue_bytes_max: 64 << 10,
        group_bytes_max: 8 << 10,
        reserve_bytes: 8 << 10,
        ..Config::default()
    }
}

#[test]
fn in_the_process_that_is_killed() {
    let Some((directory, arguments)) = task() else { return };
    let [mode_number, life, seed, appends] = arguments[..] else { panic!("four arguments") };
    // A thread that fails ends the process, and the test hears why.
    std::panic::set_hook(Box::new(|panic| {
        say(format_args!("failed: {}", panic.to_string().replace('\n', " ")));
        std::process::exit(2);
    }));
    // Who started this process may die too. Then nobody needs it.
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(3);
    });
    say(format_args!("begin"));
    let log = Wal::open(&directory, config(mode(mode_number))).expect("the log opens");
    say(format_args!("opened {} {}", log.start_lsn(), log.next_lsn()));
    let mut rng = Rng::new(seed);
    cut_end(&log, &mut rng);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let rng = Rng::new(rng.number());
            let log = &log;
            scope.spawn(move || append(log, life, thread, appends, rng));
        }
        // It reads until the log is closed.
        scope.spawn(|| follow(&log));
        truncate(&log, &mut rng);
        say(format_args!("truncated"));
        if rng.percent(50) {
            // Close while the others append: they are refused, or come before it.
            close(&log);
        } else {
            // Nothing more to do until it is killed.
            std::thread::park();
        }
    });
    std::process::exit(0);
}

fn close(log: &Wal) {
    say(format_args!("closing"));
    log.close().expect("the log closes");
    say(format_args!("closed"));
}

/// Now and then, removes the end of the log before anything is appended.
fn cut_end(log: &Wal, rng: &mut Rng) {
    if !rng.percent(15) {
        return;
    }
    let lsns: Vec<Lsn> = log.reader(Lsn::ZERO).expect("it reads").map(|record| record.expect("it reads").lsn).collect();
    if lsns.len() < 10 {
        return;
    }
    let kept = lsns[lsns.len() - 2 - rng.below(8) as usize];
    say(format_args!("cutting {kept}"));
    log.truncate_after(kept).expect("the end is cut");
    say(format_args!("cut"));
}

fn append(log: &Wal, life: u64, thread: u64, appends: u64, mut rng: Rng) {
    for sequence in 0..appends {
        let count = if rng.percent(15) { 2 + rng.below(4) } else { 1 };
        let payloads: Vec<Vec<u8>> =
            (0..count).map(|index| Name { life, thread, sequence, index, count }.payload()).collect();
        let lsn = match rng.below(10) {
            0 => submit(log, &payloads),
            _ if count > 1 => log.append_batch(&payloads).map(|lsns| lsns.first),
            _ => log.append(&payloads[0]),
        };
        match lsn {
            Ok(lsn) => {
                say(format_args!("acknowledged {lsn} {}", Name { life, thread, sequence, index: 0, count }.number()))
            }
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => panic!("an append failed: {error}"),
        }
    }
}

fn submit(log: &Wal, payloads: &[Vec<u8>]) -> wal::Result<Lsn> {
    let mut batch = Batch::new();
    for payload in payloads {
        batch.push(payload);
    }
    let last = log.submit_all(&batch, AppendOptions::new())?.wait()?;
    let before: u64 = payloads[..payloads.len() - 1].iter().map(|payload| frame_bytes(payload.len())).sum();
    Ok(Lsn::new(last.get() - before))
}

/// Reads what becomes durable, and checks it.
fn follow(log: &Wal) {
    let Ok(mut follower) = log.follow(Lsn::ZERO) else { return };
    let mut last = Lsn::ZERO;
    loop {
        match follower.next_record() {
            Ok(record) => {
                assert!(record.lsn > last, "{} follows {last}", record.lsn);
                assert!(Name::in_payload(&record.payload).is_some(), "the record at {} is damaged", record.lsn);
                last = record.lsn;
            }
            Err(error) if error.kind() == ErrorKind::Truncated => match log.follow(Lsn::ZERO) {
                Ok(again) => follower = again,
                Err(_) => return,
            },
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => panic!("following failed: {error}"),
        }
    }
}

/// Moves the start of the log while others append.
fn truncate(log: &Wal, rng: &mut Rng) {
    let mut subscription = log.subscribe();
    for _ in 0..2 + rng.below(6) {
        let durable = log.durable_lsn().get();
        let span = durable.saturating_sub(log.start_lsn().get());
        let oldest = durable - span.min(LOG_BYTES_MAX);
        let wanted = oldest + span.min(LOG_BYTES_MAX) * rng.below(70) / 100;
        say(format_args!("truncating {wanted}"));
        let policy = rng.pick(&[TruncatePolicy::RewriteBoundary, TruncatePolicy::WholeSegments]);
        let truncation = log.truncate_before_with(Lsn::new(wanted), policy).expect("the start is moved");
        say(format_args!("starts {}", truncation.start_lsn));
        if subscription.recv().is_err() {
            return;
        }
    }
}
