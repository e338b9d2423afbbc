//! Visits every state of a model, breadth first.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::rc::Rc;

/// A protocol as states and steps.
pub trait Model {
    /// A state: everything that is known, in memory and on the disk.
    type State: Clone + Eq + Hash + fmt::Debug;

    /// Where it starts.
    fn start(&self) -> Self::State;

    /// Everything that may happen next, each with a word for it.
    fn steps(&self, state: &Self::State) -> Vec<(String, Self::State)>;

    /// The promise that is broken in this state, if one is.
    fn broken(&self, state: &Self::State) -> Option<String>;

    /// Whether nothing needs to happen any more. A state without a step that may not rest is one in which somebody hangs.
    fn may_rest(&self, state: &Self::State) -> bool;
}

/// What was visited, and what was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The most steps from the start to a state.
    pub depth: usize,
    /// A shortest way to a broken promise.
    pub counterexample: Option<Counterexample>,
}

/// A way to a broken promise.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What is broken.
    pub broken: String,
    /// What happened, first to last.
    pub steps: Vec<String>,
    /// The state in which it is broken.
    pub state: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.broken)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {:>2}. {step}", number + 1)?;
        }
        write!(f, "  in the state {}", self.state)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states, {} steps, {} deep", self.states, self.steps, self.depth)
    }
}

/// Visits everything, or ends at the first broken promise.
///
/// # Panics
///
/// If the model has more than ten million states: then it is no model.
pub fn check<M: Model>(model: &M) -> Report {
    let start = Rc::new(model.start());
    let mut seen: HashSet<Rc<M::State>> = HashSet::from([Rc::clone(&start)]);
    let mut states: Vec<Visited<M::State>> = vec![Visited { state: start, from: 0, step: 0, distance: 0 }];
    let (mut at, mut steps, mut depth) = (0, 0, 0);
    while at < states.len() {
        let Visited { ref state, distance, .. } = states[at];
        depth = depth.max(distance);
        let next = model.steps(state);
        let hangs = (next.is_empty() && !model.may_rest(state)).then(|| "somebody waits for ever".to_owned());
        if let Some(broken) = model.broken(state).or(hangs) {
            let counterexample = Some(trace(model, &states, at, broken));
            return Report { states: seen.len(), steps, depth, counterexample };
        }
        for (step, (_, state)) in next.into_iter().enumerate() {
            steps += 1;
            if !seen.contains(&state) {
                let state = Rc::new(state);
                seen.insert(Rc::clone(&state));
                states.push(Visited { state, from: at, step, distance: distance + 1 });
            }
        }
        assert!(states.len() <= 10_000_000, "the model has too many states");
        at += 1;
    }
    Report { states: seen.len(), steps, depth, counterexample: None }
}

/// A state, from which one and by which of its steps it was reached first, and its distance from the start.
struct Visited<S> {
    state: Rc<S>,
    from: usize,
    step: usize,
    distance: usize,
}

fn trace<M: Model>(model: &M, states: &[Visited<M::State>], end: usize, broken: String) -> Counterexample {
    let mut steps = Vec::new();
    let mut at = end;
    while at > 0 {
        let Visited { from, step, .. } = states[at];
        steps.push(model.steps(&states[from].state).swap_remove(step).0);
        at = from;
    }
    steps.reverse();
    Counterexample { broken, steps, state: format!("{:?}", states[end].state) }
}

/// The model keeps every promise; prints what was visited.
///
/// # Panics
///
/// With the counterexample, if there is one.
pub fn holds<M: Model>(name: &str, model: &M) {
    let report = check(model);
    println!("{name}: {report}");
    if let Some(counterexample) = &report.counterexample {
        panic!("{name}: {counterexample}");
    }
}

/// The model, with a bug in it, breaks a promise; prints how.
///
/// # Panics
///
/// If no promise is broken.
pub fn breaks<M: Model>(name: &str, model: &M) {
    let report = check(model);
    match report.counterexample {
        Some(counterexample) => println!("{name}: {counterexample}"),
        None => panic!("{name}: {report}, and nothing is broken"),
    }
}
