//! The texts that `docs/porting.md` promises to whoever lacks something.

use allotment::{
    CarveError, Error, PoolKind,
    arch::{CpuError, PhysAddr, VirtAddr},
    boot::NoArena,
};

pub(crate) fn compare() {
    let porting = include_str!("../../docs/porting.md");
    let missing: Vec<_> =
        texts().into_iter().filter(|text| !porting.contains(&format!("`{text}`"))).collect();
    assert!(missing.is_empty(), "docs/porting.md should quote these errors, in backticks: {missing:#?}");
}

fn texts() -> Vec<String> {
    let arena = PhysAddr(0x1000_0000);
    let carve = [
        CarveError::ArenaNotMapped { address: arena },
        CarveError::ArenaExecutable { address: arena },
        CarveError::NullPageMapped,
        CarveError::WindowInUse { address: VirtAddr(0xffff_9000_0000_0000) },
        CarveError::WindowTooSmall { needed: 0x50_8200_0000, available: 0x10_0000_0000 },
        CarveError::ArenaTooSmall { needed: 12_713_984, available: 4 << 20 },
        CarveError::OutOfTableFrames { needed: 7, available: 3 },
    ];
    let cpu = [
        CpuError::WriteProtectOff,
        CpuError::NoExecuteOff,
        CpuError::ProcessContexts,
        CpuError::MemoryAttribute { found: 0 },
        CpuError::Granule,
        CpuError::LargeAddresses,
        CpuError::WalkMemory { inner: 0, outer: 0 },
        CpuError::MmuOff,
    ];
    let carve = carve.into_iter().chain(cpu.map(CarveError::Cpu)).map(|error| error.to_string());
    let no_arena = NoArena { requested: 0x1000_0000, largest: 0x800_0000 };
    let full = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 64 };
    // A backtick in a text would end the quotation.
    let quoted = no_arena.to_string().replace('`', "");
    carve.chain([quoted, full.to_string()]).collect()
}
