//! What the contract allows a log to hold after a crash.

use std::sync::Arc;

pub use crate::recovery::{DIR, LOG_ID, check_recovery, observe, open};

/// A record that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rec {
    /// Its LSN.
    pub lsn: u64,
    /// Its type.
    pub record_type: u16,
    /// Its payload.
    pub payload: Arc<[u8]>,
    /// Whether a batch, of one or more, ends with it.
    pub ends_batch: bool,
}

impl Rec {
    /// The LSN where its frame ends.
    pub fn end(&self) -> u64 {
        self.lsn + frame_bytes(self.payload.len())
    }
}

/// The bytes of the frame of a payload, by `specs/format.md`.
pub fn frame_bytes(payload: usize) -> u64 {
    24 + (payload as u64).next_multiple_of(8)
}

/// Records without LSN: appends that failed with an unknown outcome.
pub type Maybe = Vec<(u16, Arc<[u8]>)>;

/// What was done to a log, and what was promised.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All records that the log holds or held before its start, in order.
    pub records: Vec<Rec>,
    /// Batches that may follow them.
    pub maybe: Vec<Maybe>,
    /// Where the log starts.
    pub start: u64,
    /// Where it starts if a truncation with an unknown outcome was done: from there to there.
    pub start_alt: Option<(u64, u64)>,
    /// How many records are left if a cut with an unknown outcome was done.
    pub count_alt: Option<usize>,
    /// What was said to be durable: all below this LSN.
    pub durable: u64,
    /// What was said to be written: all below this LSN.
    pub written: u64,
    /// Past every LSN that was handed out.
    pub handed: u64,
    /// The declared checkpoint, and one whose declaration has an unknown outcome.
    pub checkpoint: Option<u64>,
    /// See `checkpoint`.
    pub checkpoint_alt: Option<u64>,
}

/// What a log was found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The records: LSN, type, payload.
    pub records: Vec<(u64, u16, Vec<u8>)>,
    /// The start of the log.
    pub start: u64,
    /// The LSN of the next record.
    pub next: u64,
    /// The declared checkpoint.
    pub checkpoint: Option<u64>,
}

/// What a crash may leave.
#[derive(Clone, Debug)]
pub struct Allowed {
    records: Vec<Rec>,
    maybe: Vec<Maybe>,
    starts: Vec<(u64, u64)>,
    count_min: usize,
    counts_alt: Vec<usize>,
    handed: u64,
    checkpoints: Vec<Option<u64>>,
}

/// How much of the unsynced data is sure to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Of the process: what was written is there.
    Process,
    /// Of the machine: only what was synced is there.
    Machine,
}

impl Allowed {
    /// What may be left by a death while the log went from `before` to `after`.
    pub fn between(before: &Model, after: &Model, death: Death) -> Allowed {
        let longer = if after.records.len() >= before.records.len() { after } else { before };
        let promised = match death {
            Death::Process => before.written.max(before.durable),
            Death::Machine => before.durable,
        };
        let both = [before, after];
        let mut counts_alt: Vec<usize> = both.iter().filter_map(|model| model.count_alt).collect();
        if after.records.len() < before.records.len() {
            counts_alt.push(after.records.len());
        }
        let point = |model: &Model| (model.start, model.start);
        Allowed {
            records: longer.records.clone(),
            maybe: after.maybe.clone(),
            starts: both.iter().flat_map(|model| [Some(point(model)), model.start_alt]).flatten().collect(),
            count_min: before.records.iter().take_while(|record| record.end() <= promised).count(),
            counts_alt,
            handed: before.handed,
            checkpoints: both.iter().flat_map(|m| [Some(m.checkpoint), m.checkpoint_alt.map(Some)]).flatten().collect(),
        }
    }

    /// Exactly what was observed, and nothing else.
    pub fn exactly(&self, observed: &Observed) -> Allowed {
        let records: Vec<Rec> = observed
            .records
            .iter()
            .map(|(lsn, record_type, payload)| Rec {
                lsn: *lsn,
                record_type: *record_type,
                payload: payload.as_slice().into(),
                ends_batch: true,
            })
            .collect();
        Allowed {
            count_min: records.len(),
            records,
            maybe: Vec::new(),
            // Where a log without records starts is no content: it may move on with each recovery.
            starts: if observed.records.is_empty() {
                self.starts.iter().map(|(from, to)| (*from, (*to).max(observed.start))).collect()
            } else {
                vec![(observed.start, observed.start)]
            },
            counts_alt: Vec::new(),
            handed: self.handed,
            checkpoints: vec![observed.checkpoint],
        }
    }

    /// The records that are allowed.
    pub fn into_records(self) -> Vec<Rec> {
        self.records
    }

    /// The same, if the device lied about what is durable: any prefix.
    pub fn without_durability(mut self) -> Allowed {
        self.count_min = 0;
        self
    }

    /// Whether this is allowed.
    pub fn check(&self, observed: &Observed) -> Result<(), String> {
        let start = self.check_start(observed)?;
        if !self.checkpoints.contains(&observed.checkpoint) {
            return Err(format!("checkpoint {:?}, allowed is {:?}", observed.checkpoint, self.checkpoints));
        }
        if observed.next < self.handed {
            return Err(format!("the next LSN is {}, but {} was handed out", observed.next, self.handed));
        }
        let skipped = self.records.iter().take_while(|record| record.lsn < start).count();
        let expected = &self.records[skipped..];
        for (index, (found, wanted)) in observed.records.iter().zip(expected).enumerate() {
            let (lsn, record_type, payload) = found;
            if *lsn != wanted.lsn || *record_type != wanted.record_type || payload[..] != wanted.payload[..] {
                return Err(format!(
                    "record {index} is LSN {lsn}, type {record_type}, {} bytes; expected was LSN {}, type {}, {} bytes",
                    payload.len(),
                    wanted.lsn,
                    wanted.record_type,
                    wanted.payload.len()
                ));
            }
        }
        let count = skipped + observed.records.len();
        if count > self.records.len() {
            return self.check_maybe(&observed.records[expected.len()..]);
        }
        if self.counts_alt.contains(&count) || count == skipped && self.counts_alt.iter().any(|alt| *alt <= skipped) {
            return Ok(());
        }
        if count < self.count_min {
            return Err(format!(
                "{} of {} records are left, {} were promised; the first that is missing has LSN {}",
                count,
                self.records.len(),
                self.count_min,
                self.records[count].lsn
            ));
        }
        if count > skipped && !self.records[count - 1].ends_batch {
            return Err(format!("ends inside a batch, behind LSN {}", self.records[count - 1].lsn));
        }
        Ok(())
    }

    /// A log without records starts somewhere before its next record.
    fn check_start(&self, observed: &Observed) -> Result<u64, String> {
        let found = observed.start;
        if self.starts.iter().any(|(from, to)| (*from..=*to).contains(&found)) {
            return Ok(found);
        }
        let lower = self.starts.iter().map(|(_, to)| *to).filter(|to| *to <= found).max();
        match lower {
            Some(lower) if observed.records.is_empty() && found <= observed.next => Ok(lower),
            _ => Err(format!("starts at {found}, allowed is {:?}", self.starts)),
        }
    }

    fn check_maybe(&self, mut rest: &[(u64, u16, Vec<u8>)]) -> Result<(), String> {
        for batch in &self.maybe {
            if rest.is_empty() {
                return Ok(());
            }
            let is_it = rest.len() >= batch.len()
                && rest.iter().zip(batch).all(|(found, wanted)| found.1 == wanted.0 && found.2[..] == wanted.1[..]);
            if !is_it {
                return Err(format!("a record that was never appended, or half a batch, at LSN {}", rest[0].0));
            }
            rest = &rest[batch.len()..];
        }
        rest.first().map_or(Ok(()), |found| {
            Err(format!("a record that was never appended or was refused, at LSN {}, {} bytes", found.0, found.2.len()))
        })
    }
}
