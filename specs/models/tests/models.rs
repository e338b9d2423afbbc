//! The models keep every promise, and each known bug breaks one.

use wal_models::checker::{breaks, holds};
use wal_models::{checkpoint, commit, recovery, rotation, truncation};

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

#[test]
fn model_checkpoint_brings_every_page_to_where_the_log_says() {
    holds("checkpoint", &checkpoint::Checkpoint { changes: 3, checkpoints: 2, bug: None });
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
    ] {
        let model = checkpoint::Checkpoint { changes: 3, checkpoints: 2, bug: Some(bug) };
        breaks(&format!("checkpoint, {bug:?}"), &model);
    }
}
