//! The models keep every promise, and each known bug breaks one.

use wal_models::checker::{breaks, holds};
use wal_models::readers::{Readers, Who};
use wal_models::{checkpoint, commit, readers, recovery, rotation, truncation};

/// Whether the long form is asked for.
fn is_deep() -> bool {
    std::env::var("WAL_TEST_DEEP").is_ok_and(|deep| deep != "0")
}

#[test]
fn model_group_commit_with_poisoning_acknowledges_only_what_a_crash_leaves_and_lets_nobody_wait() {
    for threads in 1..=4 {
        holds(&format!("group commit of {threads} threads"), &commit::Commit { threads, bug: None });
    }
}

#[test]
fn model_each_known_bug_of_group_commit_has_a_counterexample() {
    use commit::Bug::*;
    for bug in [
        SyncTriedAgain,
        WaitersToldOk,
        WaitersNotWoken,
        AcknowledgedBeforeSync,
        OffByOne,
        DeathUnnoticed,
        NoHandOver,
        TwoSyncs,
        CoveredReadAfterSync,
    ] {
        breaks(&format!("group commit, {bug:?}"), &commit::Commit { threads: 3, bug: Some(bug) });
    }
}

#[test]
fn model_rotation_leaves_a_prefix_with_all_that_was_acknowledged() {
    holds("rotation", &rotation::Rotation { bug: None });
}

#[test]
fn model_each_known_bug_of_rotation_has_a_counterexample() {
    use rotation::Bug::*;
    for bug in [DirectoryNotSynced, OldSegmentNotSynced, ReplayPastGap, FailureIgnored] {
        breaks(&format!("rotation, {bug:?}"), &rotation::Rotation { bug: Some(bug) });
    }
}

#[test]
fn model_truncation_at_both_ends_leaves_the_old_log_or_the_new_one_and_gives_no_lsn_twice() {
    holds("truncation", &truncation::Truncation { operations: 3, crashes: 2, bug: None });
}

#[test]
fn model_each_known_bug_of_truncation_has_a_counterexample() {
    use truncation::Bug::*;
    for bug in [
        RemovedBeforeCommit,
        EpochNotRaised,
        LsnReused,
        OpenedSegmentNotLowered,
        CutRemovesBeforeCommit,
        ActiveSegmentRemoved,
    ] {
        let model = truncation::Truncation { operations: 3, crashes: 2, bug: Some(bug) };
        breaks(&format!("truncation, {bug:?}"), &model);
    }
}

#[test]
fn model_recovery_of_a_recovery_keeps_what_was_shown_and_brings_nothing_back() {
    holds("recovery", &recovery::Recovery { deaths: 3, bug: None });
}

#[test]
fn model_each_known_bug_of_recovery_has_a_counterexample() {
    use recovery::Bug::*;
    for bug in [OnlySynced, ShownAsFound, RenamedBeforeSync, DirectoryNotSynced, TailOverwritten] {
        breaks(&format!("recovery, {bug:?}"), &recovery::Recovery { deaths: 3, bug: Some(bug) });
    }
}

/// A reader that begins at LSN 0, with nothing wrong.
fn readers_of(who: Who, operations: u8, has_cuts: bool) -> Readers {
    Readers { who, operations, has_cuts, from: 0, bug: None }
}

#[test]
fn model_readers_in_the_process_show_every_durable_record_or_tell_what_was_truncated() {
    holds("a follower", &readers_of(Who::Follower, 2, true));
    if is_deep() {
        holds("a follower beside three operations", &readers_of(Who::Follower, 3, false));
    }
    holds("a follower that begins inside a segment", &Readers { from: 3, ..readers_of(Who::Follower, 2, true) });
    holds("a follower with a hold", &readers_of(Who::Holder, 3, true));
}

#[test]
fn model_readers_of_the_files_show_every_record_or_tell_what_was_truncated() {
    holds("another process", &readers_of(Who::OtherProcess, 2, is_deep()));
    for from in [0, 3] {
        let name = format!("another process from LSN {from}, with a cut");
        holds(&name, &Readers { from, ..readers_of(Who::OtherProcess, 1, true) });
    }
}

#[test]
fn model_each_known_bug_of_readers_has_a_counterexample() {
    use readers::Bug::*;
    for (bug, model) in [
        (RecycledReadAsOld, readers_of(Who::Follower, 3, false)),
        (RecycledReadAsOld, readers_of(Who::OtherProcess, 2, false)),
        (ReadsPastDurable, readers_of(Who::Follower, 1, false)),
        (StartNotLookedAt, readers_of(Who::Follower, 1, false)),
        (CutNotLookedAt, readers_of(Who::Follower, 1, true)),
        (LookedOnce, readers_of(Who::Follower, 1, true)),
        (LookedOnce, readers_of(Who::OtherProcess, 1, false)),
        (DurableSeenLate, readers_of(Who::Follower, 1, false)),
        (HoldWithoutLock, readers_of(Who::Holder, 1, false)),
        (MissingNameIsEnd, readers_of(Who::OtherProcess, 1, false)),
        (MisledByShrinking, Readers { from: 3, ..readers_of(Who::OtherProcess, 1, false) }),
        (EndJudgedOnce, readers_of(Who::OtherProcess, 1, true)),
        (GapPassed, readers_of(Who::OtherProcess, 1, true)),
        (BoundaryTakenForGap, readers_of(Who::OtherProcess, 1, false)),
        (CutTakenForEnd, readers_of(Who::OtherProcess, 1, true)),
        (RemovedBeforeCommit, readers_of(Who::OtherProcess, 1, false)),
    ] {
        breaks(&format!("{:?}, {bug:?}", model.who), &Readers { bug: Some(bug), ..model });
    }
}

#[test]
fn model_checkpoint_brings_every_page_to_where_the_log_says() {
    holds("checkpoint", &checkpoint::Checkpoint { changes: 3, checkpoints: 2, is_alone: true, bug: None });
}

#[test]
fn model_each_known_bug_of_the_checkpoint_has_a_counterexample() {
    use checkpoint::Bug::*;
    for bug in [
        ImageLeftOut,
        PageBeforeLog,
        CommittedBeforeSync,
        TruncatedBeforeCommit,
        SyncTriedAgain,
        TornPageBelieved,
        CleanAlthoughChanged,
        NotWrittenAgain,
        RedoPointTakenLate,
        ImageBeforeRedoPoint,
        ImageAheadNotDurable,
        ListedOnlyAhead,
        ImageAheadOutlivesRedoPoint,
    ] {
        let model = checkpoint::Checkpoint { changes: 3, checkpoints: 2, is_alone: true, bug: Some(bug) };
        breaks(&format!("checkpoint, {bug:?}"), &model);
    }
}
