//! From what happened to what it means: passed, failed, or left out with a reason.

use super::machines::Outcome;
use super::skips::{self, Reason};
use super::translate::Prepared;

/// How many assertions of some files did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
    /// For each of [`Reason::ALL`].
    pub(super) skipped: [usize; Reason::ALL.len()],
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        for (sum, more) in self.skipped.iter_mut().zip(other.skipped) {
            *sum += more;
        }
    }

    pub(super) fn all_skipped(&self) -> usize {
        self.skipped.iter().sum()
    }
}

/// Lines and why they failed; line 0 is all of the file.
pub(super) type Failures = Vec<(u32, String)>;

/// What came of a file on this computer and on one kind of machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Assertions that were settled here.
    pub(super) here: Tally,
    /// Those of the machine's.
    pub(super) there: Tally,
    /// What failed here, and what failed there; what is left out is in neither.
    pub(super) failed_here: Failures,
    pub(super) failed_there: Failures,
}

/// Judges the file called `name`. An entry of the list that would pass is a failure there.
pub(super) fn judge(name: &str, prepared: &Prepared, outcome: &Outcome) -> Judged {
    let mut there = prepared.refused.clone();
    match outcome {
        Outcome::Done(failures) => there.extend(failures.iter().cloned()),
        Outcome::Died(why) => there.push((0, why.clone())),
    }
    let stale = stale(name, prepared.unsettled.iter().chain(&there).map(|(line, _)| *line).collect());
    let (tally_here, failed_here) = count(name, &prepared.settled, prepared.unsettled.clone());
    let (mut tally_there, mut failed_there) = count(name, &prepared.assertions, there);
    tally_there.failed += stale.len();
    failed_there.extend(stale);
    Judged { here: tally_here, there: tally_there, failed_here, failed_there }
}

/// What the list leaves out though it would pass.
fn stale(name: &str, failing: Vec<u32>) -> Failures {
    let stale = skips::of(name).into_iter().flat_map(|skip| skip.stale(&failing));
    let why = "is left out in qemu/xtask/src/spec/skips.rs, and would pass; take it out of that list";
    stale.map(|line| (line, why.to_owned())).collect()
}

fn count(name: &str, assertions: &[u32], failures: Failures) -> (Tally, Failures) {
    let skips = skips::of(name);
    let reason = |line| {
        let skip = skips.iter().find(|skip| skip.has(line))?;
        Reason::ALL.iter().position(|reason| *reason == skip.reason)
    };
    let mut tally = Tally::default();
    if let Some(skip) = skips.iter().find(|skip| skip.is_whole()) {
        let number = Reason::ALL.iter().position(|reason| *reason == skip.reason);
        tally.skipped[number.unwrap_or(0)] = assertions.len();
        return (tally, Vec::new());
    }
    // After line 0 nothing was run: no other assertion has passed.
    let all_failed = failures.iter().any(|(line, _)| *line == 0);
    let mut not_passed = 0;
    let mut failed = Vec::new();
    for (line, why) in failures {
        let is_assertion = assertions.contains(&line);
        not_passed += usize::from(is_assertion);
        match reason(line) {
            Some(number) => tally.skipped[number] += usize::from(is_assertion),
            None => failed.push((line, why)),
        }
    }
    if all_failed {
        tally.failed = assertions.len().max(1).saturating_sub(tally.all_skipped());
    } else {
        tally.passed = assertions.len() - not_passed;
        tally.failed = failed.len();
    }
    (tally, failed)
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Prepared, judge};

    fn prepared() -> Prepared {
        Prepared { assertions: vec![2, 3, 3, 5], settled: vec![7, 8], ..Prepared::default() }
    }

    #[test]
    fn what_did_not_fail_has_passed() {
        let judged = judge("a", &prepared(), &Outcome::Done(Vec::new()));
        assert_eq!((judged.here.passed, judged.there.passed), (2, 4));
        assert!(judged.failed_here.is_empty() && judged.failed_there.is_empty());
    }

    #[test]
    fn failures_count_once_wherever_they_came_from() {
        let mut prepared = prepared();
        prepared.refused = vec![(1, "no module".into())];
        prepared.unsettled = vec![(8, "compiled".into())];
        let outcome = Outcome::Done(vec![(2, "no instance".into()), (3, "wrong".into())]);
        let judged = judge("a", &prepared, &outcome);
        // Line 1 is no assertion, and has failed all the same.
        assert_eq!((judged.there.passed, judged.there.failed), (2, 3));
        assert_eq!((judged.here.passed, judged.here.failed), (1, 1));
        assert_eq!(judged.failed_there.len(), 3);
    }

    #[test]
    fn a_file_that_kills_its_machine_has_failed_altogether() {
        let judged = judge("a", &prepared(), &Outcome::Died("triple fault".into()));
        assert_eq!((judged.there.passed, judged.there.failed), (0, 4));
        assert_eq!(judged.failed_there, [(0, "triple fault".to_owned())]);
    }

    #[test]
    fn what_is_left_out_and_would_pass_has_failed() {
        let name = "threads/atomic.wast";
        let judged = judge(name, &prepared(), &Outcome::Done(vec![(2, "no threads".into())]));
        assert_eq!((judged.there.all_skipped(), judged.there.failed, judged.here.all_skipped()), (4, 0, 2));
        let judged = judge(name, &prepared(), &Outcome::Done(Vec::new()));
        assert_eq!(judged.there.failed, 1);
        assert!(judged.failed_there[0].1.contains("skips.rs"), "{judged:?}");
    }
}
