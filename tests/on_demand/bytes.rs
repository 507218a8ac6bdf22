//! Random memories over images, beside plain bytes.

use alloc::{vec, vec::Vec};

use allotment::{Memory, MemoryImage};

use crate::{
    base,
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, cpus, load_at, on, store_at},
    images::{byte, image},
    numbers::{Random, Rounds, Trace, for_each_seed},
    small,
};

const STEPS: usize = if cfg!(miri) { 30 } else { 600 };
const MOST: usize = 6 * MIB;

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// Of which image, with so many pages.
    Create(usize, usize),
    Grow(usize, usize),
    Drop(usize),
    Store(usize, usize, u8),
    Prepare(usize, usize, usize),
    Load(usize, usize),
    /// All of it.
    Compare(usize),
}

use Operation::*;

struct Known<'a, A: TestArch> {
    memory: Memory<'a, A>,
    bytes: Vec<u8>,
}

pub(crate) fn random_bytes<A: TestArch>() {
    // Few frames: none is left over for long.
    let config = small().memory_reservation(2 * MIB + 3 * PAGE).memory_reservation_for_growth(MIB);
    let m = Machine::<A>::new(&config, 32 * MIB);
    for_each_seed(Rounds { host: 2, host_full: 60, bare: 1 }, |seed| sequence(&m, seed));
}

fn sequence<A: TestArch>(m: &Machine<A>, seed: u64) {
    let images = [
        image(m, 0x31, 0, WASM_PAGE),
        image(m, 0x52, 3 * PAGE, 2 * MIB),
        image(m, 0x73, 2 * MIB - PAGE, 9 * PAGE),
        image(m, 0x14, 0, 0),
    ];
    let mut random = Random::new(seed);
    let mut trace = Trace::new(core::any::type_name::<A>(), seed);
    let mut all: Vec<Known<'_, A>> = Vec::new();
    for _ in 0..STEPS {
        let cpu = random.below(cpus());
        let operation = next(&mut random, &all);
        trace.note(&operation, cpu);
        on(m.allocator.arch(), cpu, || step(m, &images, &trace, &mut all, operation));
    }
    while let Some(Known { memory, .. }) = all.pop() {
        m.allocator.deallocate_memory(memory);
    }
    let after = m.allocator.metrics();
    trace.agree("how many regions there are", &after.regions, &0);
}

fn next<A: TestArch>(random: &mut Random, all: &[Known<'_, A>]) -> Operation {
    let pages = |random: &mut Random| match random.below(4) {
        0 => random.below(20),
        1 => random.below(60),
        _ => random.below(MOST / PAGE),
    };
    if all.is_empty() || (all.len() < 3 && random.percent(10)) {
        return Create(random.below(5), pages(random));
    }
    let which = random.below(all.len());
    let size = all[which].bytes.len();
    // Near a page that matters, or anywhere.
    let offset = match random.below(3) {
        _ if size == 0 => 0,
        0 => [0, WASM_PAGE, 2 * MIB - 1, 2 * MIB, size - 1][random.below(5)].min(size - 1),
        _ => random.below(size),
    };
    match random.below(100) {
        0..6 => Drop(which),
        6..18 => Grow(which, (size / PAGE + random.below(40) * random.below(40)).min(MOST / PAGE)),
        18..60 => Store(which, offset, random.byte()),
        60..66 => Prepare(which, offset, random.below(20 * PAGE).min(size - offset)),
        66..97 => Load(which, offset),
        _ => Compare(which),
    }
}

fn step<'a, A: TestArch>(
    m: &'a Machine<A>,
    images: &[MemoryImage<'a, A>; 4],
    trace: &Trace,
    all: &mut Vec<Known<'a, A>>,
    operation: Operation,
) {
    match operation {
        Create(which, pages) => {
            let shown = images.get(which).filter(|image| image.offset() + image.len() <= pages * PAGE);
            let memory = match shown {
                Some(image) => m.allocator.allocate_memory_from(image, pages * PAGE),
                None => m.allocator.allocate_memory(pages * PAGE),
            };
            let mut bytes = vec![0; pages * PAGE];
            if let Some(image) = shown {
                let seed = [0x31, 0x52, 0x73, 0x14][which];
                let first = image.offset();
                for (nth, place) in bytes[first..first + image.len()].iter_mut().enumerate() {
                    *place = byte(seed, first + nth);
                }
            }
            let memory = memory.unwrap_or_else(|error| trace.fail(&alloc::format!("{error}")));
            return all.push(Known { memory, bytes });
        }
        Drop(which) => return m.allocator.deallocate_memory(all.swap_remove(which).memory),
        _ => {}
    }
    let (Grow(which, _) | Store(which, ..) | Prepare(which, ..) | Load(which, _) | Compare(which)) =
        operation
    else {
        return;
    };
    let Known { memory, bytes } = &mut all[which];
    m.allocator.arrive(memory).unwrap();
    match operation {
        Grow(_, pages) => {
            let size = (pages * PAGE).max(bytes.len());
            memory.grow_to(size).unwrap_or_else(|error| trace.fail(&alloc::format!("{error}")));
            bytes.resize(size, 0);
        }
        Store(_, offset, byte) => {
            let stored = store_at(&m.allocator, base(memory).offset(offset), byte).is_ok();
            trace.agree("whether it was stored", &stored, &(offset < bytes.len()));
            if stored {
                bytes[offset] = byte;
            }
        }
        Prepare(_, offset, len) => {
            trace.agree("the answer", &m.allocator.prepare_write(memory, offset, len), &Ok(()));
        }
        Load(_, offset) => compare(m, trace, memory, bytes, offset),
        _ => {
            for page in (0..bytes.len()).step_by(PAGE) {
                compare(m, trace, memory, bytes, page + page / PAGE * 331 % PAGE);
            }
            compare(m, trace, memory, bytes, bytes.len());
        }
    }
}

fn compare<A: TestArch>(m: &Machine<A>, trace: &Trace, memory: &Memory<'_, A>, bytes: &[u8], offset: usize) {
    let loaded = load_at(&m.allocator, base(memory).offset(offset)).ok();
    trace.agree("the byte", &(offset, loaded), &(offset, bytes.get(offset).copied()));
}
