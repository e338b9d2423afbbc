//! One execution: its tasks, whose turn it is, and what each of them waits for.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::pool::Pool;
use crate::strategy::{Choice, Strategy};

/// How many of the last points a failure shows.
const TRACE_POINTS: usize = 40;

/// What a task dies of that a test kills with [`die`]: every other panic fails the execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Died;

/// Unwinds the calling task. The execution goes on, and whoever joins the task gets [`Died`].
pub fn die() -> ! {
    std::panic::resume_unwind(Box::new(Died))
}

/// Whether the caller is a task of an execution.
pub fn is_scheduled() -> bool {
    current().is_some()
}

/// How much time has passed in the execution. It passes only when a task waits with a timeout.
pub fn now() -> Duration {
    current().map_or(Duration::ZERO, |context| context.execution.lock().now)
}

/// A choice of the test that is part of the schedule: a number below `options`. Outside of an execution it is 0.
pub fn pick(options: usize) -> usize {
    current().map_or(0, |context| context.execution.lock().strategy.pick(options))
}

/// How an execution ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All tasks are finished.
    Finished {
        points: u64,
        trail: Vec<Choice>,
    },
    Failed {
        message: String,
        trail: Vec<Choice>,
    },
}

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// The execution and the task that a thread runs.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) execution: Arc<Execution>,
    pub(crate) task: usize,
}

pub(crate) fn current() -> Option<Context> {
    // Destructors of the thread's own storage may come too late for it.
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Lets the scheduler choose who goes on. Called before everything that another task could see; `doing` says what that is.
#[track_caller]
pub fn point(doing: &'static str) {
    if let Some(context) = current() {
        context.execution.pass(context.task, Status::Ready, doing, Location::caller());
    }
}

/// As [`point`], from a task that can only wait for others.
#[track_caller]
pub(crate) fn yield_now() {
    if let Some(context) = current() {
        context.execution.lock().strategy.yields(context.task);
        context.execution.pass(context.task, Status::Ready, "yield", Location::caller());
    }
}

/// The permission to run, passed from task to task.
#[derive(Debug, Default)]
struct Turn {
    is_given: AtomicBool,
    thread: OnceLock<std::thread::Thread>,
}

impl Turn {
    fn give(&self) {
        self.is_given.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn wait(&self) {
        // Whoever gives the turn before the thread is known here finds nobody to wake, but is seen by the first look.
        self.thread.get_or_init(std::thread::current);
        while !self.is_given.swap(false, Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ready,
    /// For `on`, an address or the like, until a moment of the execution's time.
    Waiting {
        on: usize,
        until: Option<Duration>,
    },
    Finished,
}

struct Task {
    name: String,
    status: Status,
    has_timed_out: bool,
    turn: Arc<Turn>,
    doing: &'static str,
    at: &'static Location<'static>,
}

pub(crate) struct State {
    tasks: Vec<Task>,
    pub(crate) strategy: Box<dyn Strategy>,
    points: u64,
    points_max: u64,
    now: Duration,
    trace: VecDeque<(usize, &'static str, &'static Location<'static>)>,
    has_ended: bool,
}

/// One run of a test under one strategy.
pub(crate) struct Execution {
    state: Mutex<State>,
    pool: Pool,
    outcome: Sender<Outcome>,
}

enum Next {
    Task(Arc<Turn>),
    Same,
    Over,
}

impl Execution {
    /// Runs `root` as the first task. The outcome is sent once all tasks are finished, or one of them failed.
    #[track_caller]
    pub(crate) fn start(
        pool: Pool,
        strategy: Box<dyn Strategy>,
        points_max: u64,
        outcome: Sender<Outcome>,
        root: impl FnOnce() + Send + 'static,
    ) {
        let state = State {
            tasks: Vec::new(),
            strategy,
            points: 0,
            points_max,
            now: Duration::ZERO,
            trace: VecDeque::with_capacity(TRACE_POINTS),
            has_ended: false,
        };
        let execution = Arc::new(Execution { state: Mutex::new(state), pool, outcome });
        let task = execution.spawn("root".to_owned(), Location::caller(), root, drop);
        let turn = Arc::clone(&execution.lock().tasks[task].turn);
        turn.give();
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task, which runs when it is given its turn. `keep` gets what became of it, before anybody who joins it goes on.
    pub(crate) fn spawn<T: Send + 'static>(
        self: &Arc<Execution>,
        name: String,
        at: &'static Location<'static>,
        run: impl FnOnce() -> T + Send + 'static,
        keep: impl FnOnce(Result<T, Box<dyn Any + Send>>) + Send + 'static,
    ) -> usize {
        let turn = Arc::new(Turn::default());
        let mut state = self.lock();
        let id = state.tasks.len();
        let turn_of_task = Arc::clone(&turn);
        state.tasks.push(Task { name, status: Status::Ready, has_timed_out: false, turn, doing: "start", at });
        drop(state);
        let execution = Arc::clone(self);
        self.pool.run(move || {
            turn_of_task.wait();
            let context = Context { execution: Arc::clone(&execution), task: id };
            CURRENT.set(Some(context));
            let result = catch_unwind(AssertUnwindSafe(run));
            if let Err(panic) = &result
                && !panic.is::<Died>()
            {
                execution.fail(&format!("task {id} panicked: {}", message_of(&**panic)));
            }
            keep(result);
            CURRENT.set(None);
            execution.finish(id);
        });
        id
    }

    /// Passes the turn on, if the strategy says so, and returns when the task has it again. Returns whether a timeout passed.
    pub(crate) fn pass(
        &self,
        task: usize,
        status: Status,
        doing: &'static str,
        at: &'static Location<'static>,
    ) -> bool {
        let mut state = self.lock();
        let mine = &mut state.tasks[task];
        (mine.status, mine.doing, mine.at, mine.has_timed_out) = (status, doing, at, false);
        if state.trace.len() == TRACE_POINTS {
            state.trace.pop_front();
        }
        state.trace.push_back((task, doing, at));
        state.points += 1;
        if state.points > state.points_max {
            let points_max = state.points_max;
            drop(state);
            self.fail(&format!("no end after {points_max} points"));
        }
        let next = state.next(task);
        let own = Arc::clone(&state.tasks[task].turn);
        drop(state);
        match next {
            Ok(Next::Same) => {}
            Ok(Next::Task(turn)) => {
                turn.give();
                own.wait();
            }
            Ok(Next::Over) => unreachable!("a task that passes the turn is not finished"),
            Err(message) => self.fail(&message),
        }
        self.lock().tasks[task].has_timed_out
    }

    fn finish(&self, task: usize) {
        let mut state = self.lock();
        state.tasks[task].status = Status::Finished;
        state.wake(joining(task), usize::MAX);
        let next = state.next(task);
        match next {
            Ok(Next::Task(turn)) => {
                drop(state);
                turn.give();
            }
            Ok(Next::Same) => unreachable!("a finished task has no turn"),
            Ok(Next::Over) => {
                state.has_ended = true;
                let outcome = Outcome::Finished { points: state.points, trail: state.strategy.trail() };
                drop(state);
                drop(self.outcome.send(outcome));
            }
            Err(message) => {
                drop(state);
                self.fail(&message)
            }
        }
    }

    /// Ends the execution. The thread of each task stays where it is, for ever: there is no way to end it that its destructors would
    /// not notice.
    fn fail(&self, message: &str) -> ! {
        let mut state = self.lock();
        if !state.has_ended {
            state.has_ended = true;
            let outcome = Outcome::Failed { message: state.describe(message), trail: state.strategy.trail() };
            // Nobody waits for it if the explorer has given up.
            drop(self.outcome.send(outcome));
        }
        drop(state);
        loop {
            std::thread::park();
        }
    }

    pub(crate) fn is_finished(&self, task: usize) -> bool {
        self.lock().tasks[task].status == Status::Finished
    }
}

/// What those wait on who join a task.
pub(crate) fn joining(task: usize) -> usize {
    // Odd, so no address of a lock.
    task * 2 + 1
}

impl State {
    /// Lets at most `count` of those go on who wait on `on`.
    pub(crate) fn wake(&mut self, on: usize, count: usize) {
        let mut waiting: Vec<usize> =
            (0..self.tasks.len()).filter(|&task| self.tasks[task].status.waits_on(on)).collect();
        while waiting.len() > count {
            let kept = self.strategy.pick(waiting.len());
            waiting.remove(kept);
        }
        waiting.into_iter().for_each(|task| self.tasks[task].status = Status::Ready);
    }

    fn next(&mut self, current: usize) -> Result<Next, String> {
        let mut ready: Vec<usize> = self.ready();
        if ready.is_empty() || (self.has_timeout() && self.strategy.lets_time_pass()) {
            self.let_time_pass();
            ready = self.ready();
        }
        if ready.is_empty() {
            let is_over = self.tasks.iter().all(|task| task.status == Status::Finished);
            return if is_over { Ok(Next::Over) } else { Err("nobody can go on".to_owned()) };
        }
        let place = ready.iter().position(|&task| task == current);
        let chosen = if ready.len() == 1 { 0 } else { self.strategy.next(place, &ready) };
        if ready[chosen] == current {
            return Ok(Next::Same);
        }
        Ok(Next::Task(Arc::clone(&self.tasks[ready[chosen]].turn)))
    }

    fn ready(&self) -> Vec<usize> {
        (0..self.tasks.len()).filter(|&task| self.tasks[task].status == Status::Ready).collect()
    }

    fn has_timeout(&self) -> bool {
        self.tasks.iter().any(|task| task.status.until().is_some())
    }

    /// The timeout that is over first is over now.
    fn let_time_pass(&mut self) {
        let Some(first) = self.tasks.iter().filter_map(|task| task.status.until()).min() else { return };
        self.now = self.now.max(first);
        let task = self.tasks.iter_mut().find(|task| task.status.until() == Some(first)).expect("just seen");
        task.status = Status::Ready;
        task.has_timed_out = true;
    }

    fn describe(&self, message: &str) -> String {
        let mut text = format!("{message}\ntasks:\n");
        for (id, task) in self.tasks.iter().enumerate() {
            writeln!(text, "  {id} {:<16} {:?}, {} at {}", task.name, task.status, task.doing, task.at)
                .expect("a string takes everything");
        }
        text.push_str("last points:\n");
        for (task, doing, at) in &self.trace {
            writeln!(text, "  {task} {doing:<8} {at}").expect("a string takes everything");
        }
        text
    }
}

impl Status {
    fn waits_on(self, wanted: usize) -> bool {
        matches!(self, Status::Waiting { on, .. } if on == wanted)
    }

    fn until(self) -> Option<Duration> {
        if let Status::Waiting { until, .. } = self { until } else { None }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "with something else than text".to_owned())
}
