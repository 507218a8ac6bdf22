//! What tenants have in common.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use allotment::{
    Error,
    arch::{Access, VirtAddr},
};
use spin::Mutex;

use crate::{
    common::{Machine, PAGE, TestArch, on},
    images::Shown,
    settings::Setting,
    tenant::Tenant,
};

pub(crate) struct World<'a, A: TestArch> {
    pub(crate) machine: &'a Machine<A>,
    pub(crate) setting: &'static Setting,
    /// Handles, of which new tenants take one.
    pub(crate) images: Mutex<Vec<Shown<'a, A>>>,
    /// Tenants on their way to another CPU.
    pub(crate) travelling: Mutex<Vec<Tenant<'a, A>>>,
    /// What is hoarded, in bytes from an address on.
    hoard: Mutex<Vec<(VirtAddr, usize)>>,
    /// For marks and images: each its own.
    numbers: AtomicU64,
    left: AtomicUsize,
    /// Which numbers of pages some memory's last granule had, or was to have: each has a
    /// table that stays.
    tails: Mutex<[bool; 512]>,
    before: usize,
}

impl<'a, A: TestArch> World<'a, A> {
    /// One in which so many tenants live.
    pub(crate) fn new(machine: &'a Machine<A>, setting: &'static Setting, tenants: usize) -> Self {
        Self {
            machine,
            setting,
            images: Mutex::new(Vec::new()),
            travelling: Mutex::new(Vec::new()),
            hoard: Mutex::new(Vec::new()),
            numbers: AtomicU64::new(1),
            left: AtomicUsize::new(tenants),
            tails: Mutex::new([false; 512]),
            before: machine.allocator.metrics().available_frames,
        }
    }

    pub(crate) fn arch(&self) -> &A {
        self.machine.allocator.arch()
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that a tenant began.
    pub(crate) fn begun(&self) {
        let one_less = |left: usize| left.checked_sub(1);
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Notes how large a memory was, or was to be.
    pub(crate) fn note_size(&self, pages: usize) {
        let mut tails = self.tails.lock();
        tails[pages % 512] = true;
        // And whole granules.
        tails[0] |= pages > 512;
    }

    /// Takes all frames that there are, but so many.
    pub(crate) fn hoard(&self, but: usize) -> Result<(), Error> {
        let allocator = &self.machine.allocator;
        // A region has tables too.
        let available = allocator.metrics().available_frames.saturating_sub(but);
        let pages = available - available.div_ceil(500);
        if pages == 0 {
            return Ok(());
        }
        let start = allocator.reserve_region(pages * PAGE)?;
        // SAFETY: the region is new, and nobody uses it.
        match unsafe { allocator.protect_region(start, pages * PAGE, Some(Access::ReadWrite)) } {
            Ok(()) => self.hoard.lock().push((start, pages * PAGE)),
            Err(_) => {
                // SAFETY: as above.
                unsafe { allocator.release_region(start, pages * PAGE) }.expect("it was reserved");
            }
        }
        Ok(())
    }

    /// Gives back one hoard.
    pub(crate) fn unhoard(&self) {
        let Some((start, bytes)) = self.hoard.lock().pop() else { return };
        // SAFETY: nobody ever used it.
        unsafe { self.machine.allocator.release_region(start, bytes) }.expect("it was reserved");
    }

    /// Nobody lives here any more: all frames are there again, and nobody keeps any that
    /// somebody else could need.
    pub(crate) fn end(self) {
        while let Some(tenant) = self.travelling.lock().pop() {
            on(self.arch(), 0, || self.machine.allocator.deallocate_memory(tenant.memory));
        }
        while !self.hoard.lock().is_empty() {
            self.unhoard();
        }
        self.images.lock().clear();
        self.hoard(0).expect("there is address space");
        self.unhoard();
        let after = self.machine.allocator.metrics();
        assert_eq!(after.memories, 0);
        // The zero frame, the frame of its tables' entries, and the tables.
        let kept = 2 + self.tails.lock().iter().filter(|&&tail| tail).count();
        let gone = self.before.saturating_sub(after.available_frames);
        assert!(gone <= kept, "{gone} frames are gone, of which {kept} may be, with {:?}", self.setting);
    }
}
