//! One log over a simulated file system: operations, and the model of what they promised.

use std::sync::Arc;
use std::time::Duration;

use wal::fs::sim::{CrashPlan, Fault, SimFs, errno};
use wal::{
    AppendOptions, Batch, Durability, Error, ErrorKind, Lsn, ManualClock, RecordType, Ticket, TruncatePolicy, Wal,
};

use crate::faulty::{CallSite, sites};
pub use crate::ops::{Op, PAYLOAD_MAX};
use crate::oracle::{Allowed, Death, Maybe, Model, Rec, frame_bytes};
use crate::recovery::{observe, open};
use crate::settings::Setup;

/// What one operation, or one part of it, did.
#[derive(Debug)]
pub struct Step {
    /// How many steps came before it.
    pub number: usize,
    /// What it was.
    pub label: String,
    /// The model before it.
    pub before: Model,
    /// The model after it.
    pub after: Model,
    /// Its calls: from the first to before the last.
    pub calls: std::ops::Range<u64>,
    /// The file system before each call that it made.
    pub points: Vec<(u64, SimFs)>,
    /// The file system after its last call.
    pub end: SimFs,
}

/// A log and its model.
#[derive(Debug)]
pub struct Run {
    /// The settings.
    pub setup: Setup,
    /// The file system.
    pub fs: SimFs,
    /// The clock of the log.
    pub clock: Arc<ManualClock>,
    /// The open log.
    pub log: Option<Wal>,
    /// What was promised.
    pub model: Model,
    /// What was done.
    pub steps: Vec<Step>,
    /// Whether crash points are kept.
    pub keeps_points: bool,
    /// The error numbers that are planned; without one no operation may fail.
    pub planned_errnos: Vec<i32>,
    /// The first cause of the poison.
    pub poison: Option<String>,
    /// Whether calls are recorded.
    pub traces: bool,
    /// Faults, each for the file system of one process, counted from 0.
    pub faults: Vec<(u64, Fault)>,
    /// No process makes more calls.
    pub calls_max: Option<u64>,
    /// How many processes there were before this one.
    pub process: u64,
    /// Operations refused because the disk is full.
    pub full_refusals: u64,
    steps_done: usize,
    sites: Vec<CallSite>,
    tickets: Vec<(Ticket, u64)>,
    counter: u64,
}

type Outcome = Result<(), String>;

impl Run {
    /// A run of operations that must all work.
    ///
    /// # Panics
    ///
    /// If one breaks a promise.
    #[track_caller]
    pub fn through(setup: &Setup, ops: &[Op]) -> Run {
        let mut run = Run::new(setup);
        for op in ops {
            run.apply(*op).unwrap_or_else(|why| panic!("{op:?}: {why}"));
        }
        run
    }

    /// A run without a log yet.
    pub fn new(setup: &Setup) -> Run {
        let fs = SimFs::with_config(setup.sim.clone());
        Run {
            setup: setup.clone(),
            fs,
            clock: Arc::default(),
            log: None,
            model: Model { start: Lsn::FIRST.get(), handed: Lsn::FIRST.get(), ..Model::default() },
            steps: Vec::new(),
            keeps_points: false,
            planned_errnos: Vec::new(),
            poison: None,
            traces: false,
            faults: Vec::new(),
            calls_max: None,
            process: 0,
            full_refusals: 0,
            steps_done: 0,
            sites: Vec::new(),
            tickets: Vec::new(),
            counter: 0,
        }
    }

    /// Does an operation. The error says which promise was broken.
    pub fn apply(&mut self, op: Op) -> Outcome {
        if self.poison.is_some() && !matches!(op, Op::Die | Op::Crash(_) | Op::Reopen) {
            return self.check_poisoned();
        }
        if self.log.is_none() && !matches!(op, Op::Die | Op::Crash(_)) {
            self.step("open", Run::open)?;
        }
        match op {
            Op::Reopen => {
                self.step("close", Run::close)?;
                self.step("open", Run::open)
            }
            Op::Die => {
                self.end_process();
                self.move_to(self.fs.kill());
                self.step("open after the death of the process", |run| run.recover(Death::Process))
            }
            Op::Crash(seed) => {
                self.end_process();
                let plan = CrashPlan::random(seed);
                let plan = if self.setup.torn_sectors { plan.with_torn_sectors() } else { plan };
                self.move_to(self.fs.crash(&plan));
                self.model.written = self.model.durable;
                self.step("open after a crash", |run| run.recover(Death::Machine))
            }
            _ if self.log.is_none() => Ok(()),
            _ => self.step(&format!("{op:?}"), |run| run.apply_open(op)),
        }
        .map_err(|why| format!("{op:?}: {why}"))
    }

    fn step(&mut self, label: &str, act: impl FnOnce(&mut Run) -> Outcome) -> Outcome {
        self.fs.keep_crash_points(self.keeps_points);
        let before = self.model.clone();
        let first_call = self.fs.calls();
        let result = act(self);
        if result.is_ok() {
            self.look_at_marks()?;
        }
        let points = self.fs.take_crash_points();
        self.fs.keep_crash_points(false);
        if self.keeps_points {
            let calls = first_call..self.fs.calls();
            let (label, after, end) = (label.to_owned(), self.model.clone(), self.fs.kill());
            self.steps.push(Step { number: self.steps_done, label, before, after, calls, points, end });
        }
        self.steps_done += 1;
        result
    }

    fn apply_open(&mut self, op: Op) -> Outcome {
        match op {
            Op::Append(size) => self.append(&[size], AppendOptions::new()),
            Op::AppendDurable(size) => self.append(&[size], AppendOptions::new().durability(Durability::Durable)),
            Op::AppendWritten(size) => self.append(&[size], AppendOptions::new().durability(Durability::Written)),
            Op::AppendReserve(size) => self.append(&[size], AppendOptions::new().use_reserve()),
            Op::Batch(a, b, c) => self.append(&[a, b, c], AppendOptions::new()),
            Op::Submit(size) => self.submit(&[size]),
            Op::SubmitBatch(size) => self.submit(&[size, 0, size]),
            Op::Wait => self.wait(),
            Op::DropTickets => {
                self.tickets.clear();
                Ok(())
            }
            Op::Flush => self.flush(),
            Op::WaitDurable(percent) => self.wait_durable(percent),
            Op::Poll => {
                self.clock.advance(Duration::from_millis(25));
                let result = self.log().poll();
                self.expect("poll", result).map(drop)
            }
            Op::Rotate => self.append(&[PAYLOAD_MAX], AppendOptions::new()),
            Op::Before(percent) => self.truncate_before(percent, TruncatePolicy::RewriteBoundary),
            Op::BeforeWhole(percent) => self.truncate_before(percent, TruncatePolicy::WholeSegments),
            Op::After(percent) => self.truncate_after(percent),
            Op::Checkpoint(percent) => self.checkpoint(percent),
            Op::Close => self.close(),
            Op::Reopen | Op::Die | Op::Crash(_) => unreachable!("done by the caller"),
        }
    }

    /// The open log.
    pub fn log(&self) -> &Wal {
        self.log.as_ref().expect("it is open")
    }

    fn payloads(&mut self, sizes: &[u16]) -> Maybe {
        let one = |size: &u16| {
            self.counter += 1;
            let mut rng = crate::rng::Rng::new(self.counter);
            let mut payload: Vec<u8> =
                (0..usize::from(*size).div_ceil(8)).flat_map(|_| rng.number().to_le_bytes()).collect();
            payload.truncate(usize::from(*size));
            ((self.counter % 7) as u16, payload.into())
        };
        sizes.iter().map(one).collect()
    }

    fn append(&mut self, sizes: &[u16], options: AppendOptions) -> Outcome {
        let batch = self.payloads(sizes);
        let durability = self.durability_of(&options);
        let result = match &batch[..] {
            [(record_type, payload)] => self.log().append_with(payload, options.record_type(kind(*record_type))),
            _ => self.log().append_all(&as_batch(&batch), options).map(|lsns| lsns.first),
        };
        match result {
            Ok(lsn) => {
                let end = self.note_appended(&batch, lsn.get())?;
                self.model.written = self.model.written.max(end);
                if durability == Durability::Durable {
                    self.model.durable = self.model.durable.max(end);
                }
                Ok(())
            }
            Err(error) => self.append_failed(batch, error),
        }
    }

    fn durability_of(&self, options: &AppendOptions) -> Durability {
        if *options == AppendOptions::new().durability(Durability::Durable) {
            return Durability::Durable;
        }
        let is_default = *options != AppendOptions::new().durability(Durability::Written);
        let is_sync = self.setup.config.sync_mode == wal::SyncMode::Sync;
        if is_default && is_sync { Durability::Durable } else { Durability::Written }
    }

    fn append_failed(&mut self, batch: Maybe, error: Error) -> Outcome {
        // A refused append leaves nothing; one that a failure met may be there or not.
        if self.fail("append", &error)? {
            self.model.maybe.push(batch);
        }
        Ok(())
    }

    fn note_appended(&mut self, batch: &[(u16, Arc<[u8]>)], first: u64) -> Result<u64, String> {
        if first < self.model.handed {
            return Err(format!("LSN {first} is handed out, although {} was already", self.model.handed));
        }
        let mut lsn = first;
        for (index, (record_type, payload)) in batch.iter().enumerate() {
            let ends_batch = index + 1 == batch.len();
            self.model.records.push(Rec { lsn, record_type: *record_type, payload: Arc::clone(payload), ends_batch });
            lsn += frame_bytes(payload.len());
        }
        self.model.handed = lsn;
        Ok(lsn)
    }

    fn submit(&mut self, sizes: &[u16]) -> Outcome {
        let batch = self.payloads(sizes);
        let result = match &batch[..] {
            [(record_type, payload)] => {
                self.log().submit_with(payload, AppendOptions::new().record_type(kind(*record_type)))
            }
            _ => self.log().submit_all(&as_batch(&batch), AppendOptions::new()),
        };
        match result {
            Ok(ticket) => {
                let first =
                    ticket.end().get() - batch.iter().map(|(_, payload)| frame_bytes(payload.len())).sum::<u64>();
                self.note_appended(&batch, first)?;
                self.tickets.push((ticket, first));
                Ok(())
            }
            Err(error) => self.append_failed(batch, error),
        }
    }

    fn wait(&mut self) -> Outcome {
        for (ticket, first) in std::mem::take(&mut self.tickets) {
            let (end, durability) = (ticket.end().get(), ticket.durability());
            match ticket.wait() {
                Ok(_) if durability == Durability::Durable => self.model.durable = self.model.durable.max(end),
                Ok(_) => self.model.written = self.model.written.max(end),
                Err(error) => {
                    if !self.fail("wait", &error)? {
                        self.forget(first, end);
                    }
                }
            }
        }
        Ok(())
    }

    /// The records in this range were refused.
    fn forget(&mut self, first: u64, end: u64) {
        self.model.records.retain(|record| record.lsn < first || record.lsn >= end);
    }

    fn flush(&mut self) -> Outcome {
        // What a full disk refused was refused before.
        let result = self.log().flush();
        if let Some(durable) = self.expect("flush", result)? {
            self.drop_refused_tickets();
            if let Some(last) = self.model.records.last()
                && last.end() > durable.get()
            {
                return Err(format!("flush says {durable}, the last record ends at {}", last.end()));
            }
        }
        Ok(())
    }

    fn drop_refused_tickets(&mut self) {
        let refused = |(ticket, _): &&(Ticket, u64)| matches!(ticket.outcome(), Some(Err(error)) if error.is_full());
        let ranges: Vec<(u64, u64)> =
            self.tickets.iter().filter(refused).map(|(ticket, first)| (*first, ticket.end().get())).collect();
        ranges.into_iter().for_each(|(first, end)| self.forget(first, end));
    }

    fn wait_durable(&mut self, percent: u8) -> Outcome {
        let lsn = self.choose(percent);
        if lsn >= self.log().next_lsn() || !self.model.records.iter().any(|record| record.lsn == lsn.get()) {
            return Ok(());
        }
        let result = self.log().wait_durable(lsn);
        match self.expect("wait_durable", result)? {
            Some(durable) if durable <= lsn => Err(format!("waited for {lsn}, durable is {durable}")),
            _ => Ok(()),
        }
    }

    /// The LSN of a record of the log, or its durable end.
    fn choose(&self, percent: u8) -> Lsn {
        let records = self.visible();
        let index = records.len() * usize::from(percent) / 100;
        records.get(index).map_or_else(|| self.log().durable_lsn(), |record| Lsn::new(record.lsn))
    }

    fn visible(&self) -> &[Rec] {
        let start = self.model.start;
        let hidden = self.model.records.iter().take_while(|record| record.lsn < start).count();
        &self.model.records[hidden..]
    }

    fn truncate_before(&mut self, percent: u8, policy: TruncatePolicy) -> Outcome {
        let (lsn, old) = (self.choose(percent), self.model.start);
        match self.log().truncate_before_with(lsn, policy) {
            Ok(truncation) => {
                let start = truncation.start_lsn.get();
                let is_right = match policy {
                    TruncatePolicy::RewriteBoundary => {
                        self.visible().iter().find(|r| r.lsn >= start).map(|r| r.lsn)
                            == self.visible().iter().find(|r| r.lsn >= lsn.get()).map(|r| r.lsn)
                    }
                    TruncatePolicy::WholeSegments => start <= lsn.get(),
                };
                if !is_right || start < old || start != self.log().start_lsn().get() {
                    return Err(format!("truncate before {lsn}: the log starts at {start}, before it was {old}"));
                }
                self.model.start = start;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Refused => self.check_refused_start(lsn, &error),
            Err(error) => {
                let is_poisoned = self.fail("truncate before", &error)?;
                let start = self.log().start_lsn().get();
                if is_poisoned || self.is_poisoned() {
                    self.model.start_alt = Some((old, lsn.get().max(old)));
                } else if (old..=lsn.get().max(old)).contains(&start) {
                    self.model.start = start;
                } else {
                    return Err(format!("failed to truncate before {lsn}, the log starts at {start}"));
                }
                Ok(())
            }
        }
    }

    fn check_refused_start(&self, lsn: Lsn, error: &Error) -> Outcome {
        let is_past = |limit: Option<Lsn>| limit.is_some_and(|limit| lsn > limit);
        if is_past(Some(self.log().durable_lsn())) || is_past(self.log().checkpoint_lsn()) {
            return Ok(());
        }
        Err(format!("refused without reason: {error:?}"))
    }

    fn truncate_after(&mut self, percent: u8) -> Outcome {
        let lsn = self.choose(percent);
        let kept = self.model.records.iter().take_while(|record| record.lsn <= lsn.get()).count();
        match self.log().truncate_after(lsn) {
            Ok(truncation) => {
                if truncation.next_lsn.get() < self.model.handed {
                    return Err(format!(
                        "a cut goes on at {}, {} was handed out",
                        truncation.next_lsn, self.model.handed
                    ));
                }
                self.model.records.truncate(kept);
                if let Some(last) = self.model.records.last_mut() {
                    last.ends_batch = true;
                }
                self.model.durable = self.model.durable.max(truncation.next_lsn.get());
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Refused => {
                let is_before = self.log().checkpoint_lsn().is_some_and(|checkpoint| lsn < checkpoint);
                if is_before { Ok(()) } else { Err(format!("refused without reason: {error:?}")) }
            }
            Err(error) => {
                if self.fail("truncate after", &error)? || self.is_poisoned() {
                    self.model.count_alt = Some(kept);
                }
                Ok(())
            }
        }
    }

    fn checkpoint(&mut self, percent: u8) -> Outcome {
        let lsn = self.choose(percent);
        match self.log().declare_checkpoint(lsn) {
            Ok(()) => {
                self.model.checkpoint = Some(lsn.get().max(self.model.checkpoint.unwrap_or(0)));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Refused && lsn > self.log().durable_lsn() => Ok(()),
            Err(error) => {
                if self.fail("declare checkpoint", &error)? || self.is_poisoned() {
                    self.model.checkpoint_alt = Some(lsn.get());
                }
                Ok(())
            }
        }
    }

    fn close(&mut self) -> Outcome {
        let Some(log) = &self.log else { return Ok(()) };
        let result = log.close();
        self.drop_refused_tickets();
        if self.expect("close", result)?.is_some() {
            self.model.durable = self.model.durable.max(self.model.handed);
        }
        self.tickets.clear();
        self.log = None;
        self.poison = None;
        Ok(())
    }

    fn open(&mut self) -> Outcome {
        match open(&self.fs, &self.setup, &self.clock) {
            Ok(log) => {
                self.log = Some(log);
                self.learn(Death::Process)
            }
            Err(error) => self.fail("open", &error).map(drop),
        }
    }

    fn recover(&mut self, death: Death) -> Outcome {
        let log = match open(&self.fs, &self.setup, &self.clock) {
            Ok(log) => log,
            Err(error) => return self.fail("open", &error).map(drop),
        };
        self.log = Some(log);
        self.learn(death)
    }

    /// Compares the log that was just opened with the model, and takes over what it holds.
    fn learn(&mut self, death: Death) -> Outcome {
        let observed = match observe(self.log()) {
            Ok(observed) => observed,
            Err(error) => {
                self.fail("read", &error)?;
                self.log = None;
                return Ok(());
            }
        };
        let allowed = Allowed::between(&self.model, &self.model, death);
        allowed.check(&observed)?;
        let only = allowed.exactly(&observed);
        let mut records = only.into_records();
        for record in &mut records {
            let known = self.model.records.iter().find(|known| known.lsn == record.lsn);
            record.ends_batch = known.is_none_or(|known| known.ends_batch);
        }
        if let Some(last) = records.last_mut() {
            last.ends_batch = true;
        }
        let end = records.last().map_or(0, Rec::end);
        self.model = Model {
            records,
            start: observed.start,
            durable: self.model.durable.max(end),
            written: self.model.written.max(end),
            handed: self.model.handed.max(end),
            checkpoint: observed.checkpoint,
            ..Model::default()
        };
        Ok(())
    }

    fn look_at_marks(&mut self) -> Outcome {
        self.drop_refused_tickets();
        let Some(log) = &self.log else { return Ok(()) };
        let (durable, written) = (log.durable_lsn().get(), log.written_lsn().get());
        if durable > written {
            return Err(format!("durable is {durable}, written is {written}"));
        }
        if self.model.durable > durable && self.model.records.last().is_some_and(|last| last.end() > durable) {
            return Err(format!("acknowledged up to {}, the durable LSN is {durable}", self.model.durable));
        }
        self.model.durable = self.model.durable.max(durable);
        self.model.written = self.model.written.max(written);
        Ok(())
    }

    fn end_process(&mut self) {
        self.fs.keep_crash_points(false);
        self.fs.crash_at(self.fs.calls());
        self.tickets.clear();
        self.log = None;
        self.poison = None;
    }

    fn move_to(&mut self, fs: SimFs) {
        self.note_sites();
        self.fs = fs;
        self.process += 1;
        self.fs.record_trace(self.traces);
        self.plan_faults();
    }

    fn note_sites(&mut self) {
        if self.traces {
            self.sites.extend(sites(self.process, &self.fs.take_trace()));
        }
    }

    /// The calls of all processes since this was asked, if they were traced.
    pub fn take_sites(&mut self) -> Vec<CallSite> {
        self.note_sites();
        std::mem::take(&mut self.sites)
    }

    /// Plans the faults of the process that begins.
    pub fn plan_faults(&self) {
        let own = self.faults.iter().filter(|(process, _)| *process == self.process);
        own.for_each(|(_, fault)| self.fs.plan(fault.clone()));
        if let Some(calls) = self.calls_max {
            self.fs.crash_at(calls);
        }
    }

    /// Whether the log says that it is poisoned.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    fn expect<T>(&mut self, what: &str, result: wal::Result<T>) -> Result<Option<T>, String> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.fail(what, &error).map(|_| None),
        }
    }

    /// Looks at a failure. `true` if the outcome of the operation is unknown, because the log is poisoned.
    fn fail(&mut self, what: &str, error: &Error) -> Result<bool, String> {
        if self.planned_errnos.is_empty() {
            return Err(format!("{what} failed: {error:?}"));
        }
        let errno = error.io_error().and_then(std::io::Error::raw_os_error);
        if !errno.is_some_and(|errno| self.planned_errnos.contains(&errno)) {
            return Err(format!("{what} failed, but not with the cause that was planned: {error:?}"));
        }
        match error.kind() {
            ErrorKind::Full if !errno.is_some_and(is_full) => {
                return Err(format!("{what}: no disk is full: {error:?}"));
            }
            ErrorKind::Full => self.full_refusals += 1,
            ErrorKind::Io | ErrorKind::Poisoned => {}
            kind => return Err(format!("{what} failed as {kind:?}: {error:?}")),
        }
        if let Some(log) = &self.log {
            self.note_poison(&log.clone())?;
        }
        if error.is_poisoned() && self.log.is_some() {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            if self.poison.is_none() || self.poison != cause {
                return Err(format!("{what} says {error:?}; the log is poisoned by {:?}", self.poison));
            }
        }
        Ok(error.is_poisoned())
    }

    fn note_poison(&mut self, log: &Wal) -> Outcome {
        if let Err(error) = log.poll() {
            let first = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            if !error.is_poisoned() || self.poison.as_ref().is_some_and(|known| *known != first) {
                return Err(format!("the first cause was {:?}, now it is {error:?}", self.poison));
            }
            self.poison = Some(first);
        }
        Ok(())
    }

    /// Everything fails with the first cause.
    fn check_poisoned(&mut self) -> Outcome {
        let Some(log) = self.log.clone() else { return Ok(()) };
        let first = self.poison.clone().unwrap_or_default();
        let failures = [
            ("append", log.append(b"never").map(drop)),
            ("flush of a new record", log.submit(b"never").map(drop)),
            ("truncate", log.truncate_before(Lsn::new(self.model.start)).map(drop)),
            ("cut", log.truncate_after(Lsn::new(self.model.start)).map(drop)),
            ("checkpoint", log.declare_checkpoint(Lsn::new(self.model.start)).map(drop)),
            ("poll", log.poll()),
        ];
        for (what, result) in failures {
            let Err(error) = result else { return Err(format!("{what} works on a poisoned log")) };
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            if !error.is_poisoned() || cause.as_deref() != Some(&first) {
                return Err(format!("{what} on a poisoned log: {error:?}; the first cause was {first}"));
            }
        }
        Ok(())
    }
}

fn is_full(number: i32) -> bool {
    matches!(number, errno::ENOSPC | errno::EDQUOT | errno::EFBIG)
}

fn kind(number: u16) -> RecordType {
    RecordType::new(number).expect("a small number")
}

fn as_batch(records: &[(u16, Arc<[u8]>)]) -> Batch<'_> {
    let mut batch = Batch::new();
    for (record_type, payload) in records {
        batch.push_typed(kind(*record_type), payload);
    }
    batch
}
