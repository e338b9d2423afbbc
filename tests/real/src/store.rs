//! A recording in a file, so that a power cut that failed can be looked at again.
//!
//! A line of JSON says which blocks of the disk and which events follow; then come the blocks and the bytes of the writes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, StoredDisk};
use crate::stream::{Event, Stream};

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    disk: StoredDisk,
    disk_bytes: usize,
    /// Offset and length of each write; `None` for a flush.
    events: Vec<Option<(u64, usize)>>,
}

/// Writes a recording.
///
/// # Errors
///
/// What the operating system says.
pub fn write(path: &Path, stream: &Stream) -> io::Result<()> {
    let (disk, blocks) = stream.base.store();
    let events = stream.events.iter().map(|event| match event {
        Event::Write { offset, bytes } => Some((*offset, bytes.len())),
        Event::Flush => None,
    });
    let index = Index { disk, disk_bytes: blocks.len(), events: events.collect() };
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(&mut file, &index)?;
    file.write_all(b"\n")?;
    file.write_all(&blocks)?;
    for event in &stream.events {
        if let Event::Write { bytes, .. } = event {
            file.write_all(bytes)?;
        }
    }
    file.flush()
}

/// Reads a recording.
///
/// # Errors
///
/// What the operating system says, and that the file is none.
pub fn read(path: &Path) -> io::Result<Stream> {
    let mut file = BufReader::new(File::open(path)?);
    let mut line = String::new();
    file.read_line(&mut line)?;
    let index: Index = serde_json::from_str(&line)?;
    let mut blocks = vec![0; index.disk_bytes];
    file.read_exact(&mut blocks)?;
    let disk = Disk::restore(&index.disk, &blocks).ok_or_else(|| io::Error::other("this is no recording"))?;
    let mut events = Vec::new();
    for event in index.events {
        events.push(match event {
            None => Event::Flush,
            Some((offset, len)) => {
                let mut bytes = vec![0; len];
                file.read_exact(&mut bytes)?;
                Event::Write { offset, bytes }
            }
        });
    }
    Ok(Stream::of(disk, events))
}
