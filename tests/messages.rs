//! What errors say: each names what to do next. Host only, as it reads the sources to know that none is
//! left out.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
harness::tests! {}

#[cfg(not(target_os = "none"))]
harness::tests! {
    fn errors_of_the_carve_say_what_to_do() {
        host::carve();
    }

    fn errors_of_the_cpu_say_which_bit_and_what_to_write() {
        host::cpu();
    }

    fn errors_of_calls_say_what_to_do() {
        host::calls();
    }

    fn errors_of_edits_and_of_the_platform_say_what_to_do() {
        host::edits();
    }
}

#[cfg(not(target_os = "none"))]
mod host {
    use core::fmt::Debug;
    use std::{collections::BTreeSet, fs};

    use allotment::{
        CarveError, ConfigError, Error, PoolKind,
        arch::{Access, CpuError, Occupant, PhysAddr, VirtAddr},
        space::SpaceError,
        wasmtime::PlatformError,
    };

    const AT: VirtAddr = VirtAddr(0xffff_9000_0020_0000);
    const FRAME: PhysAddr = PhysAddr(0x1234_5000);

    /// Each error says something, and after a semicolon what to do. None of `file`'s `name` is left out.
    fn check<E: Debug + ToString>(file: &str, name: &str, errors: &[E]) {
        for error in errors {
            let said = error.to_string();
            let (what, next) =
                said.split_once("; ").unwrap_or_else(|| panic!("{error:?} has no next step: {said}"));
            assert!(what.len() > 10 && next.len() > 4, "{error:?}: {said}");
            assert!(!said.ends_with('.'), "{said}");
        }
        let shown: BTreeSet<_> = errors.iter().map(|error| first_word(&format!("{error:?}"))).collect();
        let missing: Vec<_> = variants(file, name).into_iter().filter(|one| !shown.contains(one)).collect();
        assert!(missing.is_empty(), "{name}: {missing:?} were not looked at");
    }

    fn first_word(text: &str) -> String {
        text.chars().take_while(|c| c.is_alphanumeric()).collect()
    }

    /// The variants that a source declares.
    fn variants(file: &str, name: &str) -> BTreeSet<String> {
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (_, body) =
            text.split_once(&format!("pub enum {name} {{\n")).unwrap_or_else(|| panic!("no {name}"));
        let body = body.split_once("\n}\n").map_or(body, |(body, _)| body);
        let declared = |line: &&str| line.starts_with("    ") && line[4..].starts_with(char::is_uppercase);
        body.lines().filter(declared).map(|line| first_word(&line[4..])).collect()
    }

    pub(crate) fn carve() {
        let (address, alias, at) = (FRAME, AT, AT);
        let errors = [
            CarveError::Cpu(CpuError::MmuOff),
            CarveError::Config(ConfigError::NoWasmStack),
            CarveError::Misaligned { what: "arena", address: 1, alignment: 4096 },
            CarveError::WindowTooSmall { needed: 2, available: 1 },
            CarveError::WindowNotCanonical { start: at, end: at, half_bits: 47 },
            CarveError::WindowNotWalked { start: at },
            CarveError::WindowInUse { address: at, index: 288, entry: 0x1003 },
            CarveError::ArenaTooSmall { needed: 2, available: 1 },
            CarveError::OutOfTableFrames { needed: 2, available: 1 },
            CarveError::ArenaTooLarge { size: 2, limit: 1 },
            CarveError::RootNotMapped { root: address, alias, found: None },
            CarveError::RootNotMapped { root: address, alias, found: Some(address) },
            CarveError::ArenaNotMapped { address, alias, found: None },
            CarveError::ArenaNotMapped { address, alias, found: Some(address) },
            CarveError::ArenaReadOnly { address, alias },
            CarveError::ArenaOutOfReach { address },
            CarveError::ArenaExecutable { address, alias },
            CarveError::ArenaInUse { address, by: Occupant::PageTable, at },
            CarveError::ArenaInUse { address, by: Occupant::Segments, at },
            CarveError::BadTableFrame { frame: address },
            CarveError::UnknownCpu { current: 2, count: 2 },
            CarveError::NullPageMapped { physical: address },
        ];
        check("src/error/carve.rs", "CarveError", &errors);
        let said = CarveError::ArenaInUse { address, by: Occupant::Stack, at }.to_string();
        assert!(
            said.starts_with("the arena's 0x12345000 holds the stack that is in use (0xffff900000200000); ")
        );
        let said = errors[6].to_string();
        assert!(
            said.starts_with("the window's top-level entry 288, for 0xffff900000200000, is in use"),
            "{said}"
        );
    }

    pub(crate) fn cpu() {
        let errors = [
            CpuError::WriteProtectOff,
            CpuError::NoExecuteOff,
            CpuError::ProcessContexts,
            CpuError::MemoryType { found: 0 },
            CpuError::ExceptionLevel { found: 2 },
            CpuError::MemoryAttribute { found: 4 },
            CpuError::Translation { field: "TG1", found: 1, wanted: 2 },
            CpuError::WalkMemory { inner: 0, outer: 1 },
            CpuError::MmuOff,
        ];
        check("arch/src/machine.rs", "CpuError", &errors);
        for (error, parts) in [
            (errors[0], ["CR0.WP (bit 16) is 0", "set it to 1"]),
            (errors[1], ["bit 11 of MSR 0xc0000080", "set it to 1"]),
            (errors[2], ["CR4.PCIDE (bit 17) is 1", "set it to 0"]),
            (errors[3], ["bits 2:0 of MSR 0x277", "set it to 6"]),
            (errors[6], ["TCR_EL1.TG1 is 0b1", "set it to 0b10"]),
        ] {
            let said = error.to_string();
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
    }

    pub(crate) fn calls() {
        let errors = [
            Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 4 },
            Error::SharedMemory,
            Error::NoStacks,
            Error::TableTooLarge { requested: 2, limit: 1 },
            Error::CommitmentExceeded { needed: 2, available: 1 },
            Error::OutOfBounds { offset: 0, len: 2, accessible: 1 },
            Error::MemoryTooLarge { requested: 2, limit: 1 },
            Error::Reservation { requested: (2, 2), limit: (1, 1) },
            Error::OutOfFrames { needed: 2, available: 1 },
            Error::OutOfAddressSpace { requested: 2 },
            Error::OutOfRegions { limit: 1 },
            Error::BeyondCapacity { requested: 2, capacity: 1 },
            Error::BeyondMaximum { requested: 2, maximum: 1 },
            Error::UnknownRange { address: AT, bytes: 1 },
            Error::NotAPrefix { offset: 2, accessible: 1 },
            Error::Inaccessible { address: AT },
            Error::ImageTooLarge { bytes: 2, limit: 1 },
            Error::ImageBeyondMemory { end: 2, size: 1 },
            Error::ImageMisaligned { value: 1 },
            Error::ImageSizes { limit: 1 },
            Error::NotShowable { frames: FRAME, bytes: 4096 },
            Error::ForeignImage,
            Error::InImage { address: AT, bytes: 1 },
            Error::Written { slot: 1 },
            Error::NotPrepared { offset: 1 },
            Error::Stale { slot: 1 },
        ];
        check("src/error/mod.rs", "Error", &errors);
    }

    pub(crate) fn edits() {
        let (page, access) = (AT, Access::ReadWrite);
        let errors = [
            SpaceError::OutsideWindow { address: AT },
            SpaceError::Misaligned { address: AT, alignment: 1 },
            SpaceError::InUse { page },
            SpaceError::SeveralTables { page },
            SpaceError::NoFrame { page },
            SpaceError::SharedFrame { page, access },
            SpaceError::SharedTable { page },
            SpaceError::ForeignTable { table: FRAME },
            SpaceError::NotShared { page },
            SpaceError::NotShareable { access },
            SpaceError::BadFrame { frame: FRAME },
            SpaceError::Uneven { page },
            SpaceError::StateTooLarge { state: 15, limit: 14 },
            SpaceError::OutOfFrames { needed: 2, available: 1 },
            SpaceError::OutOfReserve { limit: 1 },
        ];
        check("src/vm/space/error.rs", "SpaceError", &errors);
        let errors = [
            PlatformError::Allocator(Error::NoStacks),
            PlatformError::Protection { flags: 6 },
            PlatformError::SlotAccess { offset: 1, bytes: 1 },
            PlatformError::NotExecutable { address: AT },
            PlatformError::TooManyPieces { limit: 1 },
            PlatformError::StackTooLarge { requested: 2, limit: 1 },
            PlatformError::Reservation { requested: (2, 2), limit: (1, 1) },
        ];
        check("src/wasmtime/platform.rs", "PlatformError", &errors);
    }
}
