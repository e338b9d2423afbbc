//! What a crash leaves behind.

use std::borrow::Cow;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use super::config::{LostSectors, NamePersistence};
use super::content::{PAGE, SECTOR};
use super::inode::{Inode, SectorVersions};
use super::names::{InodeId, Node};
use super::rng::Rng;
use super::table::Table;
use super::volume::{Health, Volume};

/// How a crash decides what survives.
///
/// Whatever was not synced is *undecided*: each sector, each size and each name by itself. An undecided item has versions:
/// version 0 is durable, and each change since then made another. The crash picks one for each item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashPlan {
    choice: Choice,
    seed: u64,
    torn_sectors: bool,
    damaged_neighbours: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Nothing,
    Everything,
    Random,
    Mask(u64),
    Versions(Vec<u32>),
}

impl CrashPlan {
    fn new(choice: Choice) -> CrashPlan {
        CrashPlan { choice, seed: 0, torn_sectors: false, damaged_neighbours: false }
    }

    /// Only what was synced survives.
    pub fn keep_nothing() -> CrashPlan {
        CrashPlan::new(Choice::Nothing)
    }

    /// Everything survives, also what was never synced.
    pub fn keep_everything() -> CrashPlan {
        CrashPlan::new(Choice::Everything)
    }

    /// A random version of each item. The same seed makes the same choices.
    pub fn random(seed: u64) -> CrashPlan {
        CrashPlan { seed, ..CrashPlan::new(Choice::Random) }
    }

    /// The newest version of the items whose bit is set, the durable one of the others. Bit 0 is the first item of
    /// [`SimFs::undecided`](super::SimFs::undecided); items after the 64th keep their durable version.
    pub fn mask(bits: u64) -> CrashPlan {
        CrashPlan::new(Choice::Mask(bits))
    }

    /// One version for each item of [`SimFs::undecided`](super::SimFs::undecided), in its order. Missing numbers count as
    /// 0, and too large ones as the last version.
    pub fn versions(versions: Vec<u32>) -> CrashPlan {
        CrashPlan::new(Choice::Versions(versions))
    }

    /// Tears some of the undecided sectors at byte boundaries: they hold parts of two versions.
    pub fn with_torn_sectors(mut self) -> CrashPlan {
        self.torn_sectors = true;
        self
    }

    /// Damages some sectors that are durable, or were never touched, next to undecided ones, within the same aligned 4,096
    /// bytes: a disk without powersafe overwrite.
    pub fn with_damaged_neighbours(mut self) -> CrashPlan {
        self.damaged_neighbours = true;
        self
    }

    /// The seed for tears, damage and garbage, if it is not given already by [`CrashPlan::random`].
    pub fn with_seed(mut self, seed: u64) -> CrashPlan {
        self.seed = seed;
        self
    }
}

/// What kind of thing a crash decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UndecidedKind {
    /// What a name in a directory leads to.
    Name,
    /// How much of the journal survives, counted in changes of names; see
    /// [`NamePersistence::Journal`](super::NamePersistence::Journal).
    Journal,
    /// The size of a file.
    Size,
    /// The sector of a file with this number.
    Sector(u64),
}

/// One thing that a crash decides about independently of all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Undecided {
    /// What it is.
    pub kind: UndecidedKind,
    /// The path of the file or directory.
    pub path: String,
    /// The number of versions, at least 2.
    pub versions: u32,
    /// The version that programs see before the crash. It need not be the last: a sector may hold old bytes again.
    pub newest: u32,
}

impl fmt::Display for Undecided {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            UndecidedKind::Name => write!(formatter, "name {}", self.path)?,
            UndecidedKind::Journal => formatter.write_str("journal")?,
            UndecidedKind::Size => write!(formatter, "size of {}", self.path)?,
            UndecidedKind::Sector(sector) => write!(formatter, "sector {sector} of {}", self.path)?,
        }
        write!(formatter, ": {} versions", self.versions)
    }
}

/// All outcomes of a crash, one [`CrashPlan`] for each; made by [`SimFs::outcomes`](super::SimFs::outcomes).
#[derive(Clone, Debug)]
pub struct Outcomes {
    versions: Vec<u32>,
    next: Option<Vec<u32>>,
}

impl Outcomes {
    pub(super) fn new(items: &[Undecided]) -> Outcomes {
        let versions: Vec<u32> = items.iter().map(|item| item.versions).collect();
        Outcomes { next: Some(vec![0; versions.len()]), versions }
    }
}

impl Iterator for Outcomes {
    type Item = CrashPlan;

    fn next(&mut self) -> Option<CrashPlan> {
        let current = self.next.take()?;
        let mut following = current.clone();
        for (digit, versions) in following.iter_mut().zip(&self.versions) {
            *digit += 1;
            if *digit < *versions {
                self.next = Some(following);
                break;
            }
            *digit = 0;
        }
        Some(CrashPlan::versions(current))
    }
}

impl FusedIterator for Outcomes {}

/// Makes the choices of one crash, in one fixed order of the items.
struct Chooser<'a> {
    plan: &'a CrashPlan,
    rng: Rng,
    /// How probable the newest version is, in percent, for names, sizes and sectors.
    keep: [u64; 3],
    asked: usize,
    /// The items are written down here when somebody wants to know them.
    items: Option<Vec<Undecided>>,
}

impl<'a> Chooser<'a> {
    fn new(plan: &'a CrashPlan, listing: bool) -> Chooser<'a> {
        let mut rng = Rng::new(plan.seed);
        // Extremes are as likely as mixtures: many bugs need all of one kind and nothing of another.
        let keep = std::array::from_fn(|_| [0, 20, 50, 50, 90, 100][rng.below(6)]);
        Chooser { plan, rng, keep, asked: 0, items: listing.then(Vec::new) }
    }

    fn choose(&mut self, kind: UndecidedKind, path: impl FnOnce() -> String, versions: usize, newest: usize) -> usize {
        if versions < 2 {
            return 0;
        }
        if let Some(items) = &mut self.items {
            items.push(Undecided { kind, path: path(), versions: versions as u32, newest: newest as u32 });
        }
        let index = self.asked;
        self.asked += 1;
        match &self.plan.choice {
            Choice::Nothing => 0,
            Choice::Everything => newest,
            Choice::Random => self.choose_at_random(kind, versions, newest),
            Choice::Mask(bits) => usize::from(index < 64 && bits >> index & 1 == 1) * newest,
            Choice::Versions(chosen) => chosen.get(index).map_or(0, |version| (*version as usize).min(versions - 1)),
        }
    }

    fn choose_at_random(&mut self, kind: UndecidedKind, versions: usize, newest: usize) -> usize {
        let keep = match kind {
            UndecidedKind::Name | UndecidedKind::Journal => self.keep[0],
            UndecidedKind::Size => self.keep[1],
            UndecidedKind::Sector(_) => self.keep[2],
        };
        match keep {
            _ if self.rng.percent(keep) => newest,
            // Nothing of this kind is kept.
            0 => 0,
            _ => self.rng.below(versions),
        }
    }
}

impl Volume {
    /// The volume as the next boot finds it.
    pub(super) fn after_crash(&self, plan: &CrashPlan) -> Volume {
        self.decide(&mut Chooser::new(plan, false))
    }

    pub(super) fn undecided(&self) -> Vec<Undecided> {
        let plan = CrashPlan::keep_nothing();
        let mut chooser = Chooser::new(&plan, true);
        self.decide(&mut chooser);
        chooser.items.unwrap_or_default()
    }

    fn decide(&self, chooser: &mut Chooser<'_>) -> Volume {
        let mut after = Volume {
            config: self.config.clone(),
            rng: Rng::new(self.config.seed ^ chooser.plan.seed),
            dirs: Table::with_capacity(self.dirs.len()),
            inodes: Table::with_capacity(self.inodes.len()),
            stale: Arc::clone(&self.stale),
            health: Health::Good,
            next_id: self.next_id,
            name_changes: 0,
        };
        self.decide_names(chooser, &mut after);
        let links = keep_reachable(&mut after);
        for (id, inode) in self.inodes.iter() {
            if inode.links == 0 && !self.is_reachable(*id) {
                continue;
            }
            let mut survivor = self.decide_file(chooser, *id, inode);
            match links.get(id) {
                Some(links) if survivor.links == *links => {}
                Some(links) => Arc::make_mut(&mut survivor).links = *links,
                None => {
                    after.bury(&survivor);
                    continue;
                }
            }
            after.inodes.insert(*id, survivor);
        }
        after
    }

    fn decide_names(&self, chooser: &mut Chooser<'_>, after: &mut Volume) {
        if self.config.names == NamePersistence::Journal {
            return self.decide_journal(chooser, after);
        }
        for (id, dir) in self.dirs.iter() {
            let survivor = if dir.is_settled() {
                Arc::clone(dir)
            } else {
                Arc::new(dir.after_crash(self.config.rename_may_lose_file, |name, versions| {
                    let path = || super::trace::join(&dir.path, name);
                    chooser.choose(UndecidedKind::Name, path, versions, versions - 1)
                }))
            };
            after.dirs.insert(*id, survivor);
        }
    }

    fn decide_journal(&self, chooser: &mut Chooser<'_>, after: &mut Volume) {
        let mut changes: Vec<u64> = self.dirs.values().flat_map(|dir| dir.unsynced_changes()).collect();
        changes.push(0);
        changes.sort_unstable();
        changes.dedup();
        let kept = chooser.choose(UndecidedKind::Journal, || "/".to_owned(), changes.len(), changes.len() - 1);
        for (id, dir) in self.dirs.iter() {
            let survivor = if dir.is_settled() { Arc::clone(dir) } else { Arc::new(dir.up_to(changes[kept])) };
            after.dirs.insert(*id, survivor);
        }
    }

    fn decide_file(&self, chooser: &mut Chooser<'_>, id: InodeId, inode: &Arc<Inode>) -> Arc<Inode> {
        if inode.is_settled() {
            return Arc::clone(inode);
        }
        let (sizes, newest) = inode.size_versions();
        let size = sizes[chooser.choose(UndecidedKind::Size, || self.path_of(id), sizes.len(), newest)];
        let mut content = inode.disk().clone();
        let undecided = inode.undecided_sectors(self.config.lost_sectors != LostSectors::Zeros);
        for item in &undecided {
            let path = || self.path_of(id);
            let version = chooser.choose(UndecidedKind::Sector(item.sector), path, item.versions.len(), item.newest);
            let bytes = self.surviving_bytes(chooser, inode, item, version);
            if version != 0 || *bytes != *item.versions[0] {
                content.store(&bytes, item.sector * SECTOR as u64);
            }
        }
        if chooser.plan.damaged_neighbours {
            damage_neighbours(chooser, &undecided, &mut content);
        }
        content.set_len(size);
        Arc::new(inode.survivor(content))
    }

    fn surviving_bytes<'a>(
        &self,
        chooser: &mut Chooser<'_>,
        inode: &Inode,
        item: &SectorVersions<'a>,
        version: usize,
    ) -> Cow<'a, [u8]> {
        let is_lost = version == 0 && inode.disk().is_hole(item.sector);
        let lost = self.config.lost_sectors;
        let mut bytes = if is_lost && lost != LostSectors::Zeros {
            Cow::Owned(self.bytes_of_lost_sector(lost, &mut chooser.rng))
        } else {
            Cow::Borrowed(item.versions[version])
        };
        if chooser.plan.torn_sectors && chooser.rng.percent(50) {
            let other = item.versions[chooser.rng.below(item.versions.len())];
            let (left, right) = (chooser.rng.below(SECTOR + 1), chooser.rng.below(SECTOR + 1));
            let torn = left.min(right)..left.max(right);
            bytes.to_mut()[torn.clone()].copy_from_slice(&other[torn]);
        }
        bytes
    }

    fn bytes_of_lost_sector(&self, lost: LostSectors, rng: &mut Rng) -> Vec<u8> {
        let source = match lost {
            LostSectors::Zeros => return vec![0; SECTOR],
            LostSectors::Garbage => None,
            LostSectors::Stale => self.stale_sector(rng),
            LostSectors::Foreign => self.foreign_sector(rng),
            LostSectors::Any => {
                const KINDS: [LostSectors; 4] =
                    [LostSectors::Zeros, LostSectors::Garbage, LostSectors::Stale, LostSectors::Foreign];
                return self.bytes_of_lost_sector(KINDS[rng.below(KINDS.len())], rng);
            }
        };
        source.map_or_else(
            || {
                let mut bytes = vec![0; SECTOR];
                rng.fill(&mut bytes);
                bytes
            },
            <[u8]>::to_vec,
        )
    }

    fn stale_sector(&self, rng: &mut Rng) -> Option<&[u8]> {
        if self.stale.is_empty() {
            return None;
        }
        let page = &self.stale[rng.below(self.stale.len())];
        Some(page.sector(rng.below(PAGE / SECTOR)))
    }

    fn foreign_sector(&self, rng: &mut Rng) -> Option<&[u8]> {
        let files: Vec<&Inode> =
            self.inodes.values().map(|inode| &**inode).filter(|inode| inode.disk().len() > 0).collect();
        let disk = files.get(rng.below(files.len().max(1)))?.disk();
        Some(disk.sector(rng.below(disk.len().div_ceil(SECTOR as u64) as usize) as u64))
    }
}

/// Drops the directories that no name leads to, and counts the names of each file.
fn keep_reachable(after: &mut Volume) -> Table<InodeId, u32> {
    let mut links = Table::<InodeId, u32>::with_capacity(after.inodes.len());
    let mut open = vec![0];
    let mut reached = Vec::new();
    while let Some(id) = open.pop() {
        reached.push(id);
        for node in after.dirs.get(&id).into_iter().flat_map(|dir| dir.live().values()) {
            match node {
                Node::File(inode) => match links.get_mut(inode) {
                    Some(count) => *count += 1,
                    None => links.insert(*inode, 1),
                },
                Node::Dir(dir) => open.push(*dir),
            }
        }
    }
    after.dirs.retain(|id| reached.contains(id));
    links
}

/// Puts garbage into sectors that nobody wrote, next to sectors that somebody did.
fn damage_neighbours(
    chooser: &mut Chooser<'_>,
    undecided: &[SectorVersions<'_>],
    content: &mut super::content::Content,
) {
    let per_page = (PAGE / SECTOR) as u64;
    for page in undecided.chunk_by(|left, right| left.sector / per_page == right.sector / per_page) {
        let neighbour = page[0].sector / per_page * per_page + chooser.rng.below(PAGE / SECTOR) as u64;
        if chooser.rng.percent(50) && !page.iter().any(|item| item.sector == neighbour) {
            let mut bytes = [0; SECTOR];
            chooser.rng.fill(&mut bytes);
            content.store(&bytes, neighbour * SECTOR as u64);
        }
    }
}
