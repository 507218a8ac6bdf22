//! Arenas with few free frames, and frames that come back.

use allotment::{
    CompiledModuleId, Error,
    arch::{Access, VirtAddr},
    instance::{InstanceError, MemoryIndex, cranelift_entity::EntityRef},
};

use crate::{
    common::{Machine, PAGE, TestArch},
    failing::Failing,
    world::{
        AVAILABLE, allocate, assert_pristine, counts, deallocate, each_strategy, module, share_zeros,
        warm_up, works,
    },
};

/// Frames of an instance of the usual module are less.
const MANY: usize = 90;
/// Pages of a granule of address space.
const GRANULE: usize = 512;

/// A range that takes frames from everybody.
struct Hog<'a, A: TestArch> {
    machine: &'a Machine<A>,
    start: VirtAddr,
    granules: usize,
    /// Pages that it has.
    pages: usize,
}

impl<'a, A: TestArch> Hog<'a, A> {
    /// With a page of each granule, so that further pages take one frame each.
    fn new(machine: &'a Machine<A>) -> Self {
        let granules = available(machine).div_ceil(GRANULE);
        let start = machine.allocator.reserve_region(granules * GRANULE * PAGE).unwrap();
        let hog = Self { machine, start, granules, pages: 0 };
        (0..granules).for_each(|granule| hog.take(granule * GRANULE));
        hog
    }

    fn take(&self, page: usize) {
        let page = self.start.offset(page * PAGE);
        // SAFETY: access is given only.
        unsafe { self.machine.allocator.protect_region(page, PAGE, Some(Access::Read)) }.unwrap();
    }

    /// Leaves so many frames to others.
    fn leave(&mut self, frames: usize) {
        while available(self.machine) > frames {
            self.pages += 1;
            if !self.pages.is_multiple_of(GRANULE) {
                self.take(self.pages);
            }
        }
        assert_eq!(available(self.machine), frames);
    }

    fn release(self) {
        let bytes = self.granules * GRANULE * PAGE;
        // SAFETY: nobody uses it.
        unsafe { self.machine.allocator.release_region(self.start, bytes) }.unwrap();
    }
}

fn available<A: TestArch>(m: &Machine<A>) -> usize {
    m.allocator.metrics().available_frames
}

pub(crate) fn one_fewer_each_time<A: TestArch>() {
    each_strategy::<A>(|m, engine| {
        let code = module();
        // So that no size takes a frame for zeros later, and contexts have their leaf table.
        share_zeros(m);
        warm_up(&**engine, &code);
        engine.purge_module(CompiledModuleId(1));
        let mut hog = Hog::new(m);
        let mut enough = true;
        for left in (0..=MANY).rev() {
            // Contexts keep their frames; those of the one before go back.
            engine.purge_module(CompiledModuleId(1));
            hog.leave(left);
            let before = counts(m);
            let failing = Failing::new(m, &**engine, None);
            let made = allocate(&failing, &code);
            if let Err(error) = &made {
                assert!(matches!(error, InstanceError::Resource(Error::OutOfFrames { .. })), "{error}");
                enough = false;
            }
            assert_eq!(made.is_ok(), enough, "with fewer frames than failed before: {left}");
            if let Ok(mut handle) = made {
                assert_pristine(m, &mut handle);
                handle.initialize().unwrap();
                grow_until_it_fails(m, &mut handle);
                deallocate(&failing, handle);
            }
            engine.purge_module(CompiledModuleId(1));
            assert_eq!(counts(m), before, "{left} frames");
        }
        assert!(!enough, "no frames were too many");
        hog.release();
        works(m, &**engine, &code);
    });
}

/// What it cannot have is -1, and changes nothing.
fn grow_until_it_fails<A: TestArch>(m: &Machine<A>, handle: &mut allotment::instance::Instance<'_, A>) {
    let memory = MemoryIndex::new(0);
    let (before, size) = (available(m), handle.memory_size(memory).unwrap());
    if handle.memory_grow(memory, 1, None).unwrap().is_none() {
        assert_eq!((available(m), handle.memory_size(memory)), (before, Ok(size)));
    } else {
        assert_eq!(handle.memory_size(memory), Ok(size + 1));
    }
    let mut byte = [0];
    handle.read_memory(memory, 104, &mut byte).unwrap();
    assert_eq!(byte, *b"o");
}

pub(crate) fn purged<A: TestArch>() {
    each_strategy::<A>(|m, engine| {
        let code = module();
        let mut nothing = counts(m);
        if m.allocator.pooling_allocator_metrics().is_some() {
            // The leaf table below the contexts stays.
            nothing[AVAILABLE] -= 1;
        }
        for round in 0..3 {
            warm_up(&**engine, &code);
            works(m, &**engine, &code);
            engine.purge_module(CompiledModuleId(1));
            if round == 0 {
                // And what memories of these sizes share.
                nothing[AVAILABLE] -= m.allocator.metrics().shared_frames;
            }
            assert_eq!(counts(m), nothing, "round {round}");
        }
    });
}
