//! Memories, captures and clones at random, beside copies of what they should show.

use alloc::vec::Vec;

use allotment::{Memory, MemoryImage};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, on},
    random::{Random, Rounds, for_each_seed},
    world::{Shown, clone_of, machines},
};

const ROUNDS: Rounds = Rounds { host: 3, host_full: 60, bare: 1 };
const STEPS: usize = 120;
const SIZES: [usize; 6] = [0, WASM_PAGE, 3 * WASM_PAGE, MIB, 2 * MIB, 5 * MIB];

struct World<'a, A: TestArch> {
    m: &'a Machine<A>,
    memories: Vec<(Memory<'a, A>, Shown)>,
    images: Vec<(MemoryImage<'a, A>, Shown)>,
}

pub(crate) fn run<A: TestArch>() {
    for_each_seed(ROUNDS, |seed| {
        machines::<A>(|m| {
            let before = m.allocator.metrics().available_frames;
            let mut random = Random::new(seed);
            let mut world = World { m, memories: Vec::new(), images: Vec::new() };
            for _ in 0..STEPS {
                let cpu = random.below(m.allocator.arch().cpus());
                on(m.allocator.arch(), cpu, || world.step(&mut random));
            }
            let World { memories, images, .. } = world;
            drop(images);
            for (memory, shown) in memories {
                m.allocator.arrive(&memory).unwrap();
                shown.assert(m, &memory);
                m.allocator.deallocate_memory(memory);
            }
            // Tables of zeros stay: one for each size there was.
            let lost = before - m.allocator.metrics().available_frames;
            assert!(lost <= 3 + SIZES.len(), "{lost} frames are lost");
        });
    });
}

impl<A: TestArch> World<'_, A> {
    fn step(&mut self, random: &mut Random) {
        let Self { m, memories, images } = self;
        let some = (!memories.is_empty()).then(|| random.below(memories.len()));
        match (random.below(10), some) {
            (2, Some(some)) => {
                let (memory, _) = memories.swap_remove(some);
                m.allocator.deallocate_memory(memory);
            }
            (3, _) if images.len() > 2 => drop(images.swap_remove(random.below(images.len()))),
            (0 | 1, _) if memories.len() < 4 => self.allocate(random),
            (_, None) => {}
            (kind, Some(some)) => {
                let (memory, shown) = &mut memories[some];
                m.allocator.arrive(memory).unwrap();
                match kind {
                    4 | 5 => images.push((m.allocator.capture_memory(memory).unwrap(), shown.clone())),
                    6 => shown.grow(memory, random.pick(&SIZES).max(memory.size())),
                    _ if shown.0.is_empty() => {}
                    _ => {
                        for _ in 0..random.below(12) {
                            shown.write(m, memory, random.below(shown.0.len()), random.byte());
                        }
                    }
                }
                shown.assert(m, memory);
            }
        }
    }

    fn allocate(&mut self, random: &mut Random) {
        let (m, size) = (self.m, random.pick(&SIZES));
        self.memories.push(if self.images.is_empty() || random.percent(20) {
            (m.allocator.allocate_memory(size).unwrap(), Shown::zeros(size))
        } else {
            let (image, shown) = &self.images[random.below(self.images.len())];
            clone_of(m, image, shown, size.max(shown.0.len() * PAGE))
        });
    }
}
