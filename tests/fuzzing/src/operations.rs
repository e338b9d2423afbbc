//! A sequence of operations on a log, checked against a model of what the contract allows.

use wal_tests::oracle::{Allowed, Death, check_recovery};
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup};

use crate::input::Input;

/// Most of a segment, and a bit more than all of it.
const SIZES: [u16; 8] = [0, 1, 7, 8, 100, 1000, 4072, 4073];
const OPERATIONS_MAX: usize = 40;

fn size(input: &mut Input<'_>) -> u16 {
    match input.byte() {
        // The last one is too large on purpose and only batches use it up; single appends stay within a segment.
        choice @ 0..=31 => SIZES[usize::from(choice) % (SIZES.len() - 1)],
        choice => u16::from(choice) * 4,
    }
}

fn operation(input: &mut Input<'_>) -> Op {
    match input.byte() % 22 {
        0..=2 => Op::Append(size(input)),
        3 => Op::AppendDurable(size(input)),
        4 => Op::AppendWritten(size(input)),
        5 => Op::AppendReserve(size(input)),
        6 => Op::Batch(size(input) % 1200, size(input) % 1200, size(input) % 1200),
        7 => Op::Submit(size(input)),
        8 => Op::SubmitBatch(size(input) % 1200),
        9 => Op::Wait,
        10 => Op::DropTickets,
        11 => Op::Flush,
        12 => Op::WaitDurable(input.byte()),
        13 => Op::Poll,
        14 => Op::Rotate,
        15 => Op::Before(input.byte()),
        16 => Op::BeforeWhole(input.byte()),
        17 => Op::After(input.byte()),
        18 => Op::Checkpoint(input.byte()),
        19 => Op::Reopen,
        20 => Op::Die,
        _ => Op::Crash(u64::from(input.short())),
    }
}

/// Operations, among them deaths of the process and crashes of the machine, after each of which the model knows what may be left.
pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let choices = input.byte();
    let setup = Setup::new(MODES[usize::from(choices) % MODES.len()], u64::from(choices / 4));
    let mut run = Run::new(&setup);
    let mut done = Vec::new();
    while !input.is_empty() && done.len() < OPERATIONS_MAX {
        let op = operation(&mut input);
        done.push(op);
        if let Err(why) = run.apply(op) {
            panic!("{why}\n{setup:?}\n{done:?}");
        }
    }
    if run.log.is_some() {
        let allowed = Allowed::between(&run.model, &run.model, Death::Machine);
        let plan = wal::fs::sim::CrashPlan::random(u64::from(choices));
        if let Err(why) = check_recovery(&run.fs.crash(&plan), &setup, &allowed, u64::from(choices)) {
            panic!("after a crash at the end: {why}\n{setup:?}\n{done:?}");
        }
    }
}
