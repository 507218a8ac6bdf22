//! What machine to start: QEMU's command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use protocol::verdict::debug_exit;

use crate::arch::Arch;

/// A size of memory, `512M` or `2G` on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) mebibytes: u64,
}

impl Memory {
    /// What a machine gets if nobody says otherwise. Pages that no guest touches cost nothing.
    pub(crate) const DEFAULT: Self = Self { mebibytes: 512 };

    /// The least that a kernel, its page tables and its heap fit in.
    const LEAST: Self = Self { mebibytes: 32 };

    pub(crate) fn bytes(self) -> u64 {
        self.mebibytes << 20
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.mebibytes)
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let text_of_unit = upper.strip_suffix("IB").or(upper.strip_suffix('B')).unwrap_or(&upper);
        let (number, shift) = match text_of_unit.chars().next_back() {
            Some('G') => (&text_of_unit[..text_of_unit.len() - 1], 10),
            Some('M') => (&text_of_unit[..text_of_unit.len() - 1], 0),
            // As QEMU reads it: mebibytes.
            _ => (text_of_unit, 0),
        };
        let mebibytes = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(1 << shift))
            .filter(|mebibytes| *mebibytes <= 1 << 20)
            .ok_or_else(|| format!("`{text}` is no size of memory; write 512M or 2G"))?;
        if mebibytes < Self::LEAST.mebibytes {
            return Err(format!("{text} is too little memory, a machine needs {}", Self::LEAST));
        }
        Ok(Self { mebibytes })
    }
}

/// How many CPUs a machine has, 1 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(u8);

impl Cpus {
    pub(crate) const ONE: Self = Self(1);
    /// As many as the tests of several CPUs use.
    pub(crate) const FOUR: Self = Self(4);

    /// As many as QEMU's `virt` takes with its usual interrupt controller.
    const MOST: u8 = 8;
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<u8>()
            .ok()
            .filter(|count| (1..=Self::MOST).contains(count))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no number of CPUs; a machine has 1 to {}", Self::MOST))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the machine's console and channel go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// Console and channel to sockets that QEMU inherits as its standard output and input.
    Channel,
    /// The console only, in the same way.
    Console,
    /// The console to the terminal: for a line that a person types.
    Terminal,
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) arch: Arch,
    /// The file to boot, or with a firmware the directory that is its disk.
    pub(crate) image: PathBuf,
    /// A UEFI firmware that boots from the disk.
    pub(crate) firmware: Option<PathBuf>,
    pub(crate) memory: Memory,
    pub(crate) smp: Cpus,
    /// QEMU's `-cpu`; `max` if not given.
    pub(crate) cpu: Option<String>,
    /// QEMU's `-M`; `microvm` or `virt` if not given.
    pub(crate) machine: Option<String>,
    /// Words for the kernel's command line.
    pub(crate) words: Vec<String>,
    /// The port on which to wait for a debugger, if at all.
    pub(crate) gdb: Option<u16>,
    /// More arguments for QEMU.
    pub(crate) extra: Vec<String>,
}

impl Setup {
    /// A machine of the usual kind that boots `image`.
    pub(crate) fn new(arch: Arch, image: &Path) -> Self {
        Self {
            arch,
            image: image.to_owned(),
            firmware: None,
            memory: Memory::DEFAULT,
            smp: Cpus::ONE,
            cpu: None,
            machine: None,
            words: Vec::new(),
            gdb: None,
            extra: Vec::new(),
        }
    }

    /// QEMU's arguments.
    pub(crate) fn arguments(&self, wiring: Wiring) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
        let machine = match self.arch {
            // A machine without firmware menus and buses to scan: it boots in 30 ms.
            // Without ACPI, QEMU tells on the kernel's command line where the virtio devices are.
            Arch::X86_64 => "microvm,acpi=off,pit=on,rtc=on",
            Arch::Aarch64 => "virt",
        };
        add(&["-M", self.machine.as_deref().unwrap_or(machine)]);
        add(&["-cpu", self.cpu.as_deref().unwrap_or("max")]);
        add(&["-m", &self.memory.to_string()]);
        if self.smp != Cpus::ONE {
            add(&["-smp", &self.smp.to_string()]);
        }
        add(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        if self.arch == Arch::X86_64 {
            let device = format!("isa-debug-exit,iobase={:#x},iosize=0x4", debug_exit::PORT);
            add(&["-device", &device]);
        }
        match wiring {
            Wiring::Terminal => add(&["-serial", "stdio"]),
            Wiring::Console | Wiring::Channel => {
                add(&["-chardev", "socket,id=console,fd=1", "-serial", "chardev:console"]);
            }
        }
        if wiring == Wiring::Channel {
            add(&["-global", "virtio-mmio.force-legacy=false"]);
            add(&["-device", "virtio-serial-device,max_ports=2"]);
            add(&["-chardev", "socket,id=channel,fd=0"]);
            // No `virtconsole`, which drops what we do not read in time.
            add(&["-device", "virtserialport,chardev=channel,nr=1"]);
        }
        if let Some(port) = self.gdb {
            // Whoever reaches the port commands the machine: nobody from outside.
            add(&["-gdb", &format!("tcp:127.0.0.1:{port}"), "-S"]);
        }
        let extra: Vec<&str> = self.extra.iter().map(String::as_str).collect();
        add(&extra);
        match &self.firmware {
            None => add(&["-kernel", &self.image.to_string_lossy()]),
            Some(firmware) => {
                add(&["-drive", &format!("if=pflash,format=raw,readonly=on,file={}", in_option(firmware))]);
                add(&["-drive", &format!("format=raw,file=fat:rw:{}", in_option(&self.image))]);
            }
        }
        if !self.words.is_empty() {
            add(&["-append", &self.words.join(" ")]);
        }
        arguments
    }

    /// The whole line, as one would type it.
    pub(crate) fn line(&self, wiring: Wiring) -> String {
        let mut line = self.arch.qemu().to_owned();
        for argument in self.arguments(wiring) {
            line.push(' ');
            line.push_str(&quoted(&argument));
        }
        line
    }
}

/// A path as QEMU takes it among options.
fn in_option(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cpus, Memory, Setup, Wiring, quoted};
    use crate::arch::Arch;
    use std::path::Path;

    #[test]
    fn sizes_of_memory() {
        let mebibytes = |text: &str| text.parse::<Memory>().map(|memory| memory.mebibytes);
        assert_eq!(mebibytes("512M"), Ok(512));
        assert_eq!(mebibytes("2G"), Ok(2048));
        assert_eq!(mebibytes("1GiB"), Ok(1024));
        assert_eq!(mebibytes("64"), Ok(64));
        for wrong in ["", "M", "-1M", "1.5G", "12K", "99999999999999999999G", "18446744073709551615G"] {
            assert!(mebibytes(wrong).unwrap_err().contains("512M"), "{wrong}");
        }
        assert!(mebibytes("8M").unwrap_err().contains("32M"));
    }

    #[test]
    fn a_machine_has_one_to_eight_cpus() {
        assert_eq!("1".parse(), Ok(Cpus::ONE));
        assert_eq!("8".parse(), Ok(Cpus(8)));
        for wrong in ["", "0", "9", "-1", "two", "256"] {
            assert!(wrong.parse::<Cpus>().unwrap_err().contains("1 to 8"), "{wrong}");
        }
    }

    #[test]
    fn the_line_shows_what_is_run() {
        let mut setup = Setup::new(Arch::X86_64, Path::new("/a b/image"));
        setup.words = vec!["--exact".into(), "grow".into()];
        let line = setup.line(Wiring::Terminal);
        assert!(line.starts_with("qemu-system-x86_64 -M microvm"), "{line}");
        assert!(line.ends_with("-kernel '/a b/image' -append '--exact grow'"), "{line}");
        assert!(!line.contains("virtio") && !line.contains("-smp"), "{line}");
        setup.smp = Cpus::FOUR;
        assert!(setup.line(Wiring::Terminal).contains(" -smp 4 "));
        assert!(setup.line(Wiring::Channel).contains("virtserialport"));
        let line = Setup::new(Arch::Aarch64, Path::new("image")).line(Wiring::Console);
        assert!(!line.contains("isa-debug-exit") && !line.contains("-append"), "{line}");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("a=b,c"), "a=b,c");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
