//! The checker's negative control: records of servers that broke a promise, each of which it must report.

mod tale;

use self::tale::{Tale, fresh, patched, seen};
use super::{
    checker::Kind,
    history::{Answer, Facts, Lines, Patch, Seen, Status, What},
    words::{Line, Mark},
};

const STEP: Patch = Patch { status: None, progress: Some(500), result: false, lines: Lines::None, expect: None };
const END: Patch = Patch { status: Some(Status::Completed), result: true, ..STEP };

fn counted(writer: u32, first: u64, count: u64) -> Lines {
    Lines::Counted { writer, first, count }
}

fn line(seq: u64) -> Line {
    Line::Counted { writer: 3, seq }
}

/// A job at version 3 with two lines of one writer, all of it acknowledged.
fn logged() -> Tale {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.appends("a", 2, counted(3, 1, 1), 1, 0);
    tale.appends("a", 3, counted(3, 2, 1), 2, 0);
    tale
}

#[test]
fn a_faultless_record_is_not_reported() {
    let mut tale = logged();
    let lost = tale.sends("a", What::Append(counted(3, 3, 2)));
    let concurrent = tale.sends("a", What::Patch(STEP));
    let since = tale.history.now();
    tale.hears(concurrent, Answer::Changed(patched("a", 4, concurrent, STEP)));
    tale.dies();
    // The lost append was done as version 5, and what read version 4 began before.
    tale.sees_since(since, patched("a", 4, concurrent, STEP));
    tale.appends("a", 6, counted(3, 3, 3), 5, 2);
    tale.sees_log("a", 6, (1..=5).map(line).collect());
    let end = tale.sends("a", What::Patch(END));
    tale.dies();
    tale.sends_again(end);
    tale.hears(end, Answer::Changed(patched("a", 7, end, END)));
    let late = tale.sends("a", What::Patch(STEP));
    tale.hears(late, Answer::Finished);
    tale.lists(&["a"]);
    let delete = tale.sends("a", What::Delete);
    let since = tale.history.now();
    tale.hears(delete, Answer::Deleted);
    // Began before the job was known to be gone.
    tale.sees_since(since, patched("a", 7, end, END));
    tale.misses("a");
    tale.lists(&[]);
    assert_ne!(lost, end);
    tale.is_faultless();
}

#[test]
fn a_lost_acknowledged_change_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.patches("a", 2, STEP);
    tale.dies();
    tale.sees_version("a", 1);
    tale.is_reported_as(Kind::AcknowledgementLost);
}

#[test]
fn a_lost_acknowledged_job_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.dies();
    tale.misses("a");
    tale.is_reported_as(Kind::AcknowledgementLost);
}

#[test]
fn a_job_that_is_missing_in_the_list_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.ensures("b", 0);
    tale.lists(&["a"]);
    tale.is_reported_as(Kind::AcknowledgementLost);
}

#[test]
fn a_lost_acknowledged_line_is_reported() {
    let mut tale = logged();
    tale.dies();
    // Version and number of lines are as they should be.
    tale.sees_log("a", 3, vec![line(1), Line::Free { op: 0, index: 0 }]);
    tale.is_reported_as(Kind::AcknowledgementLost);
}

#[test]
fn an_acknowledged_line_that_is_missing_to_its_writer_is_reported() {
    let mut tale = logged();
    let append = tale.sends("a", What::Append(counted(3, 4, 1)));
    tale.hears(append, Answer::Gap(3));
    tale.is_faultless();
    let append = tale.sends("a", What::Append(counted(3, 3, 1)));
    tale.hears(append, Answer::Gap(2));
    tale.is_reported_as(Kind::AcknowledgementLost);
}

#[test]
fn what_nobody_sent_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    let facts = Facts { stage: Some(Mark::Foreign("stage 7".into())), ..Facts::default() };
    tale.sees(seen("a", 1, facts));
    tale.is_reported_as(Kind::Phantom);
}

#[test]
fn what_was_refused_and_is_there_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    let refused = tale.sends("a", What::Patch(STEP));
    tale.hears(refused, Answer::Moved(1));
    tale.sees_stage("a", 2, refused);
    tale.is_reported_as(Kind::Phantom);
}

#[test]
fn what_is_seen_before_it_is_sent_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.sees_version("a", 2);
    tale.patches("a", 2, STEP);
    tale.is_reported_as(Kind::Phantom);
}

#[test]
fn a_change_that_comes_after_the_death_of_its_server_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.sends("a", What::Patch(STEP));
    tale.dies();
    tale.sees_version("a", 1);
    tale.sees_version("a", 2);
    tale.is_reported_as(Kind::VersionGap);
}

#[test]
fn a_version_of_no_request_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.patches("a", 3, STEP);
    tale.is_reported_as(Kind::VersionGap);
}

#[test]
fn a_version_of_two_requests_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.patches("a", 2, STEP);
    tale.patches("a", 2, STEP);
    tale.is_reported_as(Kind::VersionTwice);
}

#[test]
fn a_version_with_two_states_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    let [one, other] = [tale.sends("a", What::Patch(STEP)), tale.sends("a", What::Patch(STEP))];
    tale.sees_stage("a", 2, one);
    tale.sees_stage("a", 2, other);
    tale.is_reported_as(Kind::VersionTwice);
}

#[test]
fn a_change_without_a_version_of_its_own_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    let lost = tale.sends("a", What::Patch(STEP));
    tale.dies();
    tale.patches("a", 2, Patch { status: Some(Status::Processing), ..STEP });
    tale.sees_stage("a", 2, lost);
    tale.is_reported_as(Kind::VersionTwice);
}

#[test]
fn a_forgotten_part_of_an_acknowledged_change_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    let patched = tale.patches("a", 2, Patch { result: true, ..STEP });
    tale.dies();
    let facts = Facts { stage: Some(Mark::Of(patched)), result: Some(Mark::Nothing), ..Facts::default() };
    tale.sees(seen("a", 2, facts));
    tale.is_reported_as(Kind::WrongContent);
}

#[test]
fn another_change_that_takes_something_away_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.patches("a", 2, Patch { result: true, ..STEP });
    let other = tale.patches("a", 3, STEP);
    let facts = Facts { stage: Some(Mark::Of(other)), result: Some(Mark::Nothing), ..Facts::default() };
    tale.sees(seen("a", 3, facts));
    tale.is_reported_as(Kind::WrongContent);
}

#[test]
fn a_torn_change_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    let op = tale.sends("a", What::Patch(Patch { lines: Lines::Free(2), ..STEP }));
    tale.dies();
    tale.sees_log("a", 2, vec![Line::Free { op, index: 0 }]);
    tale.is_reported_as(Kind::Torn);
}

#[test]
fn a_reader_that_goes_back_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.sends("a", What::Patch(STEP));
    tale.sees_version("a", 2);
    tale.sees_version("a", 1);
    tale.is_reported_as(Kind::WentBack);
}

#[test]
fn an_end_that_is_undone_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.patches("a", 2, END);
    let refused = tale.sends("a", What::Patch(STEP));
    tale.hears(refused, Answer::Finished);
    tale.patches("a", 3, Patch { status: Some(Status::Failed), ..STEP });
    tale.is_reported_as(Kind::EndUndone);
    tale.sees(seen("a", 3, Facts { status: Some(Status::Processing), ..Facts::default() }));
    tale.is_reported_as(Kind::EndUndone);
}

#[test]
fn completed_without_its_result_is_reported() {
    for facts in [
        Facts { result: Some(Mark::Nothing), ..Facts::default() },
        Facts { result: Some(Mark::Of(1)), ..Facts::default() },
        Facts { progress: Some(9_999), ..Facts::default() },
    ] {
        let mut tale = Tale::default();
        tale.ensures("a", 0);
        tale.patches("a", 2, Patch { result: true, ..STEP });
        tale.sends("a", What::Patch(END));
        tale.sees(seen("a", 3, Facts { status: Some(Status::Completed), ..facts }));
        tale.is_reported_as(Kind::CompletedWithoutResult);
    }
}

#[test]
fn an_ignored_guard_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.patches("a", 2, STEP);
    tale.patches("a", 3, Patch { expect: Some(1), ..STEP });
    tale.is_reported_as(Kind::GuardIgnored);
}

#[test]
fn a_hole_in_a_log_is_reported() {
    let mut tale = logged();
    let facts = Facts { log_count: Some(2), ..Facts::default() };
    tale.sees(Box::new(Seen { lines: Some(vec![line(1)]), ..*seen("a", 3, facts) }));
    tale.is_reported_as(Kind::LogHole);
}

#[test]
fn a_hole_in_the_count_of_a_writer_is_reported() {
    let mut tale = logged();
    tale.sends("a", What::Append(counted(3, 3, 2)));
    tale.sees_log("a", 4, vec![line(1), line(2), line(4)]);
    tale.is_reported_as(Kind::LogHole);
}

#[test]
fn a_line_that_is_there_twice_is_reported() {
    let mut tale = logged();
    tale.appends("a", 4, counted(3, 2, 1), 3, 0);
    tale.sees_log("a", 4, vec![line(1), line(2), line(2)]);
    tale.is_reported_as(Kind::LineTwice);
}

#[test]
fn lines_in_another_order_are_reported() {
    let mut tale = logged();
    tale.sees_log("a", 3, vec![line(2), line(1)]);
    tale.is_reported_as(Kind::LinesReordered);
}

#[test]
fn a_line_that_changes_is_reported() {
    let mut tale = logged();
    tale.sees_log("a", 3, vec![line(1), line(2)]);
    tale.appends("a", 4, Lines::Free(1), 3, 0);
    tale.sees_log("a", 4, vec![line(1), Line::Free { op: 3, index: 0 }, line(2)]);
    tale.is_reported_as(Kind::LineChanged);
}

#[test]
fn two_jobs_of_one_key_are_reported() {
    let mut tale = Tale::default();
    let op = tale.creates("a");
    tale.sends_again(op);
    tale.hears(op, Answer::Made(fresh("b", op, 0)));
    tale.is_reported_as(Kind::TwoJobsOfOneKey);
}

#[test]
fn a_deleted_job_that_is_there_again_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    let delete = tale.sends("a", What::Delete);
    tale.hears(delete, Answer::Deleted);
    tale.is_faultless();
    tale.sees_version("a", 1);
    tale.is_reported_as(Kind::Resurrected);
}

#[test]
fn a_deletion_that_comes_after_the_death_of_its_server_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    tale.sends("a", What::Delete);
    tale.dies();
    tale.sees_version("a", 1);
    tale.misses("a");
    tale.is_reported_as(Kind::Phantom);
}

#[test]
fn a_deleted_job_in_the_list_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    let delete = tale.sends("a", What::Delete);
    tale.hears(delete, Answer::Deleted);
    tale.lists(&["a"]);
    tale.is_reported_as(Kind::Resurrected);
}

#[test]
fn an_answer_that_must_not_be_is_reported() {
    let mut tale = Tale::default();
    tale.ensures("a", 0);
    let append = tale.sends("a", What::Append(counted(3, 1, 1)));
    tale.hears(append, Answer::Strange("500 internal".into()));
    tale.is_reported_as(Kind::StrangeAnswer);
}
