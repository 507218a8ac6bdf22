//! Many instances, one after another, and what they cost.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::{self, Write};

use allotment::{Allocator, PoolKind};
use kernel::clock::monotonic_ns;

use crate::{
    instance::Launcher,
    streams::{Outcome, Streams},
};

/// Runs `count` instances and says how they did. The outcome is that of the
/// first that did not exit with 0.
pub(crate) fn run(
    launcher: &Launcher,
    count: u32,
    allocator: &Allocator,
    streams: &Streams,
) -> Result<Outcome, Outcome> {
    let mut series = Series::new(allocator);
    let mut refused = None;
    for number in 1..=count {
        let launched = match launcher.launch(streams.clone(), None) {
            Ok(launched) => launched,
            Err(why) => {
                // The next ones would fare no better.
                refused = Some(why);
                break;
            }
        };
        series.last = frames_in_use(allocator);
        if number == 1 {
            series.first = series.last;
        }
        let begin = monotonic_ns();
        drop(launched.store);
        let give_back = monotonic_ns() - begin;
        series.times.push([launched.instantiate, launched.run, give_back]);
        series.count(launched.outcome);
    }
    streams.say(&series.summary(count, allocator));
    match (refused, series.failed) {
        (_, Some(failed)) => Ok(failed),
        (Some(refused), None) => Err(refused),
        (None, None) => Ok(Outcome::Exited(0)),
    }
}

/// What is known of the instances so far.
struct Series {
    /// Nanoseconds of each instance for each of [`STEPS`].
    times: Vec<[u64; 3]>,
    /// How often each kind of end came, the first to come first.
    ends: Vec<(String, u32)>,
    /// The first outcome that is not 0.
    failed: Option<Outcome>,
    /// Slots as they were before.
    slots: Vec<(PoolKind, u64)>,
    /// Frames in use before, and while the first and the last one lived.
    before: usize,
    first: usize,
    last: usize,
}

const STEPS: [&str; 3] = ["instantiate", "run", "give back"];

impl Series {
    fn new(allocator: &Allocator) -> Self {
        let before = frames_in_use(allocator);
        Self {
            times: Vec::new(),
            ends: Vec::new(),
            failed: None,
            slots: slots(allocator),
            before,
            first: before,
            last: before,
        }
    }

    fn count(&mut self, outcome: Outcome) {
        let end = match &outcome {
            Outcome::Exited(status) => format!("exited with {status}"),
            Outcome::Trapped { cause, .. } => cause.to_string(),
            Outcome::Refused(why) => why.to_string(),
        };
        match self.ends.iter_mut().find(|(known, _)| *known == end) {
            Some((_, count)) => *count += 1,
            None => self.ends.push((end, 1)),
        }
        if !matches!(outcome, Outcome::Exited(0)) {
            self.failed.get_or_insert(outcome);
        }
    }

    fn summary(&self, wanted: u32, allocator: &Allocator) -> String {
        let done = self.times.len();
        let plural = if wanted == 1 { "instance" } else { "instances" };
        let mut text = format!("{done} of {wanted} {plural}");
        for (number, (end, count)) in self.ends.iter().enumerate() {
            let separator = if number == 0 { ": " } else { ", " };
            // Writing to a `String` cannot fail, here and below.
            let _ = write!(text, "{separator}{count} {end}");
        }
        if done == 0 {
            return text;
        }
        let _ = write!(text, "\n{:<12} {:>11} {:>11} {:>11}", "", "first", "median", "total");
        for (step, name) in STEPS.iter().enumerate() {
            let mut times: Vec<u64> = self.times.iter().map(|times| times[step]).collect();
            let (first, total) = (times.first().copied().unwrap_or(0), times.iter().sum());
            times.sort_unstable();
            let median = times.get(done / 2).copied().unwrap_or(0);
            let [first, median, total] = [first, median, total].map(|time| Time(time).to_string());
            let _ = write!(text, "\n{name:<12} {first:>11} {median:>11} {total:>11}");
        }
        let _ = write!(text, "\nslots        {}", self.used_slots(allocator));
        let _ = write!(
            text,
            "\nframes       {} in use before, {} with the first, {} with the last, {} after",
            self.before,
            self.first,
            self.last,
            frames_in_use(allocator)
        );
        text
    }

    /// How many slots of each kind were given out meanwhile.
    fn used_slots(&self, allocator: &Allocator) -> String {
        // Kind, slots that were used, slots.
        let mut kinds: Vec<(PoolKind, u32, u32)> = Vec::new();
        for ((kind, before), (_, after)) in self.slots.iter().zip(slots(allocator)) {
            let used = u32::from(*before != after);
            match kinds.iter_mut().find(|(known, ..)| known == kind) {
                Some((_, count, total)) => (*count, *total) = (*count + used, *total + 1),
                None => kinds.push((*kind, used, 1)),
            }
        }
        let mut text = if kinds.is_empty() { "none carved".to_string() } else { String::new() };
        for (number, (kind, used, total)) in kinds.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let _ = write!(text, "{separator}{used} of {total} used for {kind}");
        }
        text
    }
}

/// Kind and generation of every slot.
fn slots(allocator: &Allocator) -> Vec<(PoolKind, u64)> {
    let mut slots = Vec::new();
    allocator.for_each_slot(|slot| slots.push((slot.pool, slot.generation)));
    slots
}

fn frames_in_use(allocator: &Allocator) -> usize {
    allocator.plan().frames - allocator.metrics().available_frames
}

/// Nanoseconds, for people.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..1_000_000 => (1_000, "us"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        write!(f, "{}.{:02} {name}", self.0 / unit, self.0 % unit / (unit / 100))
    }
}
