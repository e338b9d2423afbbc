//! What the test knows about the log from what the processes said, and the comparison with what is there.

use std::collections::BTreeMap;

use crate::record::{Name, THREADS, frame_bytes};

/// A record where it stands.
pub type Content = BTreeMap<u64, Name>;

/// What must be there, and what may be.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What was in the log when it was last compared.
    known: Content,
    /// What was acknowledged since.
    acknowledged: Content,
    /// The start of the log is not before this.
    start: u64,
    /// And what lies behind this was not truncated.
    start_max: u64,
    /// A cut of the end that began: the last LSN that it keeps.
    cutting: Option<u64>,
    /// It is done.
    is_cut: bool,
    /// No LSN below this is given out again.
    floor: u64,
    /// Records that were compared.
    pub compared: u64,
    /// Records that were acknowledged.
    pub acknowledgements: u64,
}

impl Ledger {
    /// Takes in one thing that the writer said.
    pub fn hear(&mut self, said: &str) {
        let mut words = said.split(' ');
        let verb = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number follows");
        match verb {
            "begin" | "truncated" | "closing" | "closed" => {}
            "opened" => {
                let (_start, next) = (number(), number());
                assert!(next >= self.floor, "the next LSN is {next}, but up to {} was given out", self.floor);
            }
            "acknowledged" => self.acknowledge(number(), Name::of(number())),
            "truncating" => self.start_max = self.start_max.max(number()),
            "starts" => self.start = self.start.max(number()),
            "cutting" => self.cutting = Some(number()),
            "cut" => self.is_cut = true,
            _ => panic!("the writer said: {said}"),
        }
    }

    fn acknowledge(&mut self, mut lsn: u64, first: Name) {
        assert!(lsn >= self.floor || self.acknowledged.range(lsn..).next().is_some(), "LSN {lsn} was given out before");
        for index in 0..first.count {
            let name = Name { index, ..first };
            let before = self.acknowledged.insert(lsn, name);
            assert_eq!(before, None, "LSN {lsn} was given to two records");
            lsn += frame_bytes(name.payload().len());
        }
        self.acknowledgements += 1;
    }

    /// Compares with what is in the log after the writer died.
    pub fn compare(&mut self, start: u64, content: &Content) -> Result<(), String> {
        if start < self.start {
            return Err(format!("the log starts at {start}, it was truncated before {}", self.start));
        }
        let was_cut = self.was_cut(start, content)?;
        let kept = self.known.iter().filter(|(lsn, _)| !was_cut || Some(**lsn) <= self.cutting);
        let expected: Content = kept.chain(&self.acknowledged).map(|(lsn, name)| (*lsn, *name)).collect();
        // Only what lies before the LSN that a truncation was asked for may be gone.
        for (lsn, name) in expected.range(start.min(self.start_max)..) {
            if content.get(lsn) != Some(name) {
                return Err(format!("at LSN {lsn} was {name:?}, and now there is {:?}", content.get(lsn)));
            }
        }
        let newer: Content =
            content.iter().filter(|(lsn, _)| !self.known.contains_key(lsn)).map(|(lsn, name)| (*lsn, *name)).collect();
        self.check_newer(&newer)?;
        self.compared += content.len() as u64;
        let end = |(lsn, name): (&u64, &Name)| lsn + frame_bytes(name.payload().len());
        self.floor = content.iter().chain(&expected).map(end).max().unwrap_or(0).max(self.floor);
        self.known = content.clone();
        self.acknowledged.clear();
        self.start = start;
        self.start_max = start;
        (self.cutting, self.is_cut) = (None, false);
        Ok(())
    }

    /// A cut of the end is done whole or not at all.
    fn was_cut(&self, start: u64, content: &Content) -> Result<bool, String> {
        let Some(kept) = self.cutting else { return Ok(false) };
        let behind: Vec<bool> = self
            .known
            .range(kept + 1..)
            .filter(|(lsn, _)| **lsn >= start)
            .map(|(lsn, _)| content.contains_key(lsn))
            .collect();
        match (behind.contains(&true), behind.contains(&false)) {
            (true, true) => Err("the end of the log was cut in part".to_owned()),
            (true, false) if self.is_cut => Err("the end of the log is back".to_owned()),
            (there, _) => Ok(!there),
        }
    }

    /// What nobody had seen before is of the last process: what its threads appended, in their order, without a hole, batches whole.
    fn check_newer(&self, newer: &Content) -> Result<(), String> {
        let mut next = BTreeMap::new();
        let mut expected_lsn = None;
        let mut in_batch: Option<Name> = None;
        let first = newer.first_key_value().map(|(lsn, _)| *lsn);
        // A truncation may have removed the beginning of what the process appended.
        let is_truncated =
            first.is_some_and(|first| self.acknowledged.first_key_value().is_some_and(|(lsn, _)| *lsn < first));
        for (lsn, name) in newer {
            if *lsn < self.floor {
                return Err(format!("{name:?} stands at LSN {lsn}, which was given out before"));
            }
            if expected_lsn.is_some_and(|expected| expected != *lsn) {
                return Err(format!("there is a hole before {name:?} at LSN {lsn}"));
            }
            expected_lsn = Some(lsn + frame_bytes(name.payload().len()));
            let wanted = in_batch.map_or(0, |before| before.index + 1);
            if name.index != wanted && !(is_truncated && Some(*lsn) == first) {
                return Err(format!("{name:?} is not record {wanted} of its batch"));
            }
            in_batch = (name.index + 1 < name.count).then_some(*name);
            if name.index == 0 {
                let usual = if is_truncated || self.start_max > self.floor { name.sequence } else { 0 };
                let wanted = next.get(&name.thread).copied().unwrap_or(usual);
                if name.sequence != wanted || name.thread >= THREADS {
                    return Err(format!("{name:?} is not append {wanted} of its thread"));
                }
            }
            next.insert(name.thread, name.sequence + 1);
        }
        match in_batch {
            Some(name) => Err(format!("the batch of {name:?} is not whole")),
            None => Ok(()),
        }
    }
}

/// What a reader of the log shows.
pub fn content(reader: wal::Reader) -> wal::Result<Content> {
    let mut content = Content::new();
    for record in reader {
        let record = record?;
        let name = Name::in_payload(&record.payload);
        content.insert(record.lsn.get(), name.expect("every byte of the record is what was appended"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(sequence: u64) -> Name {
        Name { life: 1, thread: 0, sequence, index: 0, count: 1 }
    }

    fn three() -> (Ledger, Content) {
        let mut ledger = Ledger::default();
        let mut content = Content::new();
        let mut lsn = 4096;
        for sequence in 0..3 {
            ledger.hear(&format!("acknowledged {lsn} {}", name(sequence).number()));
            content.insert(lsn, name(sequence));
            lsn += frame_bytes(name(sequence).payload().len());
        }
        (ledger, content)
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let (mut ledger, content) = three();
        let mut less = content.clone();
        less.pop_last();
        assert!(ledger.compare(4096, &less).is_err());
        assert_eq!(ledger.compare(4096, &content), Ok(()));
        assert_eq!(ledger.compare(4096, &content), Ok(()));
        assert!(ledger.compare(4096, &less).is_err());
    }

    #[test]
    fn what_nobody_appended_there_is_caught() {
        let (mut ledger, mut content) = three();
        let (last, _) = content.pop_last().expect("there are three");
        content.insert(last, name(7));
        assert!(ledger.compare(4096, &content).is_err());
        content.insert(last, name(2));
        assert_eq!(ledger.compare(4096, &content), Ok(()));
        content.insert(last + 8, name(3));
        assert!(ledger.compare(4096, &content).is_err());
    }

    #[test]
    fn a_start_or_an_end_that_comes_back_is_caught() {
        let (mut ledger, content) = three();
        assert_eq!(ledger.compare(4096, &content), Ok(()));
        ledger.hear("cutting 4096");
        ledger.hear("cut");
        assert!(ledger.compare(4096, &content).is_err());
        let first = content.iter().take(1).map(|(lsn, name)| (*lsn, *name)).collect();
        assert_eq!(ledger.compare(4096, &first), Ok(()));
        ledger.hear("truncating 4104");
        ledger.hear("starts 4104");
        assert!(ledger.compare(4096, &first).is_err());
    }
}
