//! A database author tests an engine of their own on the simulated file system.
//!
//! `store` is the engine, and it is not this log: a small key-value store with six mistakes that can be switched on. `explore`
//! searches for a broken promise. This program prints how each mistake is found: by a crash, or only when a call fails too.
//!
//! Run it with `cargo run --release -p wal --features sim --example store_under_test`. Its tests run with all others.

mod explore;
mod store;

use wal::fs::sim::Profile;

use explore::{Finding, crash_everywhere, fail_every_call};
use store::Bug;

const SEEDS: std::ops::Range<u64> = 0..6;

/// What the search finds, and the states that it looked at, in words.
fn search(profile: Profile, bug: Option<Bug>) -> (String, Option<Finding>) {
    let crashed = match crash_everywhere(profile, bug, SEEDS) {
        Ok(states) => states,
        Err(finding) => return ("crash".to_owned(), Some(finding)),
    };
    match fail_every_call(profile, bug, SEEDS) {
        Ok(states) => (format!("{} right", crashed + states), None),
        Err(finding) => ("failing call".to_owned(), Some(finding)),
    }
}

fn main() {
    print!("{:24}", "");
    Profile::ALL.iter().for_each(|profile| print!("{:>16}", format!("{profile:?}")));
    println!();
    let mut findings = Vec::new();
    for bug in std::iter::once(None).chain(Bug::ALL.map(Some)) {
        let name = bug.map_or_else(|| "the store as it is".to_owned(), |bug| format!("{bug:?}"));
        print!("{name:24}");
        for profile in Profile::ALL {
            let (word, finding) = search(profile, bug);
            print!("{word:>16}");
            if let Some(finding) = finding.filter(|_| profile == Profile::Cruellest) {
                findings.push(format!("{name}, {finding}"));
            }
        }
        println!();
    }
    findings.iter().for_each(|finding| println!("\n{finding}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_promises_on_every_file_system() {
        for profile in Profile::ALL {
            let crashed = crash_everywhere(profile, None, SEEDS).unwrap_or_else(|found| panic!("{profile:?}, {found}"));
            let failed = fail_every_call(profile, None, SEEDS).unwrap_or_else(|found| panic!("{profile:?}, {found}"));
            println!("{profile:?}: {crashed} states of crashes, {failed} of failing calls");
            assert!(crashed > 1000 && failed > 1000, "{profile:?}: only {crashed} and {failed} states");
        }
    }

    #[test]
    fn the_cruellest_file_system_shows_every_mistake() {
        for bug in Bug::ALL {
            let (_, finding) = search(Profile::Cruellest, Some(bug));
            println!("{bug:?}, {}", finding.unwrap_or_else(|| panic!("{bug:?} is not found")));
        }
    }

    #[test]
    fn no_crash_shows_a_missing_sync_of_a_directory_where_the_sync_of_a_file_writes_the_journal() {
        let bug = Some(Bug::DirectorySyncForgotten);
        let is_hidden = |profile| crash_everywhere(profile, bug, SEEDS).is_ok();
        assert_eq!(Profile::ALL.map(is_hidden), [false, true, true, true, true]);
    }

    #[test]
    fn a_finding_is_the_same_each_time() {
        let find = || search(Profile::Cruellest, Some(Bug::SyncRetried)).1.expect("it is found").to_string();
        assert_eq!(find(), find());
    }
}
