//! A log that another process writes: it can be read and followed, and is neither repaired nor truncated.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tempfile::TempDir;
use wal::{Background, Config, Lsn, SyncMode, Wal};

fn walctl(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walctl"));
    command.args(args).env("WAL_DIR", dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn log() -> (TempDir, Wal) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = Config { segment_bytes_max: 8 << 10, background: Background::Inline, ..Config::default() };
    let log = Wal::open(home.path().join("orders"), config).expect("it opens");
    (home, log)
}

#[test]
fn a_log_in_use_is_exit_code_3_for_everything_that_changes_it_and_stays_as_it_is() {
    let (home, log) = log();
    let lsn = log.append(b"one").expect("there is room");
    log.append(b"two").expect("there is room");
    let dir = home.path().join("orders");
    let names = || -> Vec<_> {
        fs::read_dir(&dir).expect("it is there").map(|entry| entry.expect("read").file_name()).collect()
    };
    let before = names();
    let after = lsn.to_string();
    let cases: [&[&str]; 4] = [
        &["repair"],
        &["repair", "--apply", "--yes"],
        &["truncate", "--after", &after, "--apply", "--yes"],
        &["append"],
    ];
    for args in cases {
        let output = walctl(args, &dir).output().expect("it starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {words}");
        assert!(words.contains("in use") || words.contains("open for writing"), "{args:?}: {words}");
    }
    for args in [&["info"][..], &["ls"], &["stat"], &["verify"], &["dump"], &["top", "-n", "1", "--interval", "1ms"]] {
        let output = walctl(args, &dir).output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(names(), before, "nothing was created and nothing removed");
    log.append(b"three").expect("the writer does not notice");
    log.close().expect("it closes");
}

#[test]
fn a_dump_of_a_log_that_grows_faster_than_it_is_read_ends_where_the_log_ended_when_it_began() {
    /// More than the buffers of a pipe and of the command hold, so that it reads at the pace of this test.
    const RECORDS: u64 = 8000;
    let cases: [&[&str]; 4] = [
        &["dump", "--format", "jsonl"],
        &["dump", "--format", "jsonl", "--reverse"],
        &["dump", "--format", "jsonl", "--type", "0"],
        &["dump", "--format", "jsonl", "--decoder", "cut -d ' ' -f 1"],
    ];
    for args in cases {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = home.path().join("orders");
        let config = Config { segment_bytes_max: 1 << 20, ..Config::with_mode(SyncMode::None) };
        let log = Wal::open(&dir, config).expect("it opens");
        for _ in 0..RECORDS {
            log.append(b"").expect("there is room");
        }
        let mut child = Guarded(walctl(args, &dir).spawn().expect("it starts"));
        let lines = BufReader::new(child.0.stdout.take().expect("it is piped")).lines();
        let mut seen = 0;
        for line in lines {
            line.expect("it is text");
            seen += 1;
            assert!(seen <= RECORDS, "{args:?} goes on with what was appended after it began");
            log.append(b"").expect("there is room");
            log.append(b"").expect("there is room");
        }
        assert_eq!(seen, RECORDS, "{args:?}");
        assert!(child.0.wait().expect("it ends").success());
        log.close().expect("it closes");
    }
}

#[test]
fn counts_of_a_log_that_is_written_are_those_of_one_moment() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let dir = home.path().join("orders");
    let log = Wal::open(&dir, Config::with_mode(SyncMode::None)).expect("it opens");
    log.append(b"the first").expect("there is room");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // The writer ends also when an assertion fails.
        let _ends = OnDrop(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                log.append(b"and another one").expect("there is room");
            }
        });
        for _ in 0..5 {
            let output = walctl(&["stat", "--format", "json"], &dir).output().expect("it starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let stat: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
            let lsn = |key: &str| -> u64 { stat[key].as_str().and_then(|lsn| lsn.parse().ok()).expect("an LSN") };
            assert!(lsn("last_lsn") < lsn("end_lsn"), "{stat}");
        }
    });
    log.close().expect("it closes");
}

/// `WAL_TEST_LOOKS` is how often each command looks.
#[test]
fn a_log_that_is_written_and_truncated_is_never_taken_for_a_damaged_one() {
    let looks = std::env::var("WAL_TEST_LOOKS").map_or(4, |value| value.parse().expect("a number"));
    println!("WAL_TEST_LOOKS={looks}");
    let home = tempfile::tempdir().expect("a temporary directory");
    let dir = home.path().join("orders");
    let mode = SyncMode::BATCH_DEFAULT;
    let config = Config { segment_bytes_max: 64 << 10, ..Config::with_mode(mode) };
    let log = Wal::open(&dir, config).expect("it opens");
    log.append(b"the first").expect("there is room");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = OnDrop(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let batch = log.append_batch(&[&[1; 100][..], &[2; 3000], b""]).expect("there is room");
                // Some thirty segments stay.
                if batch.end.get().is_multiple_of(64) {
                    let before = log.durable_lsn().get().saturating_sub(2 << 20);
                    log.truncate_before(Lsn::new(before)).expect("nothing holds it");
                }
            }
        });
        let commands: [&[&str]; 8] = [
            &["info"],
            &["ls"],
            &["stat"],
            &["verify"],
            &["verify", "--quick"],
            &["verify", "--parallel", "3"],
            &["dump", "--reverse", "-n", "100"],
            &["top", "-n", "2", "--interval", "5ms"],
        ];
        for args in commands.iter().copied().cycle().take(commands.len() * looks) {
            let output = walctl(args, &dir).output().expect("it starts");
            let words = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => {}
                // Who reads records says so if they were removed meanwhile.
                Some(4) if matches!(args[0], "stat" | "dump") && words.contains("truncated") => {}
                code => panic!("{args:?}: {code:?}: {words}"),
            }
        }
    });
    log.close().expect("it closes");
}

/// Sets a flag when it is dropped.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Ends its process when the test does, however that ends.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended by itself.
        match self.0.kill().and_then(|()| self.0.wait()) {
            Ok(_) | Err(_) => {}
        }
    }
}

#[test]
fn a_following_dump_shows_each_record_once_across_rotations_truncations_and_a_restart_of_the_writer() {
    let (home, log) = log();
    let dir = home.path().join("orders");
    log.append(b"record 0").expect("there is room");
    let mut child =
        Guarded(walctl(&["dump", "-f", "--format", "jsonl", "--payload", "utf8"], &dir).spawn().expect("it starts"));
    let mut lines = BufReader::new(child.0.stdout.take().expect("it is piped")).lines();
    let mut next = || -> String {
        let line = lines.next().expect("it goes on").expect("it is text");
        let value: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        value["payload"].as_str().expect("a payload").to_owned()
    };
    assert_eq!(next(), "record 0");
    for round in 0..3 {
        // More than two segments a round.
        for number in 1..=300 {
            log.append(format!("record {}", 300 * round + number).as_bytes()).expect("there is room");
        }
        for number in 1..=300 {
            assert_eq!(next(), format!("record {}", 300 * round + number));
        }
        log.truncate_before(log.durable_lsn()).expect("nothing holds it");
    }
    log.close().expect("it closes");
    let log = Wal::open(&dir, Config::default()).expect("it opens again");
    log.append(b"afterwards").expect("there is room");
    assert_eq!(next(), "afterwards");
    log.close().expect("it closes");
}

#[test]
fn a_decoder_may_buffer_all_its_answers_and_one_that_reads_too_little_is_an_error() {
    let (home, log) = log();
    let dir = home.path().join("orders");
    for number in 0..5000 {
        log.append(format!("{number}").as_bytes()).expect("there is room");
    }
    log.close().expect("it closes");
    // `sort` answers only once its input has ended. Each payload is followed by the head of the next request, so its lines are requests.
    let output = walctl(&["dump", "--decoder", "sed 's/ .*//' | sort -n", "-q"], &dir).output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("it is text");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), 5001);
    let output = walctl(&["dump", "--decoder", "head -n 3"], &dir).output().expect("it starts");
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("decoder"));
}
