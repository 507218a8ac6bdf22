//! What a person sees while something takes long.
//!
//! On a terminal a line with a spinner, which goes away. Elsewhere plain lines, and only
//! for what really takes long, so that a warm `run` prints nothing but the program's bytes.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// How long a step takes before a plain line says that it runs, and how long until the next.
const PLAIN_FIRST: Duration = Duration::from_secs(1);
const PLAIN_NEXT: Duration = Duration::from_secs(30);

/// One of our few messages.
pub(crate) fn say(message: impl core::fmt::Display) {
    show(format_args!("allotment: {message}\n"));
}

/// Text on standard error. If nobody can see it, that changes nothing else.
pub(crate) fn show(text: impl core::fmt::Display) {
    drop(write!(std::io::stderr(), "{text}"));
}

/// A step under way, to say more about it.
#[derive(Clone)]
pub(crate) struct Step {
    bar: Option<ProgressBar>,
    /// For plain lines: what the step does just now.
    detail: Arc<Mutex<String>>,
}

impl Step {
    /// Says what the step does just now.
    pub(crate) fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
        text.clone_into(&mut self.detail.lock().expect("no holder panics"));
    }
}

/// Does `work` under the heading `what` (`"building the kernel"`).
pub(crate) fn step<T>(what: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
    if std::io::stderr().is_terminal() { with_spinner(what, work) } else { with_lines(what, work) }
}

fn with_spinner<T>(what: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
    let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed:.dim}  {wide_msg:.dim}")
        .expect("the template is valid");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    let result = work(&Step { bar: Some(bar.clone()), detail: Arc::default() });
    bar.finish_and_clear();
    result
}

fn with_lines<T>(what: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
    let step = Step { bar: None, detail: Arc::default() };
    let (done, is_done) = mpsc::channel::<()>();
    let begin = Instant::now();
    thread::scope(|scope| {
        let detail = Arc::clone(&step.detail);
        let reporter = scope.spawn(move || {
            let mut wait = PLAIN_FIRST;
            let mut said = false;
            while is_done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                if said {
                    let seconds = begin.elapsed().as_secs();
                    let detail = detail.lock().expect("no holder panics").clone();
                    say(format_args!("still {what} after {seconds} s  {detail}"));
                } else {
                    say(format_args!("{what} ..."));
                }
                (wait, said) = (PLAIN_NEXT, true);
            }
            said
        });
        let result = work(&step);
        drop(done);
        if reporter.join().unwrap_or(false) && result.is_ok() {
            say(format_args!("{what} took {:.1} s", begin.elapsed().as_secs_f32()));
        }
        result
    })
}
