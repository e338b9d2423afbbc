//! The targets of the fuzzer on their corpora, and on variations of those.
//!
//! `WAL_TEST_SEED` repeats the variations of one seed, `WAL_TEST_DEEP=1` tries twenty times as many. An input that fails is shown as bytes:
//! `WAL_TEST_INPUT` repeats it alone, and once the cause is mended it belongs into the corpus, as a file.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use wal_fuzzing::vary::vary;
use wal_fuzzing::{TARGETS, Target};
use wal_tests::rng::Rng;
use wal_tests::settings::seeds;

/// Variations for each seed.
const VARIATIONS: usize = 250;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort_unstable();
    paths.iter().map(|path| std::fs::read(path).expect("a file of the corpus")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits a byte");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn run(target: Target, input: &[u8], of: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target.1(input))) {
        let mut bytes = String::new();
        input.iter().for_each(|byte| write!(bytes, "{byte:02x}").expect("a string takes everything"));
        eprintln!("{}, {of}, fails with these bytes: {bytes}", target.0);
        resume_unwind(panic);
    }
}

fn explore(name: &str) {
    let target = *TARGETS.iter().find(|(target, _)| *target == name).expect("there is such a target");
    if let Ok(bytes) = std::env::var("WAL_TEST_INPUT") {
        return target.1(&from_hex(&bytes));
    }
    let corpus = corpus(name);
    assert!(corpus.len() >= 10, "the corpus is there: {} inputs", corpus.len());
    for (number, input) in corpus.iter().enumerate() {
        run(target, input, &format!("file {number} of the corpus"));
    }
    let mut executions = corpus.len();
    for seed in seeds(20) {
        let mut rng = Rng::new(seed);
        for number in 0..VARIATIONS {
            run(target, &vary(&mut rng, &corpus), &format!("variation {number} of seed {seed}"));
            executions += 1;
        }
    }
    println!("{name}: {executions} executions, {} files in the corpus", corpus.len());
}

#[test]
fn frames_are_what_the_format_says_they_are() {
    explore("frames");
}

#[test]
fn segments_whose_checksums_are_right_and_whose_content_lies_are_refused_or_go_on() {
    explore("segments");
}

#[test]
fn a_directory_of_any_files_is_refused_or_goes_on() {
    explore("directory");
}

#[test]
fn operations_in_any_order_keep_the_contract() {
    explore("operations");
}
