//! A process with several threads is killed again and again while it puts, deletes and makes checkpoints: nothing acknowledged is lost.
//!
//! `STORE_KILL_BIG=1` does it with a tree of 1 GiB on a pool of 64 MiB, killed in the middle of checkpoints. `WAL_TEST_SEED` sets the seed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use checkpoint::{Config, Store};
use wal::SyncMode;
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

const CHILD: &str = "STORE_KILL_CHILD";

#[derive(Clone, Copy, Debug)]
struct Form {
    threads: u64,
    keys_per_thread: u64,
    value_bytes: usize,
    cycles: u64,
    /// The longest time until a kill, in milliseconds.
    delay_max: u64,
    is_big: bool,
}

const SMALL: Form =
    Form { threads: 4, keys_per_thread: 3000, value_bytes: 100, cycles: 25, delay_max: 60, is_big: false };
const BIG: Form =
    Form { threads: 8, keys_per_thread: 125_000, value_bytes: 1000, cycles: 10, delay_max: 4000, is_big: true };

impl Form {
    fn config(&self, rng: &mut Rng) -> Config {
        let mut config = Config::default();
        if self.is_big {
            config.pool_bytes = 64 << 20;
            config.checkpoint_log_bytes = 64 << 20;
        } else {
            config.log.sync_mode = rng.pick(&[SyncMode::Sync, SyncMode::BATCH_DEFAULT, SyncMode::None]);
            config.log.segment_bytes_max = 256 << 10;
            config.page_bytes = 4 << 10;
            config.pool_bytes = 64 * config.page_bytes;
            config.checkpoint_log_bytes = 128 << 10;
        }
        config
    }

    fn key(thread: u64, number: u64) -> Vec<u8> {
        format!("thread-{thread:02}-{number:08}").into_bytes()
    }

    fn value(&self, number: u64, step: u64) -> Vec<u8> {
        let mut value = vec![(number ^ step) as u8; self.value_bytes];
        value[..8].copy_from_slice(&step.to_le_bytes());
        value
    }

    /// The key that a thread changes in a step, and whether it removes it.
    fn change(&self, seed: u64, thread: u64, step: u64) -> (u64, bool) {
        let mut rng = Rng::new(seed ^ (thread << 48) ^ step);
        (rng.below(self.keys_per_thread), rng.percent(10))
    }
}

/// The part of the process that is killed. Does nothing unless the other part started it.
#[test]
fn the_process_that_is_killed() {
    let Ok(words) = std::env::var(CHILD) else { return };
    let mut words = words.split(' ');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
    let (big, seed, cycle) = (number() == 1, number(), number());
    let form = if big { BIG } else { SMALL };
    let starts: Vec<u64> = (0..form.threads).map(|_| number()).collect();
    let dir = std::env::current_dir().expect("the directory of the store");
    let config = form.config(&mut Rng::new(seed ^ cycle));
    let store = Store::open(dir.join("store"), config).expect("the store opens");
    println!();
    std::thread::scope(|scope| {
        for (thread, start) in starts.into_iter().enumerate() {
            let (thread, store) = (thread as u64, store.clone());
            scope.spawn(move || {
                for step in start.. {
                    let (number, removes) = form.change(seed, thread, step);
                    let key = Form::key(thread, number);
                    if removes {
                        store.delete(&key).expect("a delete works");
                    } else {
                        store.put(&key, form.value(number, step)).expect("a put works");
                    }
                    println!("done {thread} {step}");
                }
            });
        }
        scope.spawn(|| {
            loop {
                println!("begin");
                store.checkpoint().expect("a checkpoint works");
                println!("end");
            }
        });
    });
}

/// What the killed process said.
#[derive(Debug, Default)]
struct Said {
    done: HashMap<u64, u64>,
    in_checkpoint: bool,
}

fn run_child(form: Form, dir: &Path, seed: u64, cycle: u64, starts: &[u64], rng: &mut Rng) -> Said {
    let starts: Vec<String> = starts.iter().map(u64::to_string).collect();
    let words = format!("{} {seed} {cycle} {}", u64::from(form.is_big), starts.join(" "));
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "kill::the_process_that_is_killed", "--nocapture"])
        .env(CHILD, words)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the process starts");
    let lines = BufReader::new(child.stdout.take().expect("its output"));
    let (tell, told) = channel();
    let reader = std::thread::spawn(move || {
        let mut said = Said::default();
        for line in lines.lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["done", thread, step] => {
                    said.done.insert(thread.parse().expect("a thread"), step.parse().expect("a step"));
                }
                ["begin"] => {
                    said.in_checkpoint = true;
                    tell.send(()).unwrap_or_default();
                }
                ["end"] => said.in_checkpoint = false,
                _ => {}
            }
        }
        said
    });
    // The first checkpoints pass, then the kill comes at a moment that the seed chose.
    let wait_for = |told: &Receiver<()>| told.recv().expect("the process works");
    (0..rng.below(4)).for_each(|_| wait_for(&told));
    wait_for(&told);
    std::thread::sleep(Duration::from_millis(rng.below(form.delay_max)));
    child.kill().expect("the process is killed");
    child.wait().expect("the process is gone");
    reader.join().expect("no panic")
}

/// Compares everything in the store with what was acknowledged. Takes over what was in flight and came through.
fn check(
    form: Form,
    store: &Store,
    seed: u64,
    starts: &mut [u64],
    touched: &mut HashMap<(u64, u64), Option<u64>>,
    beat: impl Fn(),
) {
    for (thread, start) in starts.iter_mut().enumerate() {
        let thread = thread as u64;
        let (number, removes) = form.change(seed, thread, *start);
        let expected = (!removes).then(|| form.value(number, *start));
        if store.get(Form::key(thread, number)).expect("it can be read") == expected {
            touched.insert((thread, number), (!removes).then_some(*start));
            *start += 1;
        }
    }
    let mut entries = store.iter();
    for thread in 0..form.threads {
        for number in 0..form.keys_per_thread {
            beat();
            let Some(step) = touched.get(&(thread, number)).copied().unwrap_or(Some(0)) else { continue };
            let (key, value) = entries.next().expect("an entry is there").expect("it can be read");
            assert_eq!(
                String::from_utf8_lossy(&key),
                String::from_utf8_lossy(&Form::key(thread, number)),
                "seed {seed}"
            );
            let found = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
            assert_eq!(found, step, "seed {seed}: the value of {thread}, {number} is of another step");
            assert!(value == form.value(number, step), "seed {seed}: the value of {thread}, {number}");
        }
    }
    assert!(entries.next().is_none(), "seed {seed}: there is more than was put");
}

fn survives_kills(form: Form, seed: u64) {
    println!("seed {seed}, {form:?}");
    let watchdog = Watchdog::start();
    let temp = tempfile::tempdir().expect("a directory");
    let mut rng = Rng::new(seed);
    let path = temp.path().join("store");
    let store = Store::open(&path, form.config(&mut Rng::new(seed))).expect("a new store opens");
    let numbers = (0..form.threads).flat_map(|thread| (0..form.keys_per_thread).map(move |number| (thread, number)));
    let entries = numbers.map(|(thread, number)| {
        watchdog.beat(|| "bulk load".to_owned());
        (Form::key(thread, number), form.value(number, 0))
    });
    store.bulk_load(entries).expect("the load works");
    let stats = store.stats();
    let mib = |bytes: u64| bytes / (1 << 20);
    println!(
        "a tree of {} MiB on a pool of {} MiB",
        mib(stats.page_count * stats.page_bytes as u64),
        mib(stats.pool_pages * stats.page_bytes as u64)
    );
    store.close().expect("the store closes");
    let mut starts = vec![1; form.threads as usize];
    let mut touched = HashMap::new();
    let (mut acknowledged, mut in_checkpoint, mut replayed, mut longest) = (0, 0, 0, Duration::ZERO);
    for cycle in 1..=form.cycles {
        watchdog.beat(|| format!("cycle {cycle}"));
        let said = run_child(form, temp.path(), seed, cycle, &starts, &mut rng);
        in_checkpoint += u64::from(said.in_checkpoint);
        for (thread, last) in &said.done {
            let start = &mut starts[*thread as usize];
            for step in *start..=*last {
                let (number, removes) = form.change(seed, *thread, step);
                touched.insert((*thread, number), (!removes).then_some(step));
                acknowledged += 1;
            }
            *start = last + 1;
        }
        watchdog.beat(|| format!("cycle {cycle}, opened again"));
        let started = Instant::now();
        let store = Store::open(&path, form.config(&mut Rng::new(seed ^ cycle))).expect("the store opens after a kill");
        longest = longest.max(started.elapsed());
        replayed += store.recovery_report().records;
        check(form, &store, seed, &mut starts, &mut touched, || watchdog.beat(|| format!("cycle {cycle}, checked")));
        if rng.percent(30) {
            store.close().expect("the store closes");
        }
    }
    println!(
        "{} kills, {in_checkpoint} of them in a checkpoint; {acknowledged} acknowledged changes, none lost; {replayed} records replayed; longest open {longest:?}",
        form.cycles
    );
    assert!(acknowledged > form.cycles && in_checkpoint > 0);
}

#[test]
fn a_process_that_is_killed_again_and_again_loses_nothing_that_it_acknowledged() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_nanos() as u64;
    let seed = std::env::var("WAL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now % 1_000_000);
    let is_big = std::env::var_os("STORE_KILL_BIG").is_some_and(|value| value == "1");
    survives_kills(if is_big { BIG } else { SMALL }, seed);
}
