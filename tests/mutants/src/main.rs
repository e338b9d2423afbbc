//! `cargo run --release -p wal-mutants -- [--search] [GUARD...]`: takes guards out and sees which test notices.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use wal_mutants::list::{self, Guard, Verdict};
use wal_mutants::suite::{self, Outcome, Suite, order};

const USAGE: &str = "\
usage: wal-mutants [--search] [GUARD...]

Builds a copy of the workspace under the target directory, in which every guard of the list has a switch, and takes one guard out after the
other: the test that the list names for it must fail. Without names it tries all guards that the list calls noticed.

  --search   for these guards (without names: for those that no test is named for), run one test binary after the other until one fails";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("wal-mutants: {why}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut names: Vec<String> = env::args().skip(1).collect();
    if names.iter().any(|name| name == "--help" || name == "-h") {
        println!("{USAGE}");
        return Ok(true);
    }
    let searches = names.iter().any(|name| name == "--search");
    names.retain(|name| name != "--search");
    let root = suite::root();
    let guards = list::read(&root.join("tests/mutants/guards"))?;
    let known: BTreeSet<&str> = guards.iter().map(|guard| guard.name.as_str()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
        return Err(format!("there is no guard {unknown}\n{USAGE}"));
    }
    let chosen: Vec<&Guard> = guards
        .iter()
        .filter(|guard| {
            let is_noticed = matches!(guard.verdict, Verdict::Noticed { .. });
            if names.is_empty() { is_noticed != searches } else { names.contains(&guard.name) }
        })
        .collect();
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let suite = suite::build(&root, &guards, &target.join("mutants"))?;
    if searches { search(&suite, &chosen) } else { try_named(&suite, &chosen) }
}

/// Takes out each guard and runs the test that the list names for it. Returns whether all were noticed.
fn try_named(suite: &Suite, guards: &[&Guard]) -> Result<bool, String> {
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for guard in guards {
        if let Verdict::Noticed { binary, test } = &guard.verdict {
            named.entry(binary).or_default().insert(test);
        }
    }
    for (binary, tests) in named {
        let tests: Vec<&str> = tests.into_iter().collect();
        let outcome = suite.run(binary, &tests, None)?;
        if outcome != Outcome::Passed {
            return Err(format!("with every guard in its place, {binary} ended like this: {outcome:?}"));
        }
    }
    let (mut noticed, mut missed) = (0, 0);
    for guard in guards {
        let Verdict::Noticed { binary, test } = &guard.verdict else { continue };
        match suite.run(binary, &[test.as_str()], Some(&guard.name))? {
            Outcome::Failed(_) | Outcome::Hung => noticed += 1,
            outcome => {
                missed += 1;
                println!("{}: {binary} {test}: {outcome:?}", guard.name);
            }
        }
    }
    println!("{noticed} guards taken out were noticed, {missed} were not");
    Ok(missed == 0)
}

/// Looks for a test that notices, for each of the guards. Returns whether there is one for each.
fn search(suite: &Suite, guards: &[&Guard]) -> Result<bool, String> {
    let mut missed = 0;
    for guard in guards {
        let found = order(guard).iter().find_map(|binary| match suite.run(binary, &[], Some(&guard.name)) {
            Ok(Outcome::Passed | Outcome::Nothing) => None,
            Ok(outcome) => Some(Ok((binary, outcome))),
            Err(why) => Some(Err(why)),
        });
        match found.transpose()? {
            Some((binary, Outcome::Failed(tests))) => println!("{}: {binary}: {}", guard.name, tests.join(" ")),
            Some((binary, outcome)) => println!("{}: {binary}: {outcome:?}", guard.name),
            None => {
                missed += 1;
                println!("{}: nothing notices", guard.name);
            }
        }
    }
    Ok(missed == 0)
}
