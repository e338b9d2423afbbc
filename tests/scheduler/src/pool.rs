//! Threads that run one task after another, because starting a thread takes longer than most executions.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// Idle threads. A task that never ends, because its execution failed, keeps its thread for ever.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    idle: Arc<Mutex<Vec<Sender<Job>>>>,
}

impl Pool {
    /// Runs `job` on a thread of its own.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut job: Job = Box::new(job);
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(worker) = idle else { break };
            match worker.send(job) {
                Ok(()) => return,
                Err(unsent) => job = unsent.0,
            }
        }
        let (sender, jobs) = channel::<Job>();
        // A weak handle: the threads end when the last execution has gone and with it the pool.
        let idle = Arc::downgrade(&self.idle);
        std::thread::spawn(move || {
            job();
            loop {
                let Some(idle) = idle.upgrade() else { return };
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender.clone());
                drop(idle);
                let Ok(job) = jobs.recv() else { return };
                job();
            }
        });
    }
}
