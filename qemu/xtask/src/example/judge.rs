//! Whether an example did what it is there to show.

use super::table::Example;
use crate::machine::{Ended, How};

/// Says what is not as the example's entry has it.
pub(super) fn judge(example: &Example, ended: &Ended) -> Result<(), String> {
    if let Some(missing) = first_missing(example.prints, &ended.console) {
        return Err(format!("{}; its console lacks, or has not in order: {missing}", how(ended)));
    }
    if ended.status == Some(example.status) && matches!(ended.how, How::Verdict(_)) {
        return Ok(());
    }
    Err(format!("{}, not with status {}", how(ended), example.status))
}

fn how(ended: &Ended) -> String {
    match (&ended.how, ended.status) {
        (How::Deadline(deadline), _) => format!("the machine was stopped after {} s", deadline.as_secs()),
        (_, Some(status)) => format!("QEMU ended with status {status}"),
        (_, None) => "QEMU was stopped by a signal".to_owned(),
    }
}

/// The first of `wanted` that is part of no line behind the one with its predecessor.
fn first_missing<'a>(wanted: &[&'a str], console: &str) -> Option<&'a str> {
    let mut lines = console.lines();
    wanted.iter().find(|text| !lines.any(|line| line.contains(**text))).copied()
}

#[cfg(test)]
mod tests {
    use super::first_missing;

    #[test]
    fn lines_are_wanted_in_order_with_others_between() {
        let console = "\u{1b}[2Jfirmware\r\nkernel: a\r\nkernel: b\r\n\r\nkernel: c\r\n";
        assert_eq!(first_missing(&["a", "kernel: c"], console), None);
        assert_eq!(first_missing(&[], ""), None);
        assert_eq!(first_missing(&["kernel: b", "kernel: a"], console), Some("kernel: a"));
        assert_eq!(first_missing(&["kernel: a", "kernel: a"], console), Some("kernel: a"));
        assert_eq!(first_missing(&["a\r\nkernel"], console), Some("a\r\nkernel"));
    }
}
