//! A directory whose changes are durable only after it was synced, each by itself.

use std::collections::BTreeMap;

/// Names and what they stand for. What a name stood for since the last sync may come back in a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Names<N, F>(BTreeMap<N, Vec<Option<F>>>);

impl<N: Ord + Clone, F: Clone + PartialEq> Names<N, F> {
    /// A directory with these durable names.
    pub fn new(files: impl IntoIterator<Item = (N, F)>) -> Names<N, F> {
        Names(files.into_iter().map(|(name, file)| (name, vec![Some(file)])).collect())
    }

    /// What a name stands for now.
    pub fn get(&self, name: &N) -> Option<&F> {
        self.0.get(name)?.last()?.as_ref()
    }

    /// All names that stand for something now.
    pub fn present(&self) -> impl DoubleEndedIterator<Item = (&N, &F)> {
        self.0.iter().filter_map(|(name, versions)| Some((name, versions.last()?.as_ref()?)))
    }

    /// Gives a name to a file, or takes it away.
    pub fn set(&mut self, name: N, file: Option<F>) {
        self.0.entry(name).or_insert_with(|| vec![None]).push(file);
    }

    /// Changes the file itself, under its name: its bytes, not the name.
    pub fn change(&mut self, name: &N, change: impl FnOnce(&mut F)) {
        let versions = self.0.get_mut(name).expect("the name is there");
        let old = versions.last().cloned().flatten().expect("it stands for something");
        let mut new = old.clone();
        change(&mut new);
        // All names of the file see the change.
        for version in versions.iter_mut().filter(|version| version.as_ref() == Some(&old)) {
            *version = Some(new.clone());
        }
    }

    /// Makes all names durable.
    pub fn sync(&mut self) {
        self.0.retain(|_, versions| {
            versions.drain(..versions.len() - 1);
            versions[0].is_some()
        });
    }

    /// All directories that a crash may leave.
    pub fn after_crash(&self) -> Vec<Names<N, F>> {
        let mut all = vec![BTreeMap::new()];
        for (name, versions) in &self.0 {
            let mut choices: Vec<&Option<F>> = Vec::new();
            for version in versions {
                if !choices.contains(&version) {
                    choices.push(version);
                }
            }
            all = choices
                .iter()
                .flat_map(|choice| {
                    all.iter().map(|before: &BTreeMap<N, Vec<Option<F>>>| {
                        let mut after = before.clone();
                        if choice.is_some() {
                            after.insert(name.clone(), vec![(*choice).clone()]);
                        }
                        after
                    })
                })
                .collect();
        }
        all.into_iter().map(Names).collect()
    }
}
