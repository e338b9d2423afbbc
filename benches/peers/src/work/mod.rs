//! The sections, and how engines are measured in turn.

mod appends;
mod open;
mod stores;

use std::fmt::Write;

use serde_json::Value;
use wal_benches::measure::{Outcome, Sample, Series};
use wal_benches::report::Table;

use crate::Run;
use crate::verdict::{self, Verdict};

/// What a section has to say.
#[derive(Default)]
pub struct Report {
    pub text: String,
    pub json: Vec<Value>,
}

type Work = fn(&Run) -> Outcome<Report>;

/// The sections. The first finds out which engines the others may not rank.
pub const ALL: [(&str, Work); 7] = [
    ("syncs", crate::syncs::section),
    ("logs", appends::logs),
    ("rotation", appends::rotation),
    ("written", appends::written),
    ("stores", stores::opened),
    ("load", stores::load),
    ("open", open::section),
];

/// One of the things that are measured in turn.
pub struct Entrant<'a> {
    name: String,
    measure: Box<dyn FnMut() -> Outcome<Sample> + 'a>,
}

impl<'a> Entrant<'a> {
    pub fn new(name: impl Into<String>, measure: impl FnMut() -> Outcome<Sample> + 'a) -> Entrant<'a> {
        Entrant { name: name.into(), measure: Box::new(measure) }
    }
}

/// A table, with a comparison for each group of rows.
pub struct Contest<'a> {
    run: &'a Run,
    name: &'static str,
    table: Table,
    verdicts: Vec<Verdict>,
    failures: Vec<String>,
}

impl<'a> Contest<'a> {
    pub fn new(run: &'a Run, name: &'static str, table: Table) -> Contest<'a> {
        Contest { run, name, table, verdicts: Vec::new(), failures: Vec::new() }
    }

    /// Measures in turn: floors, ours, peers. All are compared with the first floor, or with ours if there is none. A peer that fails is left
    /// out from then on, and the report says so; a failure of ours ends everything.
    pub fn group(
        &mut self,
        label: &str,
        floors: Vec<Entrant<'_>>,
        ours: Entrant<'_>,
        peers: Vec<Entrant<'_>>,
    ) -> Outcome<()> {
        let floor_count = floors.len();
        let mut entrants: Vec<Entrant<'_>> = floors.into_iter().chain([ours]).chain(peers).collect();
        let mut all: Vec<Series> =
            entrants.iter().map(|entrant| Series { name: entrant.name.clone(), samples: Vec::new() }).collect();
        let mut has_failed = vec![false; all.len()];
        for _ in 0..self.run.bench.rounds {
            for (index, (entrant, series)) in entrants.iter_mut().zip(&mut all).enumerate() {
                if has_failed[index] {
                    continue;
                }
                match (entrant.measure)() {
                    Ok(sample) => series.samples.push(sample),
                    Err(error) if index <= floor_count => return Err(format!("{}: {error}", entrant.name).into()),
                    Err(error) => {
                        has_failed[index] = true;
                        self.failures.push(format!("{label} {} failed: {error}", entrant.name));
                    }
                }
            }
        }
        let is_ranked = |series: &Series| self.run.is_ranked(&series.name);
        for (series, _) in all.iter().zip(&has_failed).filter(|(_, has_failed)| !**has_failed) {
            let mark = if is_ranked(series) { "" } else { " (does not sync)" };
            let row = format!("{label} {}{mark}", series.name);
            self.table.labelled(row.trim_start().to_owned(), series, &all[0], Sample::rate);
        }
        let peers: Vec<&Series> = (floor_count + 1..all.len())
            .filter(|index| !has_failed[*index] && is_ranked(&all[*index]))
            .map(|index| &all[index])
            .collect();
        let floor = (floor_count > 0).then(|| &all[0]);
        self.verdicts.push(Verdict::new(label.to_owned(), &all[floor_count], floor, &peers));
        Ok(())
    }

    pub fn report(self) -> Report {
        let mut text = self.table.text();
        for failure in &self.failures {
            writeln!(text, "  ({failure})").expect("a string takes everything");
        }
        text.push('\n');
        text += &verdict::text(self.name, &self.verdicts);
        Report { text, json: vec![self.table.json(), verdict::json(self.name, &self.verdicts)] }
    }
}
