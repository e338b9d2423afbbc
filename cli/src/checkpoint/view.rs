//! What the library says about a store, in the form in which it is printed. LSNs are strings.

use std::path::Path;

use checkpoint::inspect::{
    CheckpointRecordState, Finding, FindingKind, PageCounts, Replay, StoreInfo, TreeCounts, VerifyReport,
};
use serde::Serialize;

use crate::output::count;
use crate::size::show_bytes;

/// A store, as `show` shows it.
#[derive(Debug, Serialize)]
pub(super) struct StoreView {
    path: String,
    log_id: String,
    state: &'static str,
    page_bytes: u32,
    sequence: u64,
    redo_lsn: String,
    checkpoint_lsn: Option<String>,
    checkpoint_record: &'static str,
    pages_written: Option<u64>,
    log: Option<LogView>,
    pages: Option<PagesView>,
    is_settled: bool,
    pub(super) findings: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
struct LogView {
    start_lsn: String,
    end_lsn: String,
    closed: bool,
    bytes_since_redo: u64,
    records_since_redo: u64,
    records_to_replay: u64,
    changes_to_replay: u64,
    images_since_redo: u64,
}

#[derive(Debug, Serialize)]
struct PagesView {
    file_bytes: u64,
    file_pages: u64,
    spare_pages: u64,
    spare_images: u64,
    used_pages: Option<u64>,
    free_pages: Option<u64>,
    root: Option<u64>,
    tree_depth: Option<u64>,
}

/// Something that was found.
#[derive(Debug, Serialize)]
pub(super) struct FindingView {
    pub(super) kind: &'static str,
    #[serde(rename = "damage")]
    pub(super) is_damage: bool,
    file: String,
    page: Option<u64>,
    offset: Option<u64>,
    lsn: Option<String>,
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) advice: &'static str,
    #[serde(skip)]
    pub(super) place: String,
}

/// A verification.
#[derive(Debug, Serialize)]
pub(super) struct VerifyView {
    verdict: &'static str,
    exit_code: u8,
    replay: ReplayView,
    checked: PageCounts,
    tree: Option<TreeCounts>,
    pub(super) not_judged: Vec<String>,
    findings_left_off: u64,
    #[serde(flatten)]
    pub(super) store: StoreView,
}

#[derive(Debug, Serialize)]
struct ReplayView {
    outcome: &'static str,
    pages: u64,
    changes_applied: u64,
    changes_skipped: u64,
    pages_restored: u64,
    memory_bytes: Option<u64>,
}

impl StoreView {
    pub(super) fn new(dir: &Path, info: &StoreInfo, is_in_use: bool) -> StoreView {
        let state = match &info.log {
            _ if is_in_use => "in use",
            None => "unknown",
            Some(_) if info.is_closed_cleanly() => "closed cleanly",
            Some(log) if log.change_records > 0 => "not closed: the next open replays the log",
            Some(_) => "not closed: nothing is to be replayed",
        };
        let (checkpoint_record, pages_written) = match info.checkpoint_record {
            CheckpointRecordState::NoCheckpoint => ("none yet", None),
            CheckpointRecordState::Present { pages_written } => ("present", Some(pages_written)),
            CheckpointRecordState::Missing => ("missing", None),
            _ => ("unreadable", None),
        };
        StoreView {
            path: dir.display().to_string(),
            log_id: info.log_id.to_string(),
            state,
            page_bytes: info.page_bytes,
            sequence: info.sequence,
            redo_lsn: info.redo_lsn.to_string(),
            checkpoint_lsn: info.checkpoint_lsn.map(|lsn| lsn.to_string()),
            checkpoint_record,
            pages_written,
            log: info.log.as_ref().map(|log| LogView {
                start_lsn: log.start_lsn.to_string(),
                end_lsn: log.end_lsn.to_string(),
                closed: log.is_closed,
                bytes_since_redo: log.bytes,
                records_since_redo: log.records,
                records_to_replay: log.change_records,
                changes_to_replay: log.changes,
                images_since_redo: log.images,
            }),
            pages: info.pages.as_ref().map(|pages| PagesView {
                file_bytes: pages.file_bytes,
                file_pages: pages.file_pages,
                spare_pages: pages.spare_pages,
                spare_images: pages.spare_images,
                used_pages: pages.meta.map(|meta| meta.page_count.saturating_sub(meta.free_count)),
                free_pages: pages.meta.map(|meta| meta.free_count),
                root: pages.meta.map(|meta| meta.root.get()),
                tree_depth: pages.meta.map(|meta| meta.depth),
            }),
            is_settled: info.is_settled,
            findings: info.findings.iter().map(FindingView::new).collect(),
        }
    }

    /// Names and values for people.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let checkpoint = match (&self.checkpoint_lsn, self.pages_written) {
            (None, _) => "none yet".to_owned(),
            (Some(lsn), Some(pages)) => {
                format!("number {}, record at LSN {lsn}, wrote {}", self.sequence, count(pages, "page"))
            }
            (Some(lsn), None) => format!("number {}, record at LSN {lsn}: {}", self.sequence, self.checkpoint_record),
        };
        let mut fields = vec![
            ("path", self.path.clone()),
            ("store id", self.log_id.clone()),
            ("state", self.state.to_owned()),
            ("checkpoint", checkpoint),
            ("redo LSN", self.redo_lsn.clone()),
        ];
        if let Some(log) = &self.log {
            fields.push(("log", format!("LSN {} to {}", log.start_lsn, log.end_lsn)));
            let records = count(log.records_since_redo, "record");
            fields.push(("since redo", format!("{} of log, {records}", show_bytes(log.bytes_since_redo))));
            let changes = count(log.changes_to_replay, "change");
            fields.push(("to replay", format!("{}, {changes}", count(log.records_to_replay, "record"))));
        }
        fields.push(("page size", show_bytes(self.page_bytes.into())));
        if let Some(pages) = &self.pages {
            let or_dash = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
            let (used, free) = (or_dash(pages.used_pages), or_dash(pages.free_pages));
            let (room, spare) = (pages.file_pages, pages.spare_pages);
            fields.push(("pages", format!("{used} used, {free} free, {spare} spare; the file has room for {room}")));
            fields.push(("page file", show_bytes(pages.file_bytes)));
            fields.push(("tree", format!("{} levels, root {}", or_dash(pages.tree_depth), or_dash(pages.root))));
        }
        fields
    }
}

impl FindingView {
    fn new(finding: &Finding) -> FindingView {
        let mut place = finding.file.to_string();
        let parts = [
            finding.page.map(|page| format!(", page {page}")),
            finding.offset.map(|offset| format!(", offset {offset}")),
            finding.lsn.map(|lsn| format!(", LSN {lsn}")),
        ];
        parts.into_iter().flatten().for_each(|part| place.push_str(&part));
        FindingView {
            kind: kind(finding.kind),
            is_damage: finding.is_damage(),
            file: finding.file.to_string(),
            page: finding.page.map(checkpoint::PageId::get),
            offset: finding.offset,
            lsn: finding.lsn.map(|lsn| lsn.to_string()),
            expected: finding.expected.clone(),
            found: finding.found.clone(),
            advice: finding.advice(),
            place,
        }
    }
}

fn kind(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::ControlFile => "control file",
        FindingKind::Log => "log",
        FindingKind::PageFileMissing => "page file missing",
        FindingKind::PageFileShort => "page file short",
        FindingKind::TornPage => "torn page",
        FindingKind::DamagedPage => "damaged page",
        FindingKind::LostWrite => "lost write",
        FindingKind::NewerThanLog => "newer than the log",
        FindingKind::Meta => "meta page",
        FindingKind::WrongPage => "wrong page",
        FindingKind::NoSuchPage => "no such page",
        FindingKind::ReferencedTwice => "referenced twice",
        FindingKind::KeyOrder => "key order",
        FindingKind::KeyRange => "key range",
        FindingKind::ValueLength => "value length",
        FindingKind::FreeCount => "free count",
        FindingKind::LostPage => "lost page",
        _ => "other",
    }
}

impl VerifyView {
    pub(super) fn new(dir: &Path, report: &VerifyReport, is_in_use: bool) -> VerifyView {
        let verdict = match () {
            () if report.has_damage() && !report.is_settled => "in motion",
            () if report.has_damage() => "damaged",
            () if !report.not_judged.is_empty() => "not all judged",
            () => "sound",
        };
        let store = StoreView {
            findings: report.findings.iter().map(FindingView::new).collect(),
            is_settled: report.is_settled,
            ..StoreView::new(dir, &report.info, is_in_use)
        };
        VerifyView {
            verdict,
            exit_code: u8::from(verdict == "damaged"),
            replay: ReplayView::new(report.replay),
            checked: report.pages,
            tree: report.tree,
            not_judged: report.not_judged.clone(),
            findings_left_off: report.findings_left_off,
            store,
        }
    }

    /// Names and values for people.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = self.store.fields();
        let replay = &self.replay;
        fields.push((
            "replayed",
            match replay.outcome {
                "in memory" => format!(
                    "in memory: {}, {} made, {} there already, {} restored",
                    count(replay.pages, "page"),
                    count(replay.changes_applied, "change"),
                    replay.changes_skipped,
                    count(replay.pages_restored, "torn page"),
                ),
                outcome => outcome.to_owned(),
            },
        ));
        let PageCounts { checked, leaves, branches, overflow, free, damaged, .. } = self.checked;
        fields.push((
            "checked",
            format!("{checked} pages: {leaves} leaves, {branches} branches, {overflow} overflow, {free} free, {damaged} unusable"),
        ));
        if let Some(tree) = &self.tree {
            let (keys, values) = (show_bytes(tree.key_bytes), show_bytes(tree.value_bytes));
            fields.push(("entries", format!("{}, {keys} of keys, {values} of values", tree.entries)));
        }
        if self.findings_left_off > 0 {
            fields.push(("left off", format!("{} more findings", self.findings_left_off)));
        }
        fields.push(("verdict", self.verdict.to_owned()));
        fields
    }
}

impl ReplayView {
    fn new(replay: Replay) -> ReplayView {
        let nothing = ReplayView {
            outcome: "impossible",
            pages: 0,
            changes_applied: 0,
            changes_skipped: 0,
            pages_restored: 0,
            memory_bytes: None,
        };
        match replay {
            Replay::Nothing => ReplayView { outcome: "nothing to replay", ..nothing },
            Replay::InMemory { pages, changes_applied, changes_skipped, pages_restored } => {
                ReplayView { outcome: "in memory", pages, changes_applied, changes_skipped, pages_restored, ..nothing }
            }
            Replay::TooLarge { pages, memory_bytes } => {
                ReplayView { outcome: "too large", pages, memory_bytes: Some(memory_bytes), ..nothing }
            }
            _ => nothing,
        }
    }
}
