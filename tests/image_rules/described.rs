//! Images of modules as engines describe them.

use alloc::vec::Vec;
use core::ops::Range;

use allotment::{
    image::{Extent, ImageRules, NoImage},
    instance::{
        ConstExpr, ConstOp, DataSegment, GlobalIndex, GlobalType, MemoryIndex, MemoryType, Module,
        ModuleInfo, SegmentMode, ValRaw, ValType,
    },
};

use crate::{KIB, extent};

const DATA: &[u8] = b"hello, world";

/// A module of one memory of 64 KiB.
fn info() -> ModuleInfo {
    let mut info = ModuleInfo::default();
    info.memories.push(MemoryType::new(1, None));
    info
}

fn constant(offset: i32) -> ConstExpr {
    ConstExpr::constant(ValRaw::i32(offset))
}

fn segment(memory: u32, offset: ConstExpr, data: Range<usize>) -> DataSegment {
    DataSegment { mode: SegmentMode::Active(MemoryIndex::from_u32(memory), offset), data }
}

/// What a memory's image covers, and what the memory begins with.
type Image = (Option<Extent>, [u8; 5]);

/// The images of the memories that it defines.
fn planned(info: ModuleInfo) -> Result<Vec<Image>, NoImage> {
    let module = Module::new(info).unwrap();
    let plan = module.plan_images(ImageRules::X86_64, DATA)?;
    let image = |number| {
        let mut start = [0xff; 5];
        plan.fill(number, 0, &mut start);
        (plan.extent(number), start)
    };
    Ok(module.defined_memories().map(|(number, _)| image(number.as_u32())).collect())
}

pub(crate) fn active() {
    let mut module = info();
    module.memories.push(MemoryType::new(1, None));
    module.data.push(segment(1, constant(0), 0..5));
    module.data.push(segment(0, constant(0), 7..12));
    // Copied when the module asks for it, if ever.
    module.data.push(DataSegment { mode: SegmentMode::Passive, data: 0..12 });
    module.data.push(DataSegment { mode: SegmentMode::Declared, data: 0..12 });
    module.data.push(segment(1, constant(0), 7..9));
    let page = extent(0, 4 * KIB);
    assert_eq!(planned(module), Ok([(page, *b"world"), (page, *b"wollo")].to_vec()));
    assert_eq!(planned(info()), Ok([(None, [0; 5])].to_vec()));
}

pub(crate) fn offsets() {
    let global = ConstOp::GlobalGet(GlobalIndex::from_u32(0));
    let (two, three) = (ConstOp::Const(ValRaw::i32(2)), ConstOp::Const(ValRaw::i32(3)));
    for ops in [[global].to_vec(), [two, three, ConstOp::I32Add].to_vec()] {
        let mut module = info();
        module.globals.push(GlobalType { content: ValType::I32, mutable: false });
        module.num_imported_globals = 1;
        module.data.push(segment(0, constant(0), 0..5));
        assert_eq!(planned(module.clone()), Ok([(extent(0, 4 * KIB), *b"hello")].to_vec()));
        module.data.push(segment(0, ConstExpr::new(ops), 0..5));
        assert_eq!(planned(module), Err(NoImage::NotConstant { segment: 1 }));
    }
    // Offsets have no sign, and as many bits as addresses.
    let far = |memory64, offset| {
        let mut module = info();
        let ty = MemoryType { memory64, ..MemoryType::new(1 << 17, None) };
        module.memories[MemoryIndex::from_u32(0)] = ty;
        module.data.push(segment(0, ConstExpr::constant(offset), 0..5));
        planned(module).map(|images| images[0].0)
    };
    let page = |offset| Ok(extent(offset, 4 * KIB));
    assert_eq!(far(false, ValRaw::i32(-4096)), page(0xffff_f000));
    assert_eq!(far(true, ValRaw::i64(0x1_ffff_f000)), page(0x1_ffff_f000));
    let out = NoImage::OutOfBounds { memory: 0, offset: u64::MAX - 4095, len: 5, minimum: 1 << 33 };
    assert_eq!(far(true, ValRaw::i64(-4096)), Err(out));
}

pub(crate) fn imports() {
    let mut module = info();
    module.memories.push(MemoryType::new(1, None));
    module.num_imported_memories = 1;
    // The first one that it defines, beside one that it imports.
    module.data.push(segment(1, constant(0), 0..5));
    let images = planned(module.clone()).map(|images| images[0]);
    assert_eq!(images, Ok((extent(0, 4 * KIB), *b"hello")));
    module.data.push(segment(0, constant(0), 0..0));
    assert_eq!(planned(module), Err(NoImage::Imported { segment: 1 }));
}

pub(crate) fn missing() {
    let of = |data| {
        let mut module = info();
        module.data.push(DataSegment { mode: SegmentMode::Passive, data: 0..100 });
        module.data.push(segment(0, constant(0), data));
        planned(module).map(|images| images[0])
    };
    assert_eq!(of(7..12), Ok((extent(0, 4 * KIB), *b"world")));
    assert_eq!(of(12..12), Ok((None, [0; 5])));
    assert_eq!(of(7..13), Err(NoImage::MissingData { segment: 1, end: 13, available: 12 }));
    assert_eq!(of(13..13), Err(NoImage::MissingData { segment: 1, end: 13, available: 12 }));
    assert_eq!(
        of(usize::MAX..usize::MAX),
        Err(NoImage::MissingData { segment: 1, end: usize::MAX, available: 12 })
    );
}
