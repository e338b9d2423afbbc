//! Many executions of one test.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::execution::{Execution, Outcome};
use crate::pool::Pool;
use crate::strategy::{Choice, Priorities, RandomWalk, Strategy, Systematic};

/// An execution that takes longer waits for something that the scheduler does not know of.
const EXECUTION_MAX: Duration = Duration::from_secs(300);
const POINTS_MAX: u64 = 200_000;
/// How many more executions the long form has.
const DEEP: u64 = 20;

/// Explores the interleavings of a test.
///
/// `WAL_TEST_SEED` repeats one seed, `WAL_TEST_SCHEDULE` one schedule, both as a failure names them; `WAL_TEST_DEEP=1` explores twenty
/// times as much.
#[derive(Clone, Debug)]
pub struct Explorer {
    name: String,
    seeds: u64,
    preemptions_max: u32,
    executions_max: u64,
}

/// What was explored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Executions.
    pub executions: u64,
    /// Points at which another task could have gone on.
    pub points: u64,
    /// Whether all executions with at most so many preemptions were tried, if that was asked for.
    pub is_exhaustive: bool,
}

/// An execution that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    name: String,
    /// How to repeat it.
    repeat: String,
    message: String,
    /// Executions until then.
    pub executions: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { name, repeat, message, executions } = self;
        write!(f, "{name}: execution {executions} failed; {repeat} repeats it\n{message}")
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, it must be a number")))
}

impl Explorer {
    /// Explores nothing yet.
    pub fn new(name: &str) -> Explorer {
        Explorer { name: name.to_owned(), seeds: 0, preemptions_max: 0, executions_max: 0 }
    }

    /// So many executions by seeds: random walks and random priorities in turn.
    #[must_use]
    pub fn seeds(self, seeds: u64) -> Explorer {
        Explorer { seeds, ..self }
    }

    /// All executions in which at most `max` times a task loses its turn that could have gone on, but no more than `executions_max`.
    #[must_use]
    pub fn preemptions(self, max: u32, executions_max: u64) -> Explorer {
        Explorer { preemptions_max: max, executions_max, ..self }
    }

    /// Explores, and panics at the first failure.
    #[track_caller]
    pub fn check(&self, test: impl Fn() + Send + Sync + 'static) -> Report {
        match self.find(test) {
            Ok(report) => {
                println!("{}: {report:?}", self.name);
                report
            }
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Explores until the first failure.
    ///
    /// # Errors
    ///
    /// The failure.
    #[track_caller]
    pub fn find(&self, test: impl Fn() + Send + Sync + 'static) -> Result<Report, Box<Failure>> {
        let test: Arc<dyn Fn() + Send + Sync> = Arc::new(test);
        let pool = Pool::default();
        let mut report = Report::default();
        let factor = if number("WAL_TEST_DEEP").is_some_and(|deep| deep > 0) { DEEP } else { 1 };
        if let Some(schedule) = variable("WAL_TEST_SCHEDULE") {
            let (preemptions, prefix) = parse_schedule(&schedule);
            self.run(&pool, &mut report, Box::new(Systematic::new(prefix, preemptions)), &test, || {
                format!("WAL_TEST_SCHEDULE={schedule}")
            })?;
            return Ok(report);
        }
        let seeds = match number("WAL_TEST_SEED") {
            Some(seed) => seed..seed + 1,
            None => 0..self.seeds * factor,
        };
        for seed in seeds {
            let strategy: Box<dyn Strategy> = if seed % 2 == 0 {
                Box::new(RandomWalk::new(seed))
            } else {
                // How long an execution is differs between tests, so the seed draws that too.
                Box::new(Priorities::new(seed, 16 << (seed / 2 % 8)))
            };
            self.run(&pool, &mut report, strategy, &test, || format!("WAL_TEST_SEED={seed}"))?;
        }
        if number("WAL_TEST_SEED").is_none() {
            report.is_exhaustive = self.run_systematic(&pool, &mut report, self.executions_max * factor, &test)?;
        }
        Ok(report)
    }

    fn run_systematic(
        &self,
        pool: &Pool,
        report: &mut Report,
        executions_max: u64,
        test: &Arc<dyn Fn() + Send + Sync>,
    ) -> Result<bool, Box<Failure>> {
        let mut prefix = Vec::new();
        for _ in 0..executions_max {
            let strategy = Box::new(Systematic::new(prefix, self.preemptions_max));
            let trail = self.run(pool, report, strategy, test, String::new)?;
            match Systematic::following(trail) {
                Some(next) => prefix = next,
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    fn run(
        &self,
        pool: &Pool,
        report: &mut Report,
        strategy: Box<dyn Strategy>,
        test: &Arc<dyn Fn() + Send + Sync>,
        repeat: impl Fn() -> String,
    ) -> Result<Vec<Choice>, Box<Failure>> {
        let (sender, outcome) = channel();
        let test = Arc::clone(test);
        Execution::start(pool.clone(), strategy, POINTS_MAX, sender, move || test());
        report.executions += 1;
        let outcome = outcome.recv_timeout(EXECUTION_MAX);
        let failure = |message: String, trail: Vec<Choice>| {
            let repeat = Some(repeat()).filter(|text| !text.is_empty());
            let repeat = repeat.unwrap_or_else(|| format!("WAL_TEST_SCHEDULE={}", self.schedule(&trail)));
            Box::new(Failure { name: self.name.clone(), repeat, message, executions: report.executions })
        };
        match outcome {
            Ok(Outcome::Finished { points, trail }) => {
                report.points += points;
                Ok(trail)
            }
            Ok(Outcome::Failed { message, trail }) => Err(failure(message, trail)),
            Err(_) => {
                Err(failure("a task waits for something that the scheduler does not know of".to_owned(), Vec::new()))
            }
        }
    }

    /// The choices as `WAL_TEST_SCHEDULE` takes them: the bound on preemptions, then those up to the last that is not the first option.
    fn schedule(&self, trail: &[Choice]) -> String {
        let length = trail.iter().rposition(|choice| choice.chosen > 0).map_or(0, |last| last + 1);
        let choices: Vec<String> = trail[..length].iter().map(|choice| choice.chosen.to_string()).collect();
        format!("{}:{}", self.preemptions_max, choices.join(","))
    }
}

fn parse_schedule(schedule: &str) -> (u32, Vec<usize>) {
    let parse = || {
        let (preemptions, choices) = schedule.split_once(':')?;
        let choices = choices.split(',').filter(|choice| !choice.is_empty());
        Some((preemptions.parse().ok()?, choices.map(|choice| choice.parse().ok()).collect::<Option<Vec<usize>>>()?))
    };
    parse().unwrap_or_else(|| panic!("WAL_TEST_SCHEDULE is {schedule:?}, it must be as a failure names it"))
}
