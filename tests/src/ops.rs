//! What is done to a log.

/// The largest payload of the smallest segment.
pub const PAYLOAD_MAX: u16 = 8192 - 4096 - 24;

/// What is done to a log. Percentages choose a record: 0 is the oldest, 100 the end of what is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Appends a record with a payload of this size.
    Append(u16),
    /// The same, acknowledged when it is durable.
    AppendDurable(u16),
    /// The same, acknowledged when it is written.
    AppendWritten(u16),
    /// The same, with the use of the reserve.
    AppendReserve(u16),
    /// Appends a batch with payloads of these sizes.
    Batch(u16, u16, u16),
    /// Submits a record and keeps its ticket.
    Submit(u16),
    /// Submits a batch of three and keeps its ticket.
    SubmitBatch(u16),
    /// Waits for all tickets.
    Wait,
    /// Drops all tickets.
    DropTickets,
    /// Makes everything durable.
    Flush,
    /// Waits until the record chosen is durable.
    WaitDurable(u8),
    /// Turns the clock and does what is due.
    Poll,
    /// Fills the segment, so that the next one is begun.
    Rotate,
    /// Truncates before the record chosen, rewriting the boundary.
    Before(u8),
    /// The same in whole segments.
    BeforeWhole(u8),
    /// Cuts behind the record chosen.
    After(u8),
    /// Declares a checkpoint at the record chosen.
    Checkpoint(u8),
    /// Closes the log and opens it again.
    Reopen,
    /// Closes it.
    Close,
    /// Kills the process and opens the log again.
    Die,
    /// Crashes the machine with a random outcome and opens the log again.
    Crash(u64),
}

impl Op {
    /// The same with smaller payloads or another record, and simpler operations instead of it; the boldest first.
    pub fn simpler(self) -> Vec<Op> {
        let one = |size: u16, op: fn(u16) -> Op| smaller(size).into_iter().map(op).collect();
        match self {
            Op::Append(size) => one(size, Op::Append),
            Op::AppendDurable(size) => [vec![Op::Append(size)], one(size, Op::AppendDurable)].concat(),
            Op::AppendWritten(size) => [vec![Op::Append(size)], one(size, Op::AppendWritten)].concat(),
            Op::AppendReserve(size) => [vec![Op::Append(size)], one(size, Op::AppendReserve)].concat(),
            Op::Submit(size) => [vec![Op::Append(size)], one(size, Op::Submit)].concat(),
            Op::SubmitBatch(size) => [vec![Op::Batch(size, 0, size)], one(size, Op::SubmitBatch)].concat(),
            Op::Batch(a, b, c) => {
                let first = smaller(a).into_iter().map(|a| Op::Batch(a, b, c));
                let second = smaller(b).into_iter().map(|b| Op::Batch(a, b, c));
                let third = smaller(c).into_iter().map(|c| Op::Batch(a, b, c));
                [Op::Append(a.max(b).max(c))].into_iter().chain(first).chain(second).chain(third).collect()
            }
            Op::Rotate => vec![Op::Append(100)],
            Op::BeforeWhole(percent) => vec![Op::Before(percent)],
            Op::Reopen => vec![Op::Close],
            Op::Crash(_) => vec![Op::Die],
            _ => Vec::new(),
        }
    }
}

/// Nothing, and half of it.
fn smaller(size: u16) -> Vec<u16> {
    let mut sizes = vec![0, size / 2];
    sizes.dedup();
    sizes.retain(|smaller| *smaller < size);
    sizes
}
