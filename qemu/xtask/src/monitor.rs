//! Where the CPUs of a machine are that does not end.
//!
//! ```text
//!      this process                         QEMU
//!   Monitor ---- stop, info registers ----> its monitor, on a socket that it inherits
//!           <--- RIP=.., PC=.., HLT=1 -----
//!      `- "CPU 1, halted, at 0x24ab42 ..", to which the kernel's symbols are added
//! ```
//!
//! A kernel that hangs says nothing about it, so QEMU is asked before such a machine is stopped.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the monitor says when it expects a command.
const PROMPT: &str = "(qemu) ";

/// What the registers of a program counter are called, on either architecture.
const COUNTERS: [&str; 2] = ["RIP=", "PC="];

/// The monitor of one machine.
pub(crate) struct Monitor(UnixStream);

impl Monitor {
    /// Gives the QEMU that `command` starts a monitor. The second is its end of it, to be dropped when it has started.
    ///
    /// Another process that starts at the same moment has that end as well, and no use for it.
    pub(crate) fn of(command: &mut Command) -> Result<(Self, UnixStream)> {
        let (ours, of_qemu) = UnixStream::pair().context("no socket for the monitor")?;
        fcntl_setfd(&of_qemu, FdFlags::empty()).context("QEMU cannot have a monitor")?;
        let socket = format!("socket,id=monitor,fd={}", of_qemu.as_raw_fd());
        command.args(["-chardev", &socket, "-mon", "chardev=monitor,mode=readline"]);
        Ok((Self(ours), of_qemu))
    }

    /// Stops all CPUs, and says where each is, as the kernel's backtraces say it. Nothing if QEMU does not answer.
    pub(crate) fn cpus(mut self) -> String {
        located(&self.ask(&["stop", "info registers -a"]).unwrap_or_default())
    }

    /// The answers to some commands.
    fn ask(&mut self, commands: &[&str]) -> Result<String> {
        self.0.set_read_timeout(Some(PATIENCE))?;
        for command in commands {
            writeln!(self.0, "{command}")?;
        }
        let mut answers = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&answers);
            // One is there before the first command.
            if text.matches(PROMPT).count() > commands.len() {
                return Ok(text.into_owned());
            }
            match self.0.read(&mut buffer)? {
                0 => return Ok(text.into_owned()),
                length => answers.extend_from_slice(&buffer[..length]),
            }
        }
    }
}

/// The program counters among all CPUs' registers.
fn located(registers: &str) -> String {
    let mut text = String::new();
    for cpu in registers.split("CPU#").skip(1) {
        let number = cpu.split(char::is_whitespace).next().unwrap_or_default();
        let counter = COUNTERS.iter().find_map(|name| value(cpu, name));
        let Some(counter) = counter.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else { continue };
        let halted = if value(cpu, "HLT=") == Some("1") { ", halted" } else { "" };
        text += &format!("CPU {number}{halted}, program counter {counter:x}\n  at {counter:#x}\n");
    }
    text
}

/// What follows a name, to the next space.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let start = text.find(name)? + name.len();
    text[start..].split(char::is_whitespace).next()
}

#[cfg(test)]
mod tests {
    use super::located;

    #[test]
    fn program_counters_are_found_on_both_architectures() {
        let x86_64 = "\r\nCPU#0\r\nRAX=0000000000000001 RBX=0\r\nRIP=000000000024ab42 RFL=00000002 II=0 HLT=0\r\n\
                      ES =0010\r\n\r\nCPU#1\r\nRAX=0000000000000000\r\nRIP=0000000000251f53 RFL=00000046 HLT=1\r\n(qemu) ";
        assert_eq!(
            located(x86_64),
            "CPU 0, program counter 24ab42\n  at 0x24ab42\nCPU 1, halted, program counter 251f53\n  at 0x251f53\n"
        );
        let aarch64 = "CPU#0\r\n PC=0000000040080000 X00=0000000000000000 X01=0\r\n";
        assert_eq!(located(aarch64), "CPU 0, program counter 40080000\n  at 0x40080000\n");
        assert_eq!(located("QEMU 7.2.22 monitor\r\n(qemu) stop\r\n"), "");
    }
}
