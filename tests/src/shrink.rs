//! Makes a violation small: fewer operations, smaller payloads, fewer survivors.

use crate::explore::{Explorer, Limits};
use crate::run::Op;
use crate::settings::Setup;
use crate::violation::Violation;

/// How many smaller sequences are tried at most.
const ATTEMPTS_MAX: u32 = 600;

/// The smallest violation that is found by leaving out operations, making operations simpler, and losing more of what survived.
/// Every step is explored again with the same limits, so the violation that is returned may be another one than the first.
pub fn shrink(setup: &Setup, limits: Limits, violation: Violation) -> Violation {
    eprintln!("is being made small: {violation}");
    let explorer = Explorer::new(setup.clone(), limits);
    let seed = violation.seed;
    let fails = |ops: &[Op]| explorer.explore(ops, ops.len(), seed).err().map(|violation| *violation);
    lose_survivors(shrink_ops(violation, |violation| violation.ops.clone(), fails))
}

/// Leaves out operations and makes them simpler as long as it still fails.
pub fn shrink_ops<V>(first: V, ops_of: impl Fn(&V) -> Vec<Op>, fails: impl Fn(&[Op]) -> Option<V>) -> V {
    let mut small = first;
    let mut attempts = 0;
    while let Some(smaller) = candidates(&ops_of(&small)).into_iter().find_map(|ops| {
        attempts += 1;
        if attempts > ATTEMPTS_MAX { None } else { fails(&ops) }
    }) {
        small = smaller;
    }
    small
}

/// Sequences that are one step smaller, the boldest first: halves, single operations left out, one operation made simpler.
fn candidates(ops: &[Op]) -> Vec<Vec<Op>> {
    let mut all = Vec::new();
    if ops.len() > 3 {
        all.push(ops[..ops.len() / 2].to_vec());
        all.push(ops[ops.len() / 2..].to_vec());
    }
    for index in (0..ops.len()).rev() {
        let mut fewer = ops.to_vec();
        fewer.remove(index);
        all.push(fewer);
    }
    for (index, op) in ops.iter().enumerate() {
        for simpler in op.simpler() {
            let mut changed = ops.to_vec();
            changed[index] = simpler;
            all.push(changed);
        }
    }
    all
}

/// Loses one survivor after the other, and mends torn sectors, as long as it still breaks.
fn lose_survivors(mut violation: Violation) -> Violation {
    let attempt = |small: &mut Violation, change: &dyn Fn(&mut crate::crash::Crash)| {
        let Some(crash) = small.crash.clone() else { return };
        let mut changed = crash.clone();
        change(&mut changed);
        if changed == crash {
            return;
        }
        small.crash = Some(changed);
        match small.repeat() {
            Some(why) => small.why = why,
            None => small.crash = Some(crash),
        }
    };
    attempt(&mut violation, &|crash| crash.tear = None);
    let survivors = violation.crash.as_ref().and_then(|crash| crash.survivors.as_ref()).map_or(0, Vec::len);
    for index in 0..survivors {
        attempt(&mut violation, &|crash| {
            if let Some(survivors) = &mut crash.survivors {
                survivors[index] = 0;
            }
        });
    }
    violation
}
