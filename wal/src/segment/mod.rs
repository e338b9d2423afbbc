//! Segments: numbered files that hold the frames.

pub(crate) mod chain;
pub(crate) mod header;
pub(crate) mod name;
pub(crate) mod reader;
pub(crate) mod writer;
