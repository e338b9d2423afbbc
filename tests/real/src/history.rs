//! What a workload did, each step with the moment of the device at which it had happened, and what must therefore be found after a power cut.
//!
//! A moment is a number of events of the device. The workload reads the clock after a call returned, so a power cut at or behind that
//! moment happens after the call; and before a call begins, so a cut before that moment cannot show anything of it.

use serde::{Deserialize, Serialize};

use crate::payload::{number_of, payload};

/// A record: what stands where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its LSN.
    pub lsn: u64,
    /// The number of its payload.
    pub number: u64,
    /// The length of its payload.
    pub len: usize,
}

impl Entry {
    /// Where its frame ends.
    pub fn end(&self) -> u64 {
        self.lsn + frame_bytes(self.len)
    }
}

/// The bytes that a payload of this length takes in the log.
pub fn frame_bytes(len: usize) -> u64 {
    (24 + len as u64).next_multiple_of(8)
}

/// One append: a record or a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Append {
    /// Its records.
    pub entries: Vec<Entry>,
    /// When it had its LSNs.
    pub placed: u64,
    /// When it was acknowledged as written.
    pub returned: u64,
}

/// A change of the start or of the end of the log.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Before it began.
    pub began: u64,
    /// After it returned.
    pub returned: u64,
    /// Where the log starts or ends afterwards.
    pub lsn: u64,
    /// The LSN of the next record; 0 for a change of the start.
    pub next: u64,
}

/// A workload, as it was.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// All appends that were acknowledged.
    pub appends: Vec<Append>,
    /// All appends that were not, because they failed: numbers and lengths of the payloads. They may be there or not.
    pub undecided: Vec<Vec<(u64, usize)>>,
    /// All appends that a full disk refused. No reader of the living log sees them; after a power cut they may be at the end.
    pub refused: Vec<Vec<(u64, usize)>>,
    /// From this moment on everything below this LSN was said to be durable.
    pub durable: Vec<(u64, u64)>,
    /// Truncations.
    pub starts: Vec<Change>,
    /// Cuts of the end.
    pub ends: Vec<Change>,
    /// In batch mode, the bytes that may be lost.
    pub bytes_at_risk: Option<u64>,
}

/// What is found in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// LSN and payload of each record.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Where the log starts.
    pub start: u64,
    /// The LSN of the next record.
    pub next: u64,
}

impl History {
    /// Takes in what another thread did.
    pub fn absorb(&mut self, other: History) {
        self.appends.extend(other.appends);
        self.undecided.extend(other.undecided);
        self.refused.extend(other.refused);
        self.durable.extend(other.durable);
        self.starts.extend(other.starts);
        self.ends.extend(other.ends);
    }

    /// Brings appends into the order of the log.
    pub fn sort(&mut self) {
        self.appends.sort_by_key(|append| append.entries.first().map(|entry| entry.lsn));
    }

    /// What an open returned is durable from then on, also what had failed before and is there all the same.
    pub fn returned_by_open(&mut self, found: &Found, moment: u64) {
        for (lsn, bytes) in &found.records {
            let is_known = self.appends.iter().flat_map(|append| &append.entries).any(|entry| entry.lsn == *lsn);
            if let Some(number) = number_of(bytes).filter(|_| !is_known) {
                let entries = vec![Entry { lsn: *lsn, number, len: bytes.len() }];
                self.appends.push(Append { entries, placed: moment, returned: moment });
            }
        }
        self.durable.push((moment, found.records.last().map_or(0, |(lsn, _)| lsn + 1)));
        self.sort();
    }

    /// Whether a record is one that a full disk refused.
    pub fn is_refused(&self, payload: &[u8]) -> bool {
        let number = number_of(payload);
        self.refused.iter().flatten().any(|(refused, _)| Some(*refused) == number)
    }

    /// Up to here everything was said to be durable.
    pub fn durable_at(&self, at: u64) -> u64 {
        self.durable.iter().filter(|(moment, _)| *moment <= at).map(|(_, lsn)| *lsn).max().unwrap_or(0)
    }

    /// The end of what was handed out.
    pub fn handed_out_at(&self, at: u64) -> u64 {
        let placed = self.appends.iter().filter(|append| append.placed <= at);
        placed.flat_map(|append| append.entries.last().map(Entry::end)).max().unwrap_or(0)
    }

    /// What must be there although nothing said that it is durable: in batch mode only so many bytes are at risk.
    fn owed_at(&self, at: u64) -> u64 {
        let Some(bytes_at_risk) = self.bytes_at_risk else { return 0 };
        let returned = self.appends.iter().filter(|append| append.returned <= at);
        let end = returned.flat_map(|append| append.entries.last().map(Entry::end)).max().unwrap_or(0);
        end.saturating_sub(bytes_at_risk)
    }

    /// The appends that were in the log after so many cuts of its end, until the next one.
    fn line(&self, cuts: usize) -> Vec<&Append> {
        let is_cut = |lsn: u64| self.ends[..cuts].iter().any(|cut| (cut.lsn..cut.next).contains(&lsn));
        let is_later = |lsn: u64| self.ends.get(cuts).is_some_and(|next| lsn >= next.next);
        let is_in =
            |append: &&Append| append.entries.first().is_some_and(|entry| !is_cut(entry.lsn) && !is_later(entry.lsn));
        self.appends.iter().filter(is_in).collect()
    }

    /// Compares what is found after a power cut with what the contract says.
    ///
    /// # Errors
    ///
    /// How it breaks the contract.
    pub fn check(&self, found: &Found, at: u64) -> Result<(), String> {
        self.check_start(found, at)?;
        let owed = self.durable_at(at).max(self.owed_at(at));
        let done = self.ends.iter().filter(|cut| cut.returned <= at).count();
        let begun = self.ends.iter().filter(|cut| cut.began <= at).count();
        let verdicts: Vec<String> = (done..=begun)
            .map_while(|cuts| {
                // A cut of the end that is under way has decided nothing about what lies before it.
                Line { appends: self.line(cuts), undecided: [&self.undecided, &self.refused], owed }
                    .compare(found)
                    .err()
            })
            .collect();
        if verdicts.len() > begun - done {
            return Err(verdicts.join("; or, with the end cut, "));
        }
        let handed_out = self.handed_out_at(at);
        if found.next < handed_out {
            return Err(format!("the next LSN is {}, but LSNs up to {handed_out} were handed out", found.next));
        }
        Ok(())
    }

    /// Only that what is found is a prefix: what holds even on a device that lies.
    ///
    /// # Errors
    ///
    /// How it is none.
    pub fn check_prefix(&self, found: &Found, at: u64) -> Result<(), String> {
        let begun = self.ends.iter().filter(|cut| cut.began <= at).count();
        let compare = |cuts| {
            Line { appends: self.line(cuts), undecided: [&self.undecided, &self.refused], owed: 0 }.compare(found)
        };
        // A lost control file or a lost rename may bring back any older course of the log.
        (0..=begun).map(compare).reduce(Result::or).expect("there is one course at least")
    }

    fn check_start(&self, found: &Found, at: u64) -> Result<(), String> {
        let done = self.starts.iter().filter(|change| change.returned <= at).map(|change| change.lsn).max();
        let begun = self.starts.iter().filter(|change| change.began <= at).map(|change| change.lsn).max();
        let first = found.records.first().map_or(found.start, |(lsn, _)| *lsn);
        if found.start < done.unwrap_or(0) || first < found.start {
            return Err(format!(
                "it starts at {}, its first record is at {first}, truncated before {done:?}",
                found.start
            ));
        }
        // A log in which nothing is left starts where it goes on.
        let is_empty = found.records.is_empty();
        if !is_empty
            && begun.is_none_or(|begun| found.start > begun)
            && self.first_lsn().is_some_and(|lsn| found.start > lsn)
        {
            return Err(format!("it starts at {}, although it was truncated before {begun:?} only", found.start));
        }
        Ok(())
    }

    fn first_lsn(&self) -> Option<u64> {
        self.appends.first().and_then(|append| append.entries.first()).map(|entry| entry.lsn)
    }
}

/// One course that the log may have taken.
struct Line<'a> {
    appends: Vec<&'a Append>,
    undecided: [&'a [Vec<(u64, usize)>]; 2],
    owed: u64,
}

impl Line<'_> {
    /// What is found must be a prefix, byte for byte, batches whole, and reach as far as is owed.
    fn compare(&self, found: &Found) -> Result<(), String> {
        let mut rest = found.records.as_slice();
        let mut appends = self.appends.iter().peekable();
        // What lies before the start was truncated; of a batch only the end may be left.
        let expected = |append: &Append| -> Vec<Entry> {
            append.entries.iter().copied().filter(|entry| entry.lsn >= found.start).collect()
        };
        while let Some((lsn, bytes)) = rest.first() {
            while appends.next_if(|append| expected(append).is_empty()).is_some() {}
            let count = match appends.peek() {
                Some(append) if expected(append)[0].lsn == *lsn => {
                    let entries = expected(append);
                    appends.next();
                    compare_entries(&entries, rest)?
                }
                next => self.compare_undecided(rest).ok_or_else(|| {
                    let expected = next.map(|append| expected(append)[0]);
                    format!("at LSN {lsn} stands a record of {} bytes, expected {expected:?}", bytes.len())
                })?,
            };
            rest = &rest[count..];
        }
        let missing = appends.flat_map(|append| expected(append)).find(|entry| entry.lsn < self.owed);
        match missing {
            Some(entry) => Err(format!(
                "{entry:?} is missing, and everything below LSN {} must be there ({} records are)",
                self.owed,
                found.records.len()
            )),
            None => Ok(()),
        }
    }

    /// A failed append may be there, as a whole. Returns how many records it has.
    fn compare_undecided(&self, found: &[(u64, Vec<u8>)]) -> Option<usize> {
        let number = number_of(&found[0].1)?;
        let append = self
            .undecided
            .into_iter()
            .flatten()
            .find(|append| append.first().is_some_and(|first| first.0 == number))?;
        let is_same = |((_, bytes), (number, len)): (&(u64, Vec<u8>), &(u64, usize))| *bytes == payload(*number, *len);
        let is_whole = found.len() >= append.len() && found.iter().zip(append).all(is_same);
        is_whole.then_some(append.len())
    }
}

fn compare_entries(entries: &[Entry], found: &[(u64, Vec<u8>)]) -> Result<usize, String> {
    for (index, entry) in entries.iter().enumerate() {
        let Some((lsn, bytes)) = found.get(index) else {
            return Err(format!("a batch of {} records ends after {index}", entries.len()));
        };
        if *lsn != entry.lsn || *bytes != payload(entry.number, entry.len) {
            return Err(format!("at LSN {lsn} is not what was appended as {entry:?}"));
        }
    }
    Ok(entries.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(lsn: u64, numbers: &[u64], moment: u64) -> Append {
        let entries = numbers.iter().enumerate().map(|(index, &number)| {
            let len = 100;
            Entry { lsn: lsn + index as u64 * frame_bytes(len), number, len }
        });
        Append { entries: entries.collect(), placed: moment, returned: moment }
    }

    fn history() -> History {
        let appends = vec![append(4096, &[1], 10), append(4224, &[2, 3], 20), append(4480, &[4], 30)];
        History { appends, durable: vec![(10, 4224), (20, 4480)], ..History::default() }
    }

    fn found(numbers: &[(u64, u64)]) -> Found {
        let records = numbers.iter().map(|&(lsn, number)| (lsn, payload(number, 100))).collect();
        Found { records, start: 4096, next: 100_000 }
    }

    #[test]
    fn a_prefix_that_holds_what_was_acknowledged_passes() {
        let history = history();
        assert_eq!(history.check(&found(&[]), 9), Ok(()));
        assert_eq!(history.check(&found(&[(4096, 1)]), 19), Ok(()));
        assert_eq!(history.check(&found(&[(4096, 1), (4224, 2), (4352, 3)]), 19), Ok(()));
        assert_eq!(history.check(&found(&[(4096, 1), (4224, 2), (4352, 3), (4480, 4)]), 20), Ok(()));
    }

    #[test]
    fn what_breaks_the_contract_is_caught() {
        let history = history();
        let caught = |records: &[(u64, u64)], at| history.check(&found(records), at).expect_err("it must be caught");
        assert!(caught(&[], 10).contains("missing"));
        assert!(caught(&[(4096, 1)], 20).contains("missing"));
        assert!(caught(&[(4096, 1), (4224, 2)], 19).contains("batch"));
        assert!(caught(&[(4096, 2)], 9).contains("is not what was appended"));
        assert!(caught(&[(4096, 1), (4480, 4)], 19).contains("expected"));
        let reused = Found { next: 4300, ..found(&[(4096, 1), (4224, 2), (4352, 3)]) };
        assert!(history.check(&reused, 20).expect_err("it must be caught").contains("handed out"));
    }

    #[test]
    fn a_cut_of_the_end_leaves_the_old_end_or_the_new_one() {
        let mut history = history();
        history.ends.push(Change { began: 40, returned: 50, lsn: 4224, next: 8192 });
        history.appends.push(append(8192, &[5], 60));
        history.durable.push((60, 8320));
        let old = [(4096, 1), (4224, 2), (4352, 3)];
        assert!(history.check(&found(&old), 39).is_ok());
        assert!(history.check(&found(&old), 45).is_ok());
        assert!(history.check(&found(&[(4096, 1)]), 45).is_ok());
        assert!(history.check(&found(&[(4096, 1)]), 39).is_err());
        assert!(history.check(&found(&old), 50).is_err());
        assert!(history.check(&found(&[(4096, 1), (8192, 5)]), 60).is_ok());
        assert!(history.check(&found(&[(4096, 1)]), 60).is_err());
    }

    #[test]
    fn a_failed_append_may_be_there_as_a_whole() {
        let mut history = history();
        history.undecided.push(vec![(7, 100), (8, 50)]);
        let mut found = found(&[(4096, 1), (4224, 2), (4352, 3), (4480, 4), (4608, 7)]);
        assert!(history.check(&found, 30).is_err());
        found.records.push((4736, payload(8, 50)));
        assert_eq!(history.check(&found, 30), Ok(()));
    }
}
