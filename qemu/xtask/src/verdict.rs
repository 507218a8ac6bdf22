//! From how QEMU ended and what the console says to how the machine ended.

use std::fmt;
use std::process::ExitStatus;

use protocol::verdict::{ENDED_WELL, FAILED, debug_exit};

use crate::arch::Arch;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As the kernel wanted it.
    Well,
    /// The kernel found something wrong and said so.
    Failed,
    /// The machine was reset: on x86_64 the mark of a fault that no handler could take.
    Reset,
    /// Something else.
    Strange(String),
}

/// Judges the end of a machine that was not stopped by us.
pub(crate) fn judge(arch: Arch, status: ExitStatus, console: &str) -> Verdict {
    let last = console.lines().map(str::trim).rfind(|line| !line.is_empty());
    let Some(code) = status.code() else {
        return Verdict::Strange(format!("QEMU was stopped by a signal ({status})"));
    };
    match (arch, code, last) {
        (Arch::X86_64, debug_exit::STATUS_ENDED_WELL, Some(ENDED_WELL))
        | (Arch::Aarch64, 0, Some(ENDED_WELL)) => Verdict::Well,
        (Arch::X86_64, debug_exit::STATUS_FAILED, _) | (Arch::Aarch64, 0, Some(FAILED)) => Verdict::Failed,
        (Arch::X86_64, 0, _) => Verdict::Reset,
        (Arch::X86_64, debug_exit::STATUS_ENDED_WELL, _) | (Arch::Aarch64, 0, _) => Verdict::Strange(
            format!("the machine went off, or was reset, and its console does not end with `{ENDED_WELL}`"),
        ),
        _ => Verdict::Strange(format!("QEMU ended with status {code}")),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("the machine ended well"),
            Self::Failed => f.write_str("the kernel failed"),
            Self::Reset => f.write_str(
                "the machine was reset (QEMU status 0): a triple fault, that is a fault \
                 for which the kernel had no working handler or stack",
            ),
            Self::Strange(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge};
    use crate::arch::Arch;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn of(arch: Arch, code: i32, console: &str) -> Verdict {
        judge(arch, ExitStatus::from_raw(code << 8), console)
    }

    const WELL: &str = "test a ... ok\r\nallotment: machine ended well\r\n\r\n";
    const FAILED: &str = "panicked\nallotment: machine failed\n";

    #[test]
    fn only_status_and_words_together_are_well() {
        assert_eq!(of(Arch::X86_64, 33, WELL), Verdict::Well);
        assert_eq!(of(Arch::Aarch64, 0, WELL), Verdict::Well);
        assert!(matches!(of(Arch::X86_64, 33, "test a ... ok\n"), Verdict::Strange(_)));
        assert!(matches!(of(Arch::Aarch64, 0, ""), Verdict::Strange(_)));
        let words_not_last = format!("{WELL}more\n");
        assert!(matches!(of(Arch::Aarch64, 0, &words_not_last), Verdict::Strange(_)));
    }

    #[test]
    fn failures_are_told_apart() {
        assert_eq!(of(Arch::X86_64, 35, FAILED), Verdict::Failed);
        assert_eq!(of(Arch::Aarch64, 0, FAILED), Verdict::Failed);
        assert_eq!(of(Arch::X86_64, 0, WELL), Verdict::Reset);
        assert!(matches!(of(Arch::X86_64, 1, ""), Verdict::Strange(_)));
        assert!(matches!(of(Arch::Aarch64, 33, WELL), Verdict::Strange(_)));
        let killed = judge(Arch::Aarch64, ExitStatus::from_raw(9), WELL);
        assert!(matches!(killed, Verdict::Strange(_)));
    }
}
