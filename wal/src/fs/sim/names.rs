//! One directory: the names that programs see, and those that the disk holds.

use std::sync::Arc;

use super::table::Table;
use super::trace::{digest, mix};

pub(super) type InodeId = u64;
pub(super) type DirId = u64;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(InodeId),
    Dir(DirId),
}

pub(super) type Entries = Table<Arc<str>, Node>;

/// What one name led to after one change.
#[derive(Clone, Debug)]
struct Version {
    node: Option<Node>,
    sequence: u64,
    /// The name was removed by a rename to this name, which was the change with this number.
    moved_to: Option<(Arc<str>, u64)>,
}

/// The changes of one name since it was last durable.
#[derive(Clone, Debug)]
struct Unsynced {
    name: Arc<str>,
    /// The first version is the durable one.
    versions: Vec<Version>,
    /// Whether the next successful sync settles it. It does not when a sync has failed since the last change.
    dirty: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    pub(super) path: Arc<str>,
    live: Entries,
    disk: Entries,
    unsynced: Vec<Unsynced>,
}

impl Dir {
    pub(super) fn new(path: &str) -> Dir {
        Dir { path: Arc::from(path), ..Dir::default() }
    }

    pub(super) fn live(&self) -> &Entries {
        &self.live
    }

    pub(super) fn get(&self, name: &str) -> Option<Node> {
        self.live.get(name).copied()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Whether the node can still be reached, now or after a crash.
    pub(super) fn refers_to(&self, node: Node) -> bool {
        self.live.values().chain(self.disk.values()).any(|other| *other == node)
            || self.unsynced.iter().flat_map(|name| &name.versions).any(|version| version.node == Some(node))
    }

    /// The name that leads to the node, or did so.
    pub(super) fn name_of(&self, node: Node) -> Option<&str> {
        let known =
            self.live.iter().chain(self.disk.iter()).find(|(_, other)| **other == node).map(|(name, _)| &**name);
        let is_old = |name: &&Unsynced| name.versions.iter().any(|version| version.node == Some(node));
        known.or_else(|| self.unsynced.iter().find(is_old).map(|name| &*name.name))
    }

    /// Makes the name lead to the node, now. `sequence` orders all changes of names on the volume.
    pub(super) fn set(&mut self, name: &str, node: Option<Node>, sequence: u64) {
        self.change(name, node, None, sequence);
    }

    /// Both changes are one entry of a journal, so they have one number.
    pub(super) fn rename(&mut self, from: &str, to: &str, node: Node, sequence: u64) {
        self.change(to, Some(node), None, sequence);
        self.change(from, None, Some((Arc::from(to), sequence)), sequence);
    }

    /// Makes the name lead to the node, durably.
    pub(super) fn set_durably(&mut self, name: &str, node: Option<Node>) {
        self.unsynced.retain(|unsynced| &*unsynced.name != name);
        put(&mut self.live, &Arc::from(name), node);
        put(&mut self.disk, &Arc::from(name), node);
    }

    fn change(&mut self, name: &str, node: Option<Node>, moved_to: Option<(Arc<str>, u64)>, sequence: u64) {
        let index = self.unsynced.iter().position(|unsynced| &*unsynced.name == name).unwrap_or_else(|| {
            // What is durable comes before all changes.
            let durable = Version { node: self.disk.get(name).copied(), sequence: 0, moved_to: None };
            self.unsynced.push(Unsynced { name: Arc::from(name), versions: vec![durable], dirty: true });
            self.unsynced.len() - 1
        });
        let unsynced = &mut self.unsynced[index];
        unsynced.dirty = true;
        unsynced.versions.push(Version { node, sequence, moved_to });
        put(&mut self.live, &unsynced.name, node);
    }

    /// A sync that succeeds. Returns the files whose last name may be gone for good.
    pub(super) fn settle(&mut self) -> Vec<InodeId> {
        self.settle_if(|_| true)
    }

    /// The sync of a file that makes the name durable under which it is found, and no other.
    pub(super) fn settle_names_of(&mut self, node: Node) -> Vec<InodeId> {
        self.settle_if(|now| now == Some(node))
    }

    fn settle_if(&mut self, wanted: impl Fn(Option<Node>) -> bool) -> Vec<InodeId> {
        let mut outdated = Vec::new();
        let Dir { live, disk, unsynced, .. } = self;
        unsynced.retain(|name| {
            let now = live.get(&name.name).copied();
            if !name.dirty || !wanted(now) {
                return true;
            }
            put(disk, &name.name, now);
            outdated.extend(name.versions.iter().filter_map(|version| match version.node {
                Some(Node::File(inode)) => Some(inode),
                _ => None,
            }));
            false
        });
        outdated
    }

    /// Whether a name that leads to the node now may not do so after a crash.
    pub(super) fn is_name_unsynced(&self, node: Node) -> bool {
        self.unsynced.iter().any(|name| name.dirty && self.live.get(&name.name) == Some(&node))
    }

    /// A hash of what a crash decides about; `node_hash` tells what a name leads to.
    pub(super) fn unsynced_fingerprint(&self, node_hash: impl Fn(Node) -> u64) -> u64 {
        let mut hash = self.unsynced.len() as u64;
        for unsynced in &self.unsynced {
            hash = digest(mix(hash, u64::from(unsynced.dirty)), unsynced.name.as_bytes());
            for version in &unsynced.versions {
                hash = mix(hash, version.node.map_or(0, &node_hash));
                hash = version.moved_to.iter().fold(hash, |hash, (to, _)| digest(hash, to.as_bytes()));
            }
        }
        hash
    }

    /// The numbers of the changes that are not durable.
    pub(super) fn unsynced_changes(&self) -> impl Iterator<Item = u64> {
        self.unsynced.iter().flat_map(|name| name.versions[1..].iter().map(|version| version.sequence))
    }

    /// A sync that fails: what waited for it stays undecided, and no later sync settles it.
    pub(super) fn fail_sync(&mut self) {
        self.unsynced.iter_mut().for_each(|name| name.dirty = false);
    }

    /// The directory after a crash. `choose` gets a name and the number of its versions; the last is the newest.
    pub(super) fn after_crash(&self, may_lose: bool, mut choose: impl FnMut(&str, usize) -> usize) -> Dir {
        let mut chosen: Vec<usize> =
            self.unsynced.iter().map(|unsynced| choose(&unsynced.name, unsynced.versions.len())).collect();
        if !may_lose {
            self.undo_lost_moves(&mut chosen);
        }
        self.with_versions(&chosen)
    }

    /// The directory after a crash that keeps all changes up to this one and no other.
    pub(super) fn up_to(&self, change: u64) -> Dir {
        let last = |name: &Unsynced| name.versions.iter().rposition(|version| version.sequence <= change).unwrap_or(0);
        self.with_versions(&self.unsynced.iter().map(last).collect::<Vec<_>>())
    }

    fn with_versions(&self, chosen: &[usize]) -> Dir {
        let mut live = self.disk.clone();
        for (unsynced, index) in self.unsynced.iter().zip(chosen) {
            put(&mut live, &unsynced.name, unsynced.versions[*index].node);
        }
        Dir { path: Arc::clone(&self.path), disk: live.clone(), live, unsynced: Vec::new() }
    }

    /// Keeps the old name of a rename whose new name is lost. One pass is enough: the version before a removal is never
    /// a removal, so no other rename depends on what is undone here.
    fn undo_lost_moves(&self, chosen: &mut [usize]) {
        for (index, unsynced) in self.unsynced.iter().enumerate() {
            let Some((to, needed)) = &unsynced.versions[chosen[index]].moved_to else { continue };
            let target = self.unsynced.iter().position(|other| other.name == *to);
            if target.is_some_and(|target| self.unsynced[target].versions[chosen[target]].sequence < *needed) {
                chosen[index] -= 1;
            }
        }
    }
}

fn put(entries: &mut Entries, name: &Arc<str>, node: Option<Node>) {
    match node {
        Some(node) => entries.insert(Arc::clone(name), node),
        None => drop(entries.remove(name)),
    }
}
