//! Who goes on: at random, by priorities, or each choice in turn.

use crate::random::Random;

/// Decides at each point of an execution.
pub(crate) trait Strategy: Send {
    /// The index, in `ready`, of the task that goes on. `current` is the index of the one that runs, if it can go on.
    fn next(&mut self, current: Option<usize>, ready: &[usize]) -> usize;

    /// Any other choice, below `options`.
    fn pick(&mut self, options: usize) -> usize;

    /// The running task has nothing to do but wait for others.
    fn yields(&mut self, _task: usize) {}

    /// Whether a task whose timeout has not passed is to find that it has, although others could go on.
    fn lets_time_pass(&mut self) -> bool {
        false
    }

    /// The choices so far, to be repeated or varied.
    fn trail(&self) -> Vec<Choice> {
        Vec::new()
    }
}

/// A choice that was made, and how many there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) chosen: usize,
    pub(crate) options: usize,
}

/// A random walk. How often the running task loses its turn is drawn once for each execution: often finds what needs many switches
/// close together, seldom finds what needs a task to be slow.
pub(crate) struct RandomWalk {
    random: Random,
    switch_one_in: u64,
}

impl RandomWalk {
    pub(crate) fn new(seed: u64) -> RandomWalk {
        let mut random = Random::new(seed);
        let switch_one_in = [2, 4, 16, 64][random.below(4) as usize];
        RandomWalk { random, switch_one_in }
    }
}

impl Strategy for RandomWalk {
    fn next(&mut self, current: Option<usize>, ready: &[usize]) -> usize {
        match current {
            Some(current) if self.random.below(self.switch_one_in) > 0 => current,
            _ => self.pick(ready.len()),
        }
    }

    fn pick(&mut self, options: usize) -> usize {
        self.random.below(options as u64) as usize
    }

    fn lets_time_pass(&mut self) -> bool {
        self.random.below(64) == 0
    }
}

/// Probabilistic concurrency testing: tasks have random priorities, the highest that can go on does, and at a few random points
/// the running one drops below all. Finds a bug of depth d with a known probability (Burckhardt and others, ASPLOS 2010).
pub(crate) struct Priorities {
    random: Random,
    of_task: Vec<u64>,
    /// The numbers of the points at which the running task drops, ascending; how many points an execution has is a guess.
    drops: Vec<u64>,
    point: u64,
    lowest: u64,
}

impl Priorities {
    pub(crate) fn new(seed: u64, points: u64) -> Priorities {
        let mut random = Random::new(seed);
        let depth = 1 + random.below(4);
        let mut drops: Vec<u64> = (0..depth).map(|_| random.below(points.max(1))).collect();
        drops.sort_unstable();
        Priorities { random, of_task: Vec::new(), drops, point: 0, lowest: 1 << 32 }
    }

    fn drop_below_all(&mut self, task: usize) {
        self.know(task);
        self.lowest -= 1;
        self.of_task[task] = self.lowest;
    }

    fn know(&mut self, task: usize) {
        while self.of_task.len() <= task {
            let priority = self.random.number() | (1 << 33);
            self.of_task.push(priority);
        }
    }
}

impl Strategy for Priorities {
    fn next(&mut self, current: Option<usize>, ready: &[usize]) -> usize {
        self.point += 1;
        while self.drops.first().is_some_and(|&drop| drop < self.point) {
            self.drops.remove(0);
            if let Some(current) = current {
                self.drop_below_all(ready[current]);
            }
        }
        ready.iter().for_each(|&task| self.know(task));
        let highest = (0..ready.len()).max_by_key(|&index| self.of_task[ready[index]]);
        highest.expect("somebody can go on")
    }

    fn pick(&mut self, options: usize) -> usize {
        self.random.below(options as u64) as usize
    }

    fn yields(&mut self, task: usize) {
        self.drop_below_all(task);
    }
}

/// Repeats the choices of `prefix`, and then lets the running task go on as long as it can. All executions with at most so many
/// preemptions are reached by varying the last choice that can be varied.
pub(crate) struct Systematic {
    prefix: Vec<usize>,
    trail: Vec<Choice>,
    preemptions_left: u32,
}

impl Systematic {
    pub(crate) fn new(prefix: Vec<usize>, preemptions_max: u32) -> Systematic {
        Systematic { prefix, trail: Vec::new(), preemptions_left: preemptions_max }
    }

    fn choose(&mut self, options: usize) -> usize {
        if options == 1 {
            return 0;
        }
        let chosen = self.prefix.get(self.trail.len()).copied().unwrap_or(0);
        assert!(chosen < options, "the same choices led to another execution: something in it is not deterministic");
        self.trail.push(Choice { chosen, options });
        chosen
    }

    /// The next prefix after `trail`, or `None` if all were tried.
    pub(crate) fn following(mut trail: Vec<Choice>) -> Option<Vec<usize>> {
        while let Some(last) = trail.pop() {
            if last.chosen + 1 < last.options {
                let mut prefix: Vec<usize> = trail.iter().map(|choice| choice.chosen).collect();
                prefix.push(last.chosen + 1);
                return Some(prefix);
            }
        }
        None
    }
}

impl Strategy for Systematic {
    fn next(&mut self, current: Option<usize>, ready: &[usize]) -> usize {
        let Some(current) = current else { return self.choose(ready.len()) };
        if self.preemptions_left == 0 {
            return current;
        }
        match self.choose(ready.len()) {
            0 => current,
            other => {
                self.preemptions_left -= 1;
                // The running task is option 0; the others follow in their order.
                if other <= current { other - 1 } else { other }
            }
        }
    }

    fn pick(&mut self, options: usize) -> usize {
        self.choose(options)
    }

    fn trail(&self) -> Vec<Choice> {
        self.trail.clone()
    }
}
