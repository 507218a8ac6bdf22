//! Images in Wasmtime's order: access first, then the image, or none after all.

use core::ptr::NonNull;

use allotment::{
    Allocator, Config, InstanceAllocationStrategy,
    wasmtime::{GUARD_SIZE, Platform, allocator_config},
};

use crate::{
    Calls, MAPPING, NONE, READ, READ_WRITE, after,
    common::{MIB, PAGE, TestArch, WASM_PAGE, pool},
    flags,
};

/// Where an image is placed in a memory, in pages, and how many it has.
const PLACE: usize = 3;
const PAGES: usize = 2;
const SIZE: usize = 2 * WASM_PAGE;

fn pooling() -> Config {
    allocator_config().allocation_strategy(pool(1, 4 * MIB))
}

/// Runs `test` with a platform whose faults are answered, also those of the core's own
/// accesses.
pub(crate) fn with<A: TestArch>(config: &Config, test: impl FnOnce(&Calls<A>)) {
    let (arch, window, arena) = A::machine(16 * MIB);
    // SAFETY: every test has a machine, window and arena of its own.
    let calls = Calls(Platform::new(unsafe { Allocator::new(arch, window, arena, config) }.unwrap()));
    A::register(calls.0.allocator(), true);
    test(&calls);
    A::register(calls.0.allocator(), false);
}

impl<A: TestArch> Calls<A> {
    /// A module's read-only mapping, of bytes that are `seed` and more.
    pub(crate) fn data(&self, seed: u8) -> NonNull<u8> {
        let start = self.0.map(PAGES * PAGE, flags(READ_WRITE)).unwrap();
        for page in 0..PAGES {
            self.store(after(start, page * PAGE), seed + u8::try_from(page).unwrap()).unwrap();
        }
        self.protect(start, PAGES * PAGE, READ).unwrap();
        start
    }

    pub(crate) fn image(&self, data: NonNull<u8>) -> NonNull<u8> {
        // SAFETY: the mapping has so many bytes.
        unsafe { self.0.new_image(data, PAGES * PAGE) }.unwrap().expect("it is small")
    }

    pub(crate) fn begin(&self) -> NonNull<u8> {
        let memory = after(self.0.map(MAPPING, flags(NONE)).unwrap(), GUARD_SIZE);
        self.protect(memory, SIZE, READ_WRITE).unwrap();
        memory
    }

    pub(crate) fn place(&self, image: NonNull<u8>, memory: NonNull<u8>) {
        // SAFETY: the image is there, and nobody uses the memory.
        unsafe { self.0.map_image(image, after(memory, PLACE * PAGE), PAGES * PAGE) }.unwrap();
    }

    pub(crate) fn end(&self, memory: NonNull<u8>) {
        let mapping = NonNull::new(memory.as_ptr().wrapping_sub(GUARD_SIZE)).unwrap();
        self.unmap(mapping, MAPPING).unwrap();
    }

    pub(crate) fn free(&self, image: NonNull<u8>) {
        // SAFETY: it is freed once, and used no more.
        unsafe { self.0.free_image(image) };
    }

    /// Asserts that a memory shows the image of `seed`, or zeros, and ends where it does.
    #[track_caller]
    pub(crate) fn assert_shows(&self, memory: NonNull<u8>, seed: Option<u8>) {
        for page in 0..SIZE / PAGE {
            let within = page.checked_sub(PLACE).filter(|&page| page < PAGES);
            let expected = seed.zip(within).map_or(0, |(seed, page)| seed + u8::try_from(page).unwrap());
            assert_eq!(self.load(after(memory, page * PAGE)), Some(expected), "page {page}");
        }
        assert_eq!(self.load(after(memory, SIZE)), None);
        assert_eq!(self.store(after(memory, SIZE), 1), None);
    }

    #[track_caller]
    pub(crate) fn scribble(&self, memory: NonNull<u8>) {
        for page in [0, PLACE, PLACE + 1, 20, SIZE / PAGE - 1] {
            self.store(after(memory, page * PAGE), 0xee).unwrap();
            assert_eq!(self.load(after(memory, page * PAGE)), Some(0xee));
        }
    }
}

/// The same slot, time after time: images by turns, the same again, and none.
pub(crate) fn turns<A: TestArch>() {
    with::<A>(&pooling(), |calls| {
        let (first, second) = (calls.image(calls.data(0x10)), calls.image(calls.data(0x20)));
        let all = [Some((first, 0x10)), Some((first, 0x10)), None, None, Some((first, 0x10))];
        for shown in all.into_iter().chain([Some((second, 0x20)), None, Some((second, 0x20))]) {
            let memory = calls.begin();
            if let Some((image, _)) = shown {
                calls.place(image, memory);
            }
            calls.assert_shows(memory, shown.map(|(_, seed)| seed));
            calls.scribble(memory);
            calls.end(memory);
        }
    });
}

/// A slot that is ready for an image, and gets a write or growth instead.
pub(crate) fn unplaced<A: TestArch>() {
    with::<A>(&pooling(), |calls| {
        let image = calls.image(calls.data(0x10));
        let show = || {
            let memory = calls.begin();
            calls.place(image, memory);
            calls.assert_shows(memory, Some(0x10));
            calls.scribble(memory);
            calls.end(memory);
        };
        show();
        let memory = calls.begin();
        calls.scribble(memory);
        calls.end(memory);
        show();
        let memory = calls.begin();
        calls.protect(after(memory, SIZE), WASM_PAGE, READ_WRITE).unwrap();
        for page in 0..(SIZE + WASM_PAGE) / PAGE {
            assert_eq!(calls.load(after(memory, page * PAGE)), Some(0), "page {page}");
        }
        assert_eq!(calls.load(after(memory, SIZE + WASM_PAGE)), None);
        calls.end(memory);
        show();
        // Never touched at all.
        calls.end(calls.begin());
        show();
    });
}

/// What was written before an image is placed stays; the image's bytes are copied.
pub(crate) fn written<A: TestArch>() {
    for config in [pooling(), allocator_config().allocation_strategy(InstanceAllocationStrategy::OnDemand)] {
        with::<A>(&config, |calls| {
            let image = calls.image(calls.data(0x10));
            let memory = calls.begin();
            calls.store(memory, 9).unwrap();
            calls.store(after(memory, PLACE * PAGE), 9).unwrap();
            calls.place(image, memory);
            assert_eq!(calls.load(memory), Some(9));
            calls.store(memory, 0).unwrap();
            calls.assert_shows(memory, Some(0x10));
            calls.end(memory);
            // The next one sees nothing of it.
            let memory = calls.begin();
            calls.assert_shows(memory, None);
            calls.end(memory);
        });
    }
}

/// Module, image and memory end in any order, and leave no frame.
pub(crate) fn lifetimes<A: TestArch>() {
    with::<A>(&pooling(), |calls| {
        let frames = || {
            let metrics = calls.0.allocator().metrics();
            metrics.available_frames + metrics.idle_frames
        };
        let live = |order: [u8; 3]| {
            let data = calls.data(0x30);
            let image = calls.image(data);
            let memory = calls.begin();
            calls.place(image, memory);
            let mut there = true;
            for what in order {
                match what {
                    0 => calls.unmap(data, PAGES * PAGE).unwrap(),
                    1 => calls.free(image),
                    _ => {
                        calls.scribble(memory);
                        calls.end(memory);
                        there = false;
                    }
                }
                if there {
                    calls.assert_shows(memory, Some(0x30));
                }
            }
        };
        // What all memories of this size share stays.
        live([0, 1, 2]);
        let before = frames();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            live(order);
            assert_eq!(frames(), before, "{order:?}");
        }
    });
}

/// Bytes of a module that an image shares cannot be made writable; those of another can.
pub(crate) fn protected<A: TestArch>() {
    with::<A>(&pooling(), |calls| {
        let data = calls.data(0x40);
        let image = calls.image(data);
        calls.protect(data, PAGES * PAGE, READ_WRITE).unwrap_err();
        assert_eq!(calls.store(data, 1), None);
        calls.protect(calls.data(0x50), PAGES * PAGE, READ_WRITE).unwrap();
        calls.free(image);
        calls.protect(data, PAGES * PAGE, READ_WRITE).unwrap();
        calls.store(data, 1).unwrap();
    });
}
