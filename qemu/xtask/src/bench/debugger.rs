//! The little of gdb's remote protocol that stops a machine at an address and speaks to QEMU's monitor.
//!
//! ```text
//!   we       $c#63              run on                     $qRcmd,<hex of `log none`>#..
//!   QEMU     + $T05thread:..#.. stopped                    + $O<hex>#.. what it prints, $OK#9a
//! ```

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail, ensure};

/// A connection to a machine that waits, until [`run`](Self::run) says otherwise.
pub(super) struct Debugger {
    from: BufReader<UnixStream>,
    to: UnixStream,
}

impl Debugger {
    pub(super) fn new(stream: UnixStream) -> Result<Self> {
        let to = stream.try_clone().context("no second handle for the debugger's socket")?;
        Ok(Self { from: BufReader::new(stream), to })
    }

    /// Has the machine stop in front of the instruction at `address`, or no longer.
    pub(super) fn stop_at(&mut self, address: u64, stop: bool) -> Result<()> {
        // Their length concerns no machine that is interpreted.
        let packet = format!("{}0,{address:x},4", if stop { 'Z' } else { 'z' });
        let answer = self.ask(&packet)?;
        ensure!(answer == "OK", "QEMU answers `{answer}` to the breakpoint `{packet}`");
        Ok(())
    }

    /// Has QEMU's monitor do something that prints nothing.
    pub(super) fn monitor(&mut self, command: &str) -> Result<()> {
        let hex: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut answer = self.ask(&format!("qRcmd,{hex}"))?;
        let mut said = String::new();
        while let Some(hex) = answer.strip_prefix('O').filter(|rest| *rest != "K") {
            let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
            said.extend(hex.as_bytes().chunks(2).filter_map(byte).map(char::from));
            answer = self.packet()?.context("QEMU has left its debugger")?;
        }
        ensure!(answer == "OK" && said.is_empty(), "QEMU's monitor says to `{command}`: {said}{answer}");
        Ok(())
    }

    /// Lets the machine run until it stops at an address (true) or ends.
    pub(super) fn run(&mut self) -> Result<bool> {
        self.send("c")?;
        match self.packet()?.as_deref() {
            Some(stopped) if stopped.starts_with(['T', 'S']) => Ok(true),
            None => Ok(false),
            Some(ended) if ended.starts_with(['W', 'X']) => Ok(false),
            Some(other) => {
                bail!("QEMU says `{other}` to its debugger instead of why the machine has stopped")
            }
        }
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        self.packet()?.context("QEMU has left its debugger")
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        self.to.write_all(format!("${packet}#{sum:02x}").as_bytes()).context("QEMU has left its debugger")
    }

    /// What QEMU says next, which is acknowledged. None if it has ended.
    fn packet(&mut self) -> Result<Option<String>> {
        let mut text = Vec::new();
        let mut inside = false;
        loop {
            let mut byte = [0];
            if !matches!(self.from.read(&mut byte), Ok(1)) {
                return Ok(None);
            }
            match byte[0] {
                b'$' => (inside, text) = (true, Vec::new()),
                b'#' if inside => break,
                byte if inside => text.push(byte),
                // What it acknowledges.
                _ => {}
            }
        }
        // A sum that no socket spoils.
        let mut sum = [0; 2];
        let _ = self.from.read_exact(&mut sum);
        // It may have ended since.
        let _ = self.to.write_all(b"+");
        Ok(Some(String::from_utf8(text).context("QEMU's debugger speaks no text")?))
    }
}

#[cfg(test)]
mod tests {
    use super::Debugger;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// A debugger of whom this was heard already.
    fn told(text: &str) -> (Debugger, UnixStream) {
        let (ours, mut qemu) = UnixStream::pair().unwrap();
        qemu.write_all(text.as_bytes()).unwrap();
        (Debugger::new(ours).unwrap(), qemu)
    }

    #[test]
    fn packets_have_sums_and_are_acknowledged() {
        let (mut debugger, mut qemu) = told("+$OK#9a");
        debugger.stop_at(0x20_1234, true).unwrap();
        drop(debugger);
        let mut said = String::new();
        qemu.read_to_string(&mut said).unwrap();
        assert_eq!(said, "$Z0,201234,4#42+");
    }

    #[test]
    fn a_machine_stops_or_ends() {
        assert!(told("+$T05thread:01;#07").0.run().unwrap());
        assert!(!told("+$W00#b7").0.run().unwrap());
        let (mut debugger, qemu) = told("+");
        qemu.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!debugger.run().unwrap());
        assert!(told("+$E01#a6").0.run().is_err());
    }

    #[test]
    fn what_the_monitor_prints_is_an_error() {
        told("+$OK#9a").0.monitor("log none").unwrap();
        let error = told("+$O6e6f#2b$OK#9a").0.monitor("log none").unwrap_err().to_string();
        assert!(error.contains("`log none`: no"), "{error}");
    }
}
