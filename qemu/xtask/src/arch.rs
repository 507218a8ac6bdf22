//! The two architectures and what each is called where.

use std::fmt;

use clap::ValueEnum;

/// An architecture that a machine can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Arch {
    /// `qemu-system-x86_64`.
    #[value(name = "x86_64")]
    X86_64,
    /// `qemu-system-aarch64`.
    #[value(name = "aarch64")]
    Aarch64,
}

impl Arch {
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The architecture of this computer if a machine can have it, else x86_64.
    pub(crate) fn host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// The architecture of an ELF file, by its `e_machine`.
    pub(crate) fn of_elf(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..4)? != object::elf::ELFMAG {
            return None;
        }
        let machine = bytes.get(18..20)?.first_chunk().copied()?;
        match u16::from_le_bytes(machine) {
            object::elf::EM_X86_64 => Some(Self::X86_64),
            object::elf::EM_AARCH64 => Some(Self::Aarch64),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Rust's target triple for a kernel.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-none",
            Self::Aarch64 => "aarch64-unknown-none",
        }
    }

    /// The program that is the machine.
    pub(crate) fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Arch;

    #[test]
    fn elf_files_name_their_architecture() {
        let elf = |machine: u8| {
            let mut header = [0; 64];
            header[..4].copy_from_slice(b"\x7fELF");
            header[18] = machine;
            header
        };
        assert_eq!(Arch::of_elf(&elf(62)), Some(Arch::X86_64));
        assert_eq!(Arch::of_elf(&elf(183)), Some(Arch::Aarch64));
        assert_eq!(Arch::of_elf(&elf(3)), None);
        assert_eq!(Arch::of_elf(b"\x7fELF"), None);
        assert_eq!(Arch::of_elf(b"\0asm\x01\0\0\0"), None);
    }
}
