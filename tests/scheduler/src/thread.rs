//! Threads: tasks inside an execution, threads of the operating system outside.

use std::io;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};

use crate::execution::{self, Context, Status, joining, point};

pub use std::thread::Result;

/// Names a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadId(Id);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Id {
    Task(usize),
    Thread(std::thread::ThreadId),
}

/// A thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread(ThreadId);

impl Thread {
    /// What names it.
    pub fn id(&self) -> ThreadId {
        self.0
    }
}

/// The calling thread.
pub fn current() -> Thread {
    let id =
        execution::current().map_or_else(|| Id::Thread(std::thread::current().id()), |context| Id::Task(context.task));
    Thread(ThreadId(id))
}

/// Lets others go on.
#[track_caller]
pub fn yield_now() {
    match execution::current() {
        Some(_) => execution::yield_now(),
        None => std::thread::yield_now(),
    }
}

type Slot<T> = Arc<Mutex<Option<Result<T>>>>;

/// Where the result of a thread is collected.
pub struct JoinHandle<T>(Kind<T>);

enum Kind<T> {
    Task { context: Context, result: Slot<T> },
    Thread(std::thread::JoinHandle<T>),
}

impl<T> std::fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JoinHandle").field(&self.thread()).finish()
    }
}

impl<T> JoinHandle<T> {
    /// The thread.
    pub fn thread(&self) -> Thread {
        let id = match &self.0 {
            Kind::Task { context, .. } => Id::Task(context.task),
            Kind::Thread(thread) => Id::Thread(thread.thread().id()),
        };
        Thread(ThreadId(id))
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    ///
    /// What it panicked with.
    #[track_caller]
    pub fn join(self) -> Result<T> {
        let (Context { execution, task }, result) = match self.0 {
            Kind::Task { context, result } => (context, result),
            Kind::Thread(thread) => return thread.join(),
        };
        point("join");
        if !execution.is_finished(task) {
            let own = execution::current().expect("tasks are joined by tasks").task;
            let status = Status::Waiting { on: joining(task), until: None };
            execution.pass(own, status, "join", Location::caller());
        }
        let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.expect("a finished task has left its result")
    }
}

/// Starts threads with a name.
#[derive(Debug, Default)]
pub struct Builder {
    name: Option<String>,
}

impl Builder {
    /// For a thread without a name.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the thread.
    #[must_use]
    pub fn name(self, name: String) -> Builder {
        Builder { name: Some(name) }
    }

    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Outside of an execution, what the operating system says.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(self, run: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
        let Some(context) = execution::current() else {
            let name = self.name.unwrap_or_default();
            return std::thread::Builder::new().name(name).spawn(run).map(|thread| JoinHandle(Kind::Thread(thread)));
        };
        let result: Slot<T> = Arc::default();
        let kept = Arc::clone(&result);
        let keep = move |outcome| *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        let task = context.execution.spawn(self.name.unwrap_or_default(), Location::caller(), run, keep);
        point("spawn");
        Ok(JoinHandle(Kind::Task { context: Context { task, ..context }, result }))
    }
}

/// Starts a thread.
#[track_caller]
pub fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().spawn(run).expect("a thread can be started")
}
