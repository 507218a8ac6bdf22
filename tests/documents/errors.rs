//! The texts that `docs/porting.md` promises to whoever lacks something.

use allotment::{
    CarveError, Error, PoolKind,
    arch::{CpuError, Occupant, PhysAddr, VirtAddr},
    boot::NoArena,
};

pub(crate) fn compare() {
    let porting = include_str!("../../docs/porting.md");
    let missing: Vec<_> =
        texts().into_iter().filter(|text| !porting.contains(&format!("`{text}`"))).collect();
    assert!(missing.is_empty(), "docs/porting.md should quote these errors, in backticks: {missing:#?}");
}

fn texts() -> Vec<String> {
    let (arena, alias) = (PhysAddr(0x1000_0000), VirtAddr(0xffff_8000_1000_0000));
    let carve = [
        CarveError::RootNotMapped {
            root: PhysAddr(0x1000),
            alias: VirtAddr(0xffff_8000_0000_1000),
            found: None,
        },
        CarveError::ArenaNotMapped { address: arena, alias, found: None },
        CarveError::ArenaReadOnly { address: arena, alias },
        CarveError::ArenaExecutable { address: arena, alias },
        CarveError::ArenaInUse { address: arena, by: Occupant::Code, at: VirtAddr(0xffff_ffff_8000_0000) },
        CarveError::BadTableFrame { frame: arena },
        CarveError::UnknownCpu { current: 4, count: 4 },
        CarveError::NullPageMapped { physical: PhysAddr(0) },
        CarveError::WindowInUse { address: VirtAddr(0xffff_9000_0000_0000), index: 288, entry: 0x10_3003 },
        CarveError::WindowTooSmall { needed: 0x50_8200_0000, available: 0x10_0000_0000 },
        CarveError::ArenaTooSmall { needed: 12_713_984, available: 4 << 20 },
        CarveError::OutOfTableFrames { needed: 7, available: 3 },
    ];
    let cpu = [
        CpuError::WriteProtectOff,
        CpuError::NoExecuteOff,
        CpuError::ProcessContexts,
        CpuError::MemoryAttribute { found: 0 },
        CpuError::MemoryType { found: 0 },
        CpuError::ExceptionLevel { found: 2 },
        CpuError::Translation { field: "T1SZ", found: 25, wanted: 16 },
        CpuError::Translation { field: "DS", found: 1, wanted: 0 },
        CpuError::WalkMemory { inner: 0, outer: 0 },
        CpuError::MmuOff,
    ];
    let carve = carve.into_iter().chain(cpu.map(CarveError::Cpu)).map(|error| error.to_string());
    let no_arena = NoArena { requested: 0x1000_0000, largest: 0x800_0000 };
    let full = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 64 };
    let texts = carve.chain([no_arena.to_string(), full.to_string()]);
    // A backtick in a text would end the quotation.
    texts.map(|text| text.replace('`', "")).collect()
}
