//! Why a machine was reset: a second run in which QEMU writes every exception down.
//!
//! After a triple fault the kernel has not said a word. QEMU's log has, for each exception, a
//! line such as
//!
//! ```text
//!      0: v=0e e=0002 i=0 cpl=0 IP=0008:00000000002012ab pc=00000000002012ab SP=0010:0000000000000ff8 CR2=0000000000000ff0
//! ```

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::machine::{self, Machine};
use crate::setup::Setup;
use crate::{symbols, workspace};

/// How many exceptions before the reset are shown.
const SHOWN: usize = 4;

/// Runs `setup` again and returns the last exceptions before the reset, with names from `elf`.
pub(crate) fn explain(setup: &Setup, elf: &Path, deadline: Duration) -> Result<String> {
    let name = format!("{}-{:?}.log", std::process::id(), std::thread::current().id());
    let log = workspace::cache("run")?.join(name);
    let mut setup = setup.clone();
    setup.extra.extend(["-d".into(), "int,cpu_reset".into(), "-D".into()]);
    setup.extra.push(log.to_string_lossy().into_owned());
    Machine::start(&setup, None, machine::unseen())?.wait(Some(deadline))?;
    let text = fs::read(&log).context("QEMU has written no log")?;
    // If it stays, the next run removes it.
    drop(fs::remove_file(&log));
    Ok(symbols::symbolise(&last_exceptions(&String::from_utf8_lossy(&text)), elf))
}

fn last_exceptions(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(": v=")).collect();
    let mut text = String::new();
    let mut previous = None;
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        let line = line.trim_start().split_once(": ").map_or(*line, |(_, rest)| rest);
        text += line.trim_end();
        text += "\n";
        // Usually the same: the fault, and the faults of taking it.
        let pc = field(line, "pc=");
        if let Some(pc) = pc.filter(|_| pc != previous) {
            text += &format!("  at 0x{pc}\n");
        }
        previous = pc;
    }
    text
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(name)?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::last_exceptions;

    #[test]
    fn the_last_exceptions_are_taken_from_a_log() {
        let line = |n: usize| {
            format!("     {n}: v=0e e=0002 i=0 cpl=0 IP=0008:{n:016x} pc={n:016x} SP=0010:0 CR2=0ff0\n")
        };
        let log: String =
            (0..9).map(|n| format!("check_exception old: 0xffffffff\n{}RAX=0\n", line(n))).collect();
        let text = last_exceptions(&log);
        assert_eq!(text.lines().count(), 8, "{text}");
        assert!(text.starts_with("v=0e e=0002"), "{text}");
        assert!(text.ends_with("  at 0x0000000000000008\n"), "{text}");
        assert_eq!(last_exceptions("nothing"), "");
    }
}
