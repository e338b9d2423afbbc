//! What can be asked of an append: options, batches.

use crate::commit::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::record::{RecordType, payload_checksum};
use crate::watermark::Durability;

/// How one append differs from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    pub(crate) record_type: RecordType,
    pub(crate) durability: Option<Durability>,
    pub(crate) use_reserve: bool,
}

impl AppendOptions {
    /// Nothing differs.
    pub fn new() -> AppendOptions {
        AppendOptions::default()
    }

    /// The record has this type. Records of a [`Batch`] have their own.
    #[must_use]
    pub fn record_type(mut self, record_type: RecordType) -> AppendOptions {
        self.record_type = record_type;
        self
    }

    /// The append is acknowledged when its record is this safe, whatever the mode.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> AppendOptions {
        self.durability = Some(durability);
        self
    }

    /// The record may use the end of the segment that is kept free for a full disk: for a checkpoint record, with which space can be
    /// freed.
    #[must_use]
    pub fn use_reserve(mut self) -> AppendOptions {
        self.use_reserve = true;
        self
    }
}

/// Records that are appended as one: after a crash all of them are there or none.
#[derive(Clone, Debug, Default)]
pub struct Batch<'a> {
    records: Vec<(RecordType, &'a [u8])>,
}

impl<'a> Batch<'a> {
    /// A batch without records.
    pub fn new() -> Batch<'a> {
        Batch::default()
    }

    /// Adds a record of type 0.
    pub fn push(&mut self, payload: &'a [u8]) -> &mut Batch<'a> {
        self.push_typed(RecordType::DEFAULT, payload)
    }

    /// Adds a record.
    pub fn push_typed(&mut self, record_type: RecordType, payload: &'a [u8]) -> &mut Batch<'a> {
        self.records.push((record_type, payload));
        self
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// Where the records of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLsns {
    /// The LSN of the first record.
    pub first: Lsn,
    /// The LSN of the last record.
    pub last: Lsn,
    /// Where the last record ends: the batch is durable once the durable LSN reaches this.
    pub end: Lsn,
}

/// A record on its way into the queue; its payload is checksummed here, outside any lock.
pub(crate) fn input(record_type: RecordType, payload: &[u8]) -> Input<'_> {
    Input { record_type, payload, checksum: payload_checksum(payload) }
}

/// The records of a batch, which must have some.
pub(crate) fn batch_inputs<'a>(batch: &Batch<'a>) -> Result<Vec<Input<'a>>> {
    if batch.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "append batch", "it has no records"));
    }
    Ok(batch.records.iter().map(|(record_type, payload)| input(*record_type, payload)).collect())
}
