//! A promise to acknowledge a submitted record.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::lsn::Lsn;
use crate::shared::Shared;
use crate::watermark::{Action, Durability, Target, WakeSlot};

/// A submitted record, on its way to be acknowledged.
///
/// Wait for it ([`Ticket::wait`], [`Ticket::wait_timeout`]), `.await` it on any executor, give it a callback
/// ([`Ticket::on_complete`]), or look now and then ([`Ticket::outcome`]). Dropping it does not un-append the record.
#[derive(Debug)]
#[must_use = "a ticket that is dropped says nothing about its record; wait for it, or drop it on purpose"]
pub struct Ticket {
    shared: Arc<Shared>,
    lsn: Lsn,
    target: Target,
    group: u64,
    slot: Option<Arc<WakeSlot>>,
}

impl Ticket {
    pub(crate) fn new(shared: Arc<Shared>, lsn: Lsn, target: Target, group: u64) -> Ticket {
        Ticket { shared, lsn, target, group, slot: None }
    }

    /// The LSN of the record, or of the last record of the batch.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Where its frame ends: it is durable once the durable LSN reaches this.
    pub fn end(&self) -> Lsn {
        self.target.end
    }

    /// How safe the record is once the ticket is done.
    pub fn durability(&self) -> Durability {
        self.target.durability
    }

    /// What became of the record; `None` while it is under way.
    pub fn outcome(&self) -> Option<Result<Lsn>> {
        self.shared.commit.marks.outcome(self.target).map(|outcome| outcome.map(|()| self.lsn))
    }

    /// Waits until the record is acknowledged, helping to write if nobody does.
    ///
    /// # Errors
    ///
    /// [`Poisoned`](crate::ErrorKind::Poisoned) if a write or sync failed, [`Full`](crate::ErrorKind::Full) if the disk had no
    /// room for it.
    pub fn wait(&self) -> Result<Lsn> {
        self.shared.commit.wait_for(self.target, self.group).map(|()| self.lsn)
    }

    /// As [`Ticket::wait`], for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](crate::ErrorKind::TimedOut) if the time passes first; the record stays appended and may be waited for again.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Lsn> {
        let deadline = Instant::now().checked_add(timeout);
        self.shared.commit.wait_passively(self.target, deadline).map(|()| self.lsn)
    }

    /// Calls `callback` once the record is acknowledged or has failed: on the log's background thread, in LSN order, or in
    /// [`Wal::poll`](crate::Wal::poll) if the log has no background. It should not block for long, as others wait behind it.
    pub fn on_complete(self, callback: impl FnOnce(Result<Lsn>) + Send + 'static) {
        let lsn = self.lsn;
        let call = Box::new(move |outcome: Result<()>| callback(outcome.map(|()| lsn)));
        self.shared.commit.request(self.target);
        self.shared.commit.marks.register(self.target, Action::Call(call));
        if self.shared.is_stopping() {
            // The log is being closed or was, so the background may not come by any more.
            self.shared.run_callbacks();
        }
    }
}

impl Future for Ticket {
    type Output = Result<Lsn>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Lsn>> {
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        match &self.slot {
            Some(slot) => slot.set(context.waker()),
            None => {
                let slot = Arc::new(WakeSlot::default());
                slot.set(context.waker());
                self.slot = Some(Arc::clone(&slot));
                self.shared.commit.request(self.target);
                self.shared.commit.marks.register(self.target, Action::Wake(slot));
            }
        }
        // Between the first look and the waker's registration the record may have been acknowledged.
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Tells how far the log is durable, each time that changes.
#[derive(Debug)]
pub struct DurableSubscription {
    shared: Arc<Shared>,
    seen: Lsn,
    /// Where the latest waker is left, and for which durable LSN it was registered.
    slot: Option<(Arc<WakeSlot>, Lsn)>,
}

impl DurableSubscription {
    pub(crate) fn new(shared: Arc<Shared>) -> DurableSubscription {
        let seen = shared.commit.marks.durable();
        DurableSubscription { shared, seen, slot: None }
    }

    /// The durable LSN now.
    pub fn current(&self) -> Lsn {
        self.shared.commit.marks.durable()
    }

    fn changed_to(&mut self) -> Option<Result<Lsn>> {
        match self.shared.commit.marks.durable_past(self.seen) {
            Ok(false) => None,
            Ok(true) => {
                self.seen = self.current();
                Some(Ok(self.seen))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Leaves a waker to be woken when the durable LSN moves, once for each LSN however often it is asked for.
    fn register(&mut self, context: &Context<'_>) {
        if let Some((slot, lsn)) = &self.slot
            && *lsn == self.seen
        {
            return slot.set(context.waker());
        }
        let slot = Arc::new(WakeSlot::default());
        slot.set(context.waker());
        self.slot = Some((Arc::clone(&slot), self.seen));
        let target = Target { end: self.seen.advance(1), durability: Durability::Durable };
        self.shared.commit.marks.register(target, Action::Wake(slot));
    }

    /// Waits until the durable LSN is past the one last seen, and returns it.
    ///
    /// # Errors
    ///
    /// [`Poisoned`](crate::ErrorKind::Poisoned) if it can advance no more; [`Closed`](crate::ErrorKind::Closed) after the log was
    /// closed.
    pub fn recv(&mut self) -> Result<Lsn> {
        loop {
            if let Some(lsn) = self.recv_until(None)? {
                return Ok(lsn);
            }
        }
    }

    /// As [`DurableSubscription::recv`], `None` if `timeout` passes first.
    ///
    /// # Errors
    ///
    /// As [`DurableSubscription::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Lsn>> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Option<Lsn>> {
        let shared = Arc::clone(&self.shared);
        loop {
            let listener = shared.commit.marks.changed.listen();
            if let Some(outcome) = self.changed_to() {
                return outcome.map(Some);
            }
            self.shared.check_not_closed("subscribe to durable LSN")?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            listener.wait(deadline);
        }
    }

    /// Waits, without blocking a thread, until the durable LSN is past the one last seen, and returns it.
    ///
    /// # Errors
    ///
    /// As [`DurableSubscription::recv`].
    pub async fn changed(&mut self) -> Result<Lsn> {
        std::future::poll_fn(|context| {
            if let Some(outcome) = self.changed_to() {
                return Poll::Ready(outcome);
            }
            if let Err(error) = self.shared.check_not_closed("subscribe to durable LSN") {
                return Poll::Ready(Err(error));
            }
            self.register(context);
            if let Some(outcome) = self.changed_to() {
                return Poll::Ready(outcome);
            }
            // A close between the first look and the registration has woken everybody already.
            self.shared
                .check_not_closed("subscribe to durable LSN")
                .map_or_else(|e| Poll::Ready(Err(e)), |()| Poll::Pending)
        })
        .await
    }
}
