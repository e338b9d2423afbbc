//! Ends the process if a test hangs, and says where.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);

#[derive(Debug)]
struct State {
    label: String,
    since: Instant,
    is_over: bool,
}

/// A thread that looks now and then whether the test goes on.
#[derive(Debug)]
pub struct Watchdog {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts to watch.
    pub fn start() -> Watchdog {
        let state = Arc::new(Mutex::new(State { label: String::new(), since: Instant::now(), is_over: false }));
        let watched = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            loop {
                std::thread::park_timeout(Duration::from_secs(1));
                let state = watched.lock().expect("the test does not panic with the lock");
                if state.is_over {
                    return;
                }
                if state.since.elapsed() > LIMIT {
                    eprintln!("hangs: {}", state.label);
                    std::process::abort();
                }
            }
        });
        Watchdog { state, thread: Some(thread) }
    }

    /// The test goes on, with this.
    pub fn beat(&self, label: impl FnOnce() -> String) {
        let mut state = self.state.lock().expect("the watching thread does not panic");
        state.label = label();
        state.since = Instant::now();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.is_over = true;
        }
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            drop(thread.join());
        }
    }
}
