//! Variations of inputs by a seed, for a short run without the fuzzer.

use wal_tests::rng::Rng;

/// No input gets longer.
const BYTES_MAX: usize = 2000;

/// A new input from those that there are.
pub fn vary(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let pick = |rng: &mut Rng| corpus.get(rng.below(corpus.len().max(1) as u64) as usize).cloned().unwrap_or_default();
    let mut input = pick(rng);
    for _ in 0..=rng.below(8) {
        let at = rng.below(input.len() as u64 + 1) as usize;
        match rng.below(6) {
            0 if at < input.len() => input[at] ^= 1 << rng.below(8),
            1 if at < input.len() => input[at] = rng.number() as u8,
            2 => input.insert(at, rng.number() as u8),
            3 if at < input.len() => drop(input.drain(at..input.len().min(at + 1 + rng.below(8) as usize))),
            4 => {
                let other = pick(rng);
                let from = rng.below(other.len() as u64 + 1) as usize;
                input.splice(at.., other[from..].iter().copied());
            }
            _ => input.extend((0..rng.below(24)).map(|_| rng.number() as u8)),
        }
    }
    input.truncate(BYTES_MAX);
    input
}
