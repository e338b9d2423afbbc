//! What can be asked of a write: batches and options.

use wal::Durability;

use crate::tree::{Op, PutMode};

/// Changes that are made as one. Later ones see earlier ones: of two puts of a key the second counts.
#[derive(Clone, Debug, Default)]
pub struct Batch<'a> {
    pub(crate) ops: Vec<Op<'a>>,
}

impl<'a> Batch<'a> {
    /// A batch without changes.
    pub fn new() -> Batch<'a> {
        Batch::default()
    }

    /// Gives a key a value, whether it is there or not.
    pub fn put(&mut self, key: &'a [u8], value: &'a [u8]) -> &mut Batch<'a> {
        self.ops.push(Op::Put { key, value, mode: PutMode::Upsert });
        self
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, key: &'a [u8]) -> &mut Batch<'a> {
        self.ops.push(Op::Delete { key });
        self
    }

    /// How many changes it has.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// How one write differs from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub(crate) durability: Option<Durability>,
}

impl WriteOptions {
    /// Nothing differs.
    pub fn new() -> WriteOptions {
        WriteOptions::default()
    }

    /// The write is acknowledged when it is this safe, whatever the mode of the log.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> WriteOptions {
        self.durability = Some(durability);
        self
    }
}
