//! Random operations on two memories beside the same on plain bytes.

use alloc::{vec, vec::Vec};

use allotment::instance::{
    DataIndex, Imports, Instance, InstanceError, MemoryType, Trap, cranelift_entity::EntityRef,
};

use crate::{
    common::{TestArch, WASM_PAGE},
    in_every_way,
    links::{self, memory_at},
    module::{Engine, bytes, memory, module},
    random::Random,
};

/// As many pages as a memory may have.
const MOST: usize = 4;

/// One memory of another instance's, and one of its own.
pub(crate) fn random_steps<A: TestArch>() {
    let (rounds, steps) = if cfg!(target_os = "none") { (1, 100) } else { (2, 200) };
    in_every_way(|engine: &Engine<'_, A>| {
        let ty = MemoryType::new(1, Some(MOST as u64));
        let lender = module().memory_type(ty).export("m", memory_at(0)).build();
        let user = module().import_memory(ty).memory_type(ty).passive_data(DATA).build();
        for seed in 0..rounds {
            let lender = engine.instantiate(&lender).unwrap();
            let memories = [links::memory(&lender, "m")];
            // SAFETY: `lender` lives until the end.
            let imports = unsafe { Imports::new(&[], &[], &memories, &[]) };
            let mut user = engine.instantiate_with(&user, imports, None).unwrap();
            let mut plain = Plain { memories: vec![vec![0; WASM_PAGE]; 2], dropped: false };
            let mut random = Random::new(seed);
            for nth in 0..steps {
                let step = choose(&mut random, &plain);
                let (done, expected) = (run(&mut user, step), plain.step(step));
                assert_eq!(done, expected, "step {nth} of seed {seed}: {step:?}");
            }
            for (number, expected) in plain.memories.iter().enumerate() {
                let found = bytes(&user, memory(u32::try_from(number).unwrap()), 0, expected.len());
                let wrong = found.iter().zip(expected).position(|(found, expected)| found != expected);
                assert_eq!(wrong, None, "memory {number} after seed {seed}: the first byte that differs");
            }
            assert!(bytes(&lender, memory(0), 0, plain.memories[0].len()) == plain.memories[0]);
            engine.end(user);
            engine.end(lender);
        }
    });
}

const DATA: &[u8] = b"the bytes of a segment";

#[derive(Clone, Copy, Debug)]
enum Step {
    Write { memory: usize, at: u64, byte: u8 },
    Fill { memory: usize, at: u64, byte: u8, len: u64 },
    Copy { to_memory: usize, to: u64, from_memory: usize, from: u64, len: u64 },
    Init { memory: usize, to: u64, from: u64, len: u64 },
    Grow { memory: usize, delta: u64 },
    Drop,
}

/// A number of pages, or nothing. `None` is a trap.
type Outcome = Option<Option<u64>>;

struct Plain {
    memories: Vec<Vec<u8>>,
    dropped: bool,
}

impl Plain {
    fn step(&mut self, step: Step) -> Outcome {
        match step {
            Step::Write { memory, at, byte } => self.part(memory, at, 1)?[0] = byte,
            Step::Fill { memory, at, byte, len } => self.part(memory, at, len)?.fill(byte),
            Step::Copy { to_memory, to, from_memory, from, len } => {
                let source = self.part(from_memory, from, len)?.to_vec();
                self.part(to_memory, to, len)?.copy_from_slice(&source);
            }
            Step::Init { memory, to, from, len } => {
                let mut data = if self.dropped { vec![] } else { DATA.to_vec() };
                let source = part(&mut data, from, len)?.to_vec();
                self.part(memory, to, len)?.copy_from_slice(&source);
            }
            Step::Grow { memory, delta } => {
                let before = self.memories[memory].len() / WASM_PAGE;
                let after = usize::try_from(delta).ok().and_then(|delta| before.checked_add(delta));
                let Some(after) = after.filter(|&after| after <= MOST) else { return Some(None) };
                self.memories[memory].resize(after * WASM_PAGE, 0);
                return Some(Some(before as u64));
            }
            Step::Drop => self.dropped = true,
        }
        Some(None)
    }

    fn part(&mut self, memory: usize, start: u64, len: u64) -> Option<&mut [u8]> {
        part(&mut self.memories[memory], start, len)
    }
}

fn part(bytes: &mut [u8], start: u64, len: u64) -> Option<&mut [u8]> {
    let end = usize::try_from(start.checked_add(len)?).ok()?;
    bytes.get_mut(usize::try_from(start).ok()?..end)
}

fn choose(random: &mut Random, plain: &Plain) -> Step {
    let (memory, to_memory) = (random.below(2), random.below(2));
    let size = plain.memories[memory].len() as u64;
    let mut place = |limit: u64| match random.below(20) {
        0 => u64::MAX - random.below(3) as u64,
        1 => limit,
        2 => limit + 1,
        3 => limit - 1,
        _ => random.next() % limit,
    };
    let (at, to) = (place(size), place(plain.memories[to_memory].len() as u64));
    let len = place(size / 4);
    let byte = random.byte();
    match random.below(100) {
        0..25 => Step::Write { memory, at, byte },
        25..45 => Step::Fill { memory, at, byte, len },
        45..75 => Step::Copy { to_memory, to, from_memory: memory, from: at, len },
        75..90 => Step::Init { memory, to: at, from: len % 8, len: random.below(20) as u64 },
        90 => Step::Drop,
        91 => Step::Grow { memory, delta: u64::MAX >> random.below(64) },
        _ => Step::Grow { memory, delta: random.below(2) as u64 },
    }
}

fn run<A: TestArch>(user: &mut Instance<'_, A>, step: Step) -> Outcome {
    let index = |number: usize| memory(u32::try_from(number).unwrap());
    let segment = DataIndex::new(0);
    let done = match step {
        Step::Write { memory, at, byte } => user.write_memory(index(memory), at, &[byte]),
        Step::Fill { memory, at, byte, len } => user.memory_fill(index(memory), at, byte, len),
        Step::Copy { to_memory, to, from_memory, from, len } => {
            user.memory_copy(index(to_memory), to, index(from_memory), from, len)
        }
        Step::Init { memory, to, from, len } => user.memory_init(index(memory), segment, to, from, len),
        Step::Grow { memory, delta } => return Some(user.memory_grow(index(memory), delta, None).unwrap()),
        Step::Drop => user.data_drop(segment),
    };
    match done {
        Ok(()) => Some(None),
        Err(InstanceError::Trap(Trap::MemoryOutOfBounds)) => None,
        Err(error) => panic!("{step:?}: {error}"),
    }
}
