//! What outlives a process: directories, files, and the health of the file system.

use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use super::config::SimConfig;
use super::content::{Content, Page};
use super::fault::{errno, os};
use super::inode::Inode;
use super::names::{Dir, DirId, InodeId, Node};
use super::rng::Rng;
use super::table::Table;
use super::trace::{DIGEST_SEED, digest, join, mix};

const ROOT: DirId = 0;
/// Enough for sectors that read as bytes of removed files.
const STALE_PAGES: usize = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    #[default]
    Good,
    ReadOnly,
    ShutDown,
}

/// The clone is cheap: files and directories are shared until one of the copies changes them.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) config: SimConfig,
    pub(super) rng: Rng,
    pub(super) dirs: Table<DirId, Arc<Dir>>,
    pub(super) inodes: Table<InodeId, Arc<Inode>>,
    pub(super) stale: Arc<Vec<Arc<Page>>>,
    pub(super) health: Health,
    pub(super) next_id: u64,
    /// The number of the last change of a name.
    pub(super) name_changes: u64,
}

impl Volume {
    pub(super) fn new(config: SimConfig) -> Volume {
        let rng = Rng::new(config.seed);
        let mut dirs = Table::default();
        dirs.insert(ROOT, Arc::new(Dir::new("/")));
        let (inodes, stale) = (Table::default(), Arc::default());
        Volume { config, rng, dirs, inodes, stale, health: Health::Good, next_id: ROOT + 1, name_changes: 0 }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn next_change(&mut self) -> u64 {
        self.name_changes += 1;
        self.name_changes
    }

    fn check_room_for_file(&self) -> io::Result<()> {
        // The root is not counted.
        let count = (self.inodes.len() + self.dirs.len()) as u64 - 1;
        if self.config.files_max.is_some_and(|max| count >= max) { Err(os(errno::ENOSPC)) } else { Ok(()) }
    }

    pub(super) fn dir(&self, id: DirId) -> io::Result<&Dir> {
        self.dirs.get(&id).map(|dir| &**dir).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn dir_mut(&mut self, id: DirId) -> io::Result<&mut Dir> {
        self.dirs.get_mut(&id).map(Arc::make_mut).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode(&self, id: InodeId) -> io::Result<&Inode> {
        self.inodes.get(&id).map(|inode| &**inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode_mut(&mut self, id: InodeId) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).map(Arc::make_mut).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn find_dir(&self, path: &Path) -> io::Result<DirId> {
        let mut id = ROOT;
        for name in components(path)? {
            match self.dir(id)?.get(name) {
                Some(Node::Dir(next)) => id = next,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(id)
    }

    /// The directory that holds the last component of the path, and that component.
    pub(super) fn find_parent<'a>(&self, path: &'a Path) -> io::Result<(DirId, &'a str)> {
        let names = components(path)?;
        let (name, parents) = names.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find_dir(&parents.iter().collect::<std::path::PathBuf>())?, name))
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<InodeId> {
        let (dir, name) = self.find_parent(path)?;
        self.file_in(dir, name)
    }

    pub(super) fn file_in(&self, dir: DirId, name: &str) -> io::Result<InodeId> {
        match self.dir(dir)?.get(name) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir(_)) => Err(os(errno::EISDIR)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        if components(path)?.is_empty() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (parent, name) = self.find_parent(path)?;
        check_name(name)?;
        if self.dir(parent)?.get(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.check_room_for_file()?;
        let full = join(&self.dir(parent)?.path, name);
        let (id, change) = (self.new_id(), self.next_change());
        self.dirs.insert(id, Arc::new(Dir::new(&full)));
        self.dir_mut(parent)?.set(name, Some(Node::Dir(id)), change);
        Ok(())
    }

    pub(super) fn create_file(&mut self, dir: DirId, name: &str) -> io::Result<InodeId> {
        check_name(name)?;
        self.check_room_for_file()?;
        let (id, change) = (self.new_id(), self.next_change());
        self.dir_mut(dir)?.set(name, Some(Node::File(id)), change);
        self.inodes.insert(id, Arc::new(Inode::settled(Content::default(), 1)));
        Ok(id)
    }

    /// As POSIX has it, nothing happens if both names lead to the same file, as they may after a crash.
    pub(super) fn rename(&mut self, dir: DirId, from: &str, to: &str) -> io::Result<()> {
        check_name(to)?;
        let inode = self.file_in(dir, from)?;
        let replaced = match self.file_in(dir, to) {
            Ok(replaced) if replaced == inode => return Ok(()),
            Ok(replaced) => Some(replaced),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if self.config.rename_syncs_data && replaced.is_some() {
            self.inode_mut(inode)?.settle();
        }
        let change = self.next_change();
        self.dir_mut(dir)?.rename(from, to, Node::File(inode), change);
        replaced.map_or(Ok(()), |replaced| self.unlink(replaced))
    }

    pub(super) fn remove(&mut self, dir: DirId, name: &str) -> io::Result<()> {
        let inode = self.file_in(dir, name)?;
        let change = self.next_change();
        self.dir_mut(dir)?.set(name, None, change);
        self.unlink(inode)
    }

    pub(super) fn unlink(&mut self, inode: InodeId) -> io::Result<()> {
        self.inode_mut(inode)?.links -= 1;
        Ok(())
    }

    /// Whether the sync of this file writes a journal that holds its name: it is new, was renamed, or changed its size.
    pub(super) fn has_unsynced_metadata(&self, id: InodeId) -> bool {
        self.inodes.get(&id).is_some_and(|inode| inode.cache().len() != inode.disk().len())
            || self.dirs.values().any(|dir| dir.is_name_unsynced(Node::File(id)))
    }

    /// The files that a read or write of `id` can be sent to by mistake: the next one, in the order of their creation.
    pub(super) fn other_file(&self, id: InodeId) -> Option<InodeId> {
        let others = || self.inodes.iter().filter(|(other, inode)| inode.links > 0 && **other != id);
        others().find(|(other, _)| **other > id).or_else(|| others().next()).map(|(other, _)| *other)
    }

    /// Gives up a file that nothing leads to any more, now or after a crash. The caller knows that it is not open.
    pub(super) fn collect(&mut self, id: InodeId) {
        if !self.is_reachable(id)
            && let Some(inode) = self.inodes.remove(&id)
        {
            self.bury(&inode);
        }
    }

    /// Keeps some of the bytes of a removed file for sectors that show stale data.
    pub(super) fn bury(&mut self, inode: &Inode) {
        let stale = Arc::make_mut(&mut self.stale);
        stale.extend(inode.cache().pages().take(STALE_PAGES));
        let excess = stale.len().saturating_sub(STALE_PAGES);
        stale.drain(..excess);
    }

    /// Whether a name leads to the file, or may do so after a crash.
    pub(super) fn is_reachable(&self, id: InodeId) -> bool {
        self.inodes.get(&id).is_some_and(|inode| inode.links > 0)
            || self.dirs.values().any(|dir| dir.refers_to(Node::File(id)))
    }

    /// A path of the file, for people to read.
    pub(super) fn path_of(&self, id: InodeId) -> String {
        let named = |dir: &Arc<Dir>| dir.name_of(Node::File(id)).map(|name| join(&dir.path, name));
        self.dirs.values().find_map(named).unwrap_or_default()
    }

    /// Puts a file with this content there, durably.
    pub(super) fn put_file(&mut self, path: &Path, content: Content) -> io::Result<()> {
        let (dir, name) = self.find_parent(path)?;
        check_name(name)?;
        let id = match self.file_in(dir, name) {
            Ok(id) => id,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.new_id(),
            Err(error) => return Err(error),
        };
        let links = self.inodes.get(&id).map_or(1, |inode| inode.links);
        self.dir_mut(dir)?.set_durably(name, Some(Node::File(id)));
        self.inodes.insert(id, Arc::new(Inode::settled(content, links)));
        Ok(())
    }

    /// A hash of all names and bytes that programs see.
    pub(super) fn fingerprint(&self) -> u64 {
        self.fold_files(|inode| inode.cache().fingerprint())
    }

    /// A hash of all that programs see, that a crash decides about, and that later calls can find out.
    pub(super) fn state_fingerprint(&self) -> u64 {
        let node_hash = |node| match node {
            Node::File(id) => self.inodes.get(&id).map_or(1, |inode| mix(id, inode.state_fingerprint())),
            Node::Dir(id) => self.dirs.get(&id).map_or(1, |dir| digest(id, dir.path.as_bytes())),
        };
        let hash = mix(self.fold_files(Inode::state_fingerprint), self.health as u64);
        let unsettled = self.dirs.values().filter(|dir| !dir.is_settled());
        unsettled.fold(hash, |hash, dir| mix(digest(hash, dir.path.as_bytes()), dir.unsynced_fingerprint(node_hash)))
    }

    fn fold_files(&self, file_hash: impl Fn(&Inode) -> u64) -> u64 {
        let (mut hash, mut linked) = (DIGEST_SEED, Vec::new());
        for dir in self.dirs.values() {
            hash = digest(hash, dir.path.as_bytes());
            for (name, node) in dir.live().iter() {
                hash = digest(hash, name.as_bytes());
                let Node::File(id) = node else { continue };
                let Some(inode) = self.inodes.get(id) else { continue };
                hash = mix(hash, file_hash(inode));
                if inode.links > 1 {
                    // Two names of one file are something else than two equal files.
                    let first = linked.iter().position(|other| other == id).unwrap_or(linked.len());
                    hash = mix(hash, first as u64 + 1);
                    linked.push(*id);
                }
            }
        }
        hash
    }
}

/// The names on a path. Whether it starts at the root makes no difference.
fn components(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
            Component::ParentDir => return Err(io::ErrorKind::InvalidInput.into()),
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
        }
    }
    Ok(names)
}

pub(super) fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if name.len() > 255 {
        return Err(os(errno::ENAMETOOLONG));
    }
    Ok(())
}
