//! Several roots, such as one for each process.
//!
//! ```text
//!   the carve's root           made afterwards            made before
//!   | ... | W | kernel |       | own | W | kernel |       | own |   | kernel |
//!           |                          |                          ^
//!           '-- the window's tables ---'                          '-- share_window
//! ```
//!
//! The window's top-level entries never change. A root has the window as soon as it has them,
//! and all that is mapped, given and taken away later is below.

use core::sync::atomic::Ordering;

use allotment_arch::{Arch, Format, PhysAddr, Table, Upper, VirtAddr, index};

use crate::{Allocator, CarveError};

impl<A: Arch> Allocator<A> {
    /// Copies the window's top-level entries into another root: one that was made before the
    /// carve, or that has no copy of the kernel's half. Does nothing where they are already.
    ///
    /// `root` is the table's physical address: of level 4, or 5 with CR4.LA57; on aarch64 of
    /// the half that the window is in. It may be active. Nothing has to be invalidated.
    ///
    /// # Errors
    ///
    /// [`CarveError::WindowInUse`] when the root has something else there. Nothing changed.
    ///
    /// # Safety
    ///
    /// `root` is a table that the machine's physical map reaches and that nobody frees or
    /// edits during the call. CPUs that use it are among those that the machine knows.
    pub unsafe fn share_window(&self, root: PhysAddr) -> Result<(), CarveError> {
        let top = self.vm.arch.levels() - 1;
        // SAFETY: by this function's contract.
        let to = unsafe { self.top_table(root) };
        let from = self.own_root();
        let touched = index(self.plan.window.start, top)..=index(VirtAddr(self.plan.window.end.0 - 1), top);
        let read = |table: Table<'_>, nth: usize| table.entries()[nth].load(Ordering::Relaxed);
        for nth in touched.clone() {
            let entry = read(to, nth);
            let found = A::Format::upper(top, entry);
            if found != Upper::NotPresent && found != A::Format::upper(top, read(from, nth)) {
                let above = self.plan.window.start.0 >> (12 + 9 * u32::from(top)) & !511;
                let address = VirtAddr((above | nth as u64) << (12 + 9 * u32::from(top)));
                let address = address.max(self.plan.window.start);
                return Err(CarveError::WindowInUse { address, index: nth, entry });
            }
        }
        for nth in touched {
            to.entries()[nth].store(read(from, nth), Ordering::Release);
        }
        self.vm.arch.publish();
        Ok(())
    }

    /// Whether this CPU's walks for an address of the window begin as the carve's root has it.
    #[inline]
    pub(crate) fn is_in_live_root(&self, address: VirtAddr) -> bool {
        let live = self.vm.arch.live_root(address);
        live == self.vm.arch.root(address) || self.is_in_root(live, address)
    }

    fn is_in_root(&self, root: PhysAddr, address: VirtAddr) -> bool {
        let top = self.vm.arch.levels() - 1;
        // SAFETY: a CPU that runs this uses the table as its root, which the machine's physical
        // map reaches as it does all live tables.
        let live = unsafe { self.top_table(root) };
        let [live, own] = [live, self.own_root()]
            .map(|table| A::Format::upper(top, table.entries()[index(address, top)].load(Ordering::Relaxed)));
        live == own
    }

    fn own_root(&self) -> Table<'_> {
        // SAFETY: the root of the carve stays for good, by the carve's contract.
        unsafe { self.top_table(self.vm.arch.root(self.plan.window.start)) }
    }

    /// # Safety
    ///
    /// `root` is a table that the machine's physical map reaches, for as long as the result.
    unsafe fn top_table(&self, root: PhysAddr) -> Table<'_> {
        // SAFETY: by this function's contract; whoever edits tables does so by whole entries.
        unsafe { Table::new(&self.vm.arch, root, 1) }
    }
}
