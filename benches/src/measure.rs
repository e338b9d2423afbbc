//! Measuring: one run gives a [`Sample`], the runs of all rounds a [`Series`], and medians over rounds go into the tables.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Anything that can go wrong ends the benchmark.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Latencies above this count as this.
const NANOS_MAX: u64 = 60_000_000_000;

/// What one run measured.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Latencies in nanoseconds, three digits significant.
    pub latency: Histogram<u64>,
    /// Operations done.
    pub count: u64,
    /// Bytes they carried.
    pub bytes: u64,
    /// How long they took altogether.
    pub elapsed: Duration,
    /// Changes of the active segment meanwhile.
    pub rotations: u64,
    /// Truncations meanwhile.
    pub truncations: u64,
}

impl Sample {
    /// A sample without values.
    pub fn new() -> Sample {
        let latency = Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("the bounds are constant and valid");
        Sample { latency, count: 0, bytes: 0, elapsed: Duration::ZERO, rotations: 0, truncations: 0 }
    }

    /// One operation that was timed as a whole, with `count` things done and `bytes` moved.
    pub fn once(elapsed: Duration, count: u64, bytes: u64) -> Sample {
        let mut sample = Sample { count, bytes, elapsed, ..Sample::new() };
        sample.record(elapsed);
        sample
    }

    /// Adds one latency.
    pub fn record(&mut self, latency: Duration) {
        self.latency.saturating_record(latency.as_nanos().clamp(1, u128::from(NANOS_MAX)) as u64);
    }

    /// Adds what another thread measured at the same time.
    fn merge(&mut self, other: &Sample) -> Outcome<()> {
        self.latency.add(&other.latency)?;
        self.count += other.count;
        self.bytes += other.bytes;
        self.elapsed = self.elapsed.max(other.elapsed);
        Ok(())
    }

    /// The latency in nanoseconds that this share of all operations did not exceed.
    pub fn quantile(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64
    }

    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Bytes per second.
    pub fn throughput(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// How fast, by the median latency: for runs whose rate is given by a schedule.
    pub fn promptness(&self) -> f64 {
        1e9 / self.quantile(0.5).max(1.0)
    }
}

impl Default for Sample {
    fn default() -> Sample {
        Sample::new()
    }
}

/// The samples of one variant, one a round.
#[derive(Clone, Debug)]
pub struct Series {
    /// The name for tables.
    pub name: String,
    /// One sample a round.
    pub samples: Vec<Sample>,
}

impl Series {
    /// The median over rounds.
    pub fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }

    /// The median over rounds of the ratio to the floor of the same round, which a device that is slower for a while does not change.
    pub fn ratio(&self, floor: &Series, speed: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().zip(&floor.samples).map(|(own, floor)| speed(own) / speed(floor)).collect())
    }
}

/// The middle value; with an even number of them, the mean of the two in the middle. Zero if there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

/// One of the things that are measured in turn.
pub struct Variant<'a> {
    name: String,
    run: Box<dyn FnMut() -> Outcome<Sample> + 'a>,
}

impl<'a> Variant<'a> {
    /// Measured by `run`, once a round.
    pub fn new(name: impl Into<String>, run: impl FnMut() -> Outcome<Sample> + 'a) -> Variant<'a> {
        Variant { name: name.into(), run: Box::new(run) }
    }
}

/// Runs all variants in turn, `rounds` times: a device whose speed changes with time then changes it for all of them.
pub fn interleaved(rounds: usize, mut variants: Vec<Variant<'_>>) -> Outcome<Vec<Series>> {
    let mut all: Vec<Series> =
        variants.iter().map(|variant| Series { name: variant.name.clone(), samples: Vec::new() }).collect();
    for _ in 0..rounds {
        for (variant, series) in variants.iter_mut().zip(&mut all) {
            let sample = (variant.run)().map_err(|error| format!("{}: {error}", variant.name))?;
            series.samples.push(sample);
        }
    }
    Ok(all)
}

/// One thread that starts an operation when the one before is done. Such a loop is slowed down by what it measures, so its rare long
/// latencies are fewer than a program with its own schedule would see.
pub fn closed_loop(length: Duration, bytes_each: usize, step: impl FnMut() -> Outcome<()>) -> Outcome<Sample> {
    closed_loop_from(Instant::now(), length, bytes_each, step)
}

fn closed_loop_from(
    start: Instant,
    length: Duration,
    bytes_each: usize,
    mut step: impl FnMut() -> Outcome<()>,
) -> Outcome<Sample> {
    let begin = start + length / 10;
    let mut last = Instant::now();
    while last < begin {
        step()?;
        last = Instant::now();
    }
    let mut sample = Sample::new();
    let (first, end) = (last, begin + length);
    while last < end {
        step()?;
        let now = Instant::now();
        sample.record(now - last);
        sample.count += 1;
        last = now;
    }
    sample.bytes = sample.count * bytes_each as u64;
    sample.elapsed = last - first;
    Ok(sample)
}

/// As [`closed_loop`], on several threads at once.
pub fn closed_loop_on(
    threads: usize,
    length: Duration,
    bytes_each: usize,
    step: impl Fn() -> Outcome<()> + Sync,
) -> Outcome<Sample> {
    let start = Instant::now();
    let step = &step;
    on_threads(threads, |_| closed_loop_from(start, length, bytes_each, step))
}

/// Runs `run` on several threads and adds up what they measured.
pub fn on_threads(threads: usize, run: impl Fn(usize) -> Outcome<Sample> + Sync) -> Outcome<Sample> {
    let run = &run;
    let samples: Vec<Outcome<Sample>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|index| scope.spawn(move || run(index))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let mut sum = Sample::new();
    for sample in samples {
        sum.merge(&sample?)?;
    }
    Ok(sum)
}

/// One thread that starts operations at fixed times, `rate` a second, or at once when it is late. A latency counts from the time at
/// which the operation was to start, so a stall is felt by everything that had to wait behind it. `step` is given that time.
pub fn open_loop(length: Duration, rate: f64, mut step: impl FnMut(Instant) -> Outcome<()>) -> Outcome<Sample> {
    // A device that cannot keep up must not make the run endless.
    const PATIENCE: u32 = 3;
    let mut sample = Sample::new();
    let begin = Instant::now();
    let mut now = begin;
    for index in 0.. {
        let offset = Duration::from_nanos((f64::from(index) * 1e9 / rate) as u64);
        if offset >= length || now - begin > length * PATIENCE {
            break;
        }
        let intended = begin + offset;
        wait_until(intended);
        step(intended)?;
        now = Instant::now();
        sample.record(now - intended);
        sample.count += 1;
    }
    sample.elapsed = now - begin;
    Ok(sample)
}

/// Sleeps while there is time, then spins, as a sleep ends some 50 microseconds late.
fn wait_until(time: Instant) {
    const SPIN: Duration = Duration::from_micros(150);
    while let Some(left) = time.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if left > SPIN {
            std::thread::sleep(left - SPIN);
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(nanos: &[u64]) -> Series {
        let samples = nanos.iter().map(|&nanos| Sample::once(Duration::from_nanos(nanos), 1, 100)).collect();
        Series { name: "test".to_owned(), samples }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn quantiles_come_from_all_values() {
        let mut sample = Sample::new();
        (1..=1000).for_each(|micros| sample.record(Duration::from_micros(micros)));
        assert!((sample.quantile(0.5) / 500_000.0 - 1.0).abs() < 0.002, "{}", sample.quantile(0.5));
        assert!((sample.quantile(0.99) / 990_000.0 - 1.0).abs() < 0.002, "{}", sample.quantile(0.99));
    }

    #[test]
    fn a_ratio_pairs_the_runs_of_a_round() {
        // The device got ten times slower in the second round, for both of them alike.
        let (floor, own) = (series(&[1000, 10_000, 1000]), series(&[2000, 20_000, 2000]));
        assert!((own.ratio(&floor, Sample::rate) - 0.5).abs() < 1e-9);
        assert!((own.ratio(&floor, Sample::promptness) - 0.5).abs() < 0.01);
    }

    #[test]
    fn an_open_loop_counts_from_the_schedule() {
        let mut is_first = true;
        let sample = open_loop(Duration::from_millis(50), 1000.0, |_| {
            if std::mem::take(&mut is_first) {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })
        .expect("no step fails");
        assert_eq!(sample.count, 50);
        // The stall of the first operation is felt by the 19 behind it; a closed loop would have seen it once.
        assert!(sample.quantile(0.7) > 4e6, "{}", sample.quantile(0.7));
    }
}
