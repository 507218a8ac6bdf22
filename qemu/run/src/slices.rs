//! Many instances at a time, which take turns on every CPU.
//!
//! ```text
//!   CPU 0   instances 1, 5, 9 ..   timer: epoch += 1     executor::Row: each a turn, and again
//!   CPU 1   instances 2, 6, 10 ..     `- all see it      likewise
//!   ...
//! ```
//!
//! An instance stays on its CPU, so that its memory's translations need no care.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write;

use kernel::cpus;
use spin::Mutex;

use crate::{
    executor::{Done, Row},
    instance::Launcher,
    streams::{Outcome, Streams},
};

/// The variable that tells an instance its number.
pub(crate) const NUMBER: &str = "ALLOTMENT_INSTANCE";

/// Runs `count` instances, of which each knows its number, and says how they did. The outcome is that of the
/// first by number that did not exit with 0.
pub(crate) fn run(launcher: &Launcher, count: u32, streams: &Streams) -> Result<Outcome, Outcome> {
    let cpus = usize::try_from(count).map_or(cpus::count(), |count| cpus::count().min(count));
    let ended = Mutex::new(Vec::new());
    let take_turns = |cpu: usize| {
        let mut row = Row::default();
        let step = cpus.max(1);
        for number in (1..=count).skip(cpu).step_by(step) {
            let variable = format!("{NUMBER}={number}");
            row.push(number, async move {
                let launched = launcher.launch_async(streams.clone(), Some(variable)).await;
                launched.map(|launched| launched.outcome)
            });
        }
        while !row.is_empty() {
            if let Some(done) = row.turn() {
                ended.lock().push(done);
            }
        }
    };
    launcher.ticking(|| cpus::together(cpus, &take_turns)).map_err(Outcome::Refused)?;

    let mut ended = ended.into_inner();
    ended.sort_unstable_by_key(|done| done.number);
    streams.say(&summary(&ended, cpus));
    let failed = ended.into_iter().map(|done| done.result.unwrap_or_else(|refused| refused));
    Ok(failed
        .into_iter()
        .find(|outcome| !matches!(outcome, Outcome::Exited(0)))
        .unwrap_or(Outcome::Exited(0)))
}

type Ended = Done<Result<Outcome, Outcome>>;

/// How often an end came, and after how many turns.
struct End {
    name: String,
    count: u32,
    least: u64,
    most: u64,
}

fn summary(ended: &[Ended], cpus: usize) -> String {
    let mut ends: Vec<End> = Vec::new();
    for Done { turns, result, .. } in ended {
        let (Ok(outcome) | Err(outcome)) = result;
        let name = match outcome {
            Outcome::Exited(status) => format!("exited with {status}"),
            Outcome::Trapped { cause, .. } => cause.to_string(),
            Outcome::Refused(why) => why.to_string(),
        };
        match ends.iter_mut().find(|end| end.name == name) {
            Some(end) => {
                *end = End {
                    name,
                    count: end.count + 1,
                    least: end.least.min(*turns),
                    most: end.most.max(*turns),
                };
            }
            None => ends.push(End { name, count: 1, least: *turns, most: *turns }),
        }
    }
    let count = ended.len();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let mut text = format!("{count} instance{} on {cpus} CPU{}", plural(count), plural(cpus));
    for (number, End { name, count, .. }) in ends.iter().enumerate() {
        // Writing to a `String` cannot fail, here and below.
        let _ = write!(text, "{} {count} {name}", if number == 0 { ":" } else { "," });
    }
    text += "\nturns";
    for End { name, least, most, .. } in &ends {
        let _ = write!(text, "\n  {name}: {least} to {most}");
    }
    let waited = ended.iter().map(|done| done.waited).max().unwrap_or(0);
    let _ = write!(text, "\nlongest wait: {waited} turns of others");
    text
}
