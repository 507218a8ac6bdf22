//! Compiled code that is used where it is.
//!
//! ```text
//!                         map, read-write         the kernel maps it read-execute
//!   embedder fills        |                       |
//!                         protect, read           |
//!   deserialize_raw  ->   publish_code: text      publish_code: looks at the tables, and
//!                         read-execute            keeps in mind where code is
//!   module is gone        unpublish_code, then    unpublish_code
//!                         unmap
//! ```
//!
//! `Module::deserialize` copies what it is given into a mapping of its own. With a
//! `wasmtime::CustomCodeMemory` over this, `Module::deserialize_raw` runs a module where it
//! was loaded: in a mapping of the platform's, which never is writable and executable at
//! once; or in memory that the kernel itself maps for that, such as a module in its own
//! image. It stays there until the module is gone, and with it every error that a trap of
//! the module's ended in: backtraces name modules, and keep them. It is one module's: the
//! first of two that ends would take the code from the other.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};

use allotment_arch::{Access, Arch, PAGE_SIZE, VirtAddr, translate};
use spin::Mutex;

use super::{Platform, PlatformError, platform::virt};

/// Pieces of code outside the window.
const MOST_PIECES: usize = 64;

/// Where code is that lies outside the window. Read without a lock.
#[derive(Debug)]
pub(super) struct CodeOutside {
    /// First address and the one after the last; none while the first is 0.
    pieces: [[AtomicUsize; 2]; MOST_PIECES],
    editing: Mutex<()>,
}

impl CodeOutside {
    pub(super) const fn new() -> Self {
        Self { pieces: [const { [const { AtomicUsize::new(0) }; 2] }; MOST_PIECES], editing: Mutex::new(()) }
    }

    pub(super) fn contains(&self, address: usize) -> bool {
        self.pieces.iter().any(|[start, end]| {
            let start = start.load(Ordering::Acquire);
            start != 0 && start <= address && address < end.load(Ordering::Relaxed)
        })
    }

    fn insert(&self, first: usize, end: usize) -> Result<(), PlatformError> {
        let _editing = self.editing.lock();
        let at = |wanted| self.pieces.iter().find(|piece| piece[0].load(Ordering::Relaxed) == wanted);
        let [start, after] =
            at(first).or_else(|| at(0)).ok_or(PlatformError::TooManyPieces { limit: MOST_PIECES })?;
        after.store(end, Ordering::Relaxed);
        start.store(first, Ordering::Release);
        Ok(())
    }

    fn remove(&self, first: usize) {
        let _editing = self.editing.lock();
        if let Some([start, _]) = self.pieces.iter().find(|piece| piece[0].load(Ordering::Relaxed) == first) {
            start.store(0, Ordering::Release);
        }
    }
}

impl<A: Arch> Platform<A> {
    /// Makes the pages of `bytes` bytes at `start` executable and not writable, and what was
    /// written there visible to instruction fetch. From now on faults there are
    /// compiled code's.
    ///
    /// In a mapping of the platform's that is an edit. Elsewhere the kernel's own tables must
    /// say so already: its code is kept in mind until [`unpublish_code`](Self::unpublish_code).
    ///
    /// # Errors
    ///
    /// [`PlatformError::NotExecutable`] of a page outside the window that is writable, not
    /// executable or not mapped; [`PlatformError::TooManyPieces`]; those of
    /// [`protect`](Self::protect). Nothing changed then.
    ///
    /// # Safety
    ///
    /// Nobody writes there any more, and what is there may be executed.
    pub unsafe fn publish_code(&self, start: NonNull<u8>, bytes: usize) -> Result<(), PlatformError> {
        let first = virt(start);
        self.note(if self.allocator().regions.contains(first) {
            // SAFETY: by this function's contract.
            unsafe { self.allocator().protect_region(first, bytes, Some(Access::ReadExecute)) }
                .map_err(Into::into)
        } else {
            self.publish_outside(first, bytes)
        })
    }

    /// Makes the pages of published code writable again and not executable: when its module
    /// is gone, or for breakpoints. Outside the window it only forgets them: what
    /// they are mapped as is the kernel's affair. Of what is not published there nothing is
    /// forgotten: Wasmtime takes back what could not be published, too.
    ///
    /// # Errors
    ///
    /// Those of [`protect`](Self::protect); nothing changed then. Wasmtime panics, if it is
    /// at a module's end: somebody unmapped the module before.
    ///
    /// # Safety
    ///
    /// No CPU runs this code, or is to return to it before it is published anew.
    pub unsafe fn unpublish_code(&self, start: NonNull<u8>, bytes: usize) -> Result<(), PlatformError> {
        let first = virt(start);
        if !self.allocator().regions.contains(first) {
            self.code_outside.remove(to_usize(first.0));
            return Ok(());
        }
        // SAFETY: by this function's contract.
        let edited = unsafe { self.allocator().protect_region(first, bytes, Some(Access::ReadWrite)) };
        self.note(edited.map_err(Into::into))
    }

    /// Whether compiled code is at `address`. Takes no lock.
    pub(super) fn is_code(&self, address: usize) -> bool {
        self.allocator().is_code(VirtAddr(address as u64)) || self.code_outside.contains(address)
    }

    fn publish_outside(&self, first: VirtAddr, bytes: usize) -> Result<(), PlatformError> {
        let arch = &self.allocator().vm.arch;
        let last =
            first.0.checked_add(bytes as u64).ok_or(PlatformError::NotExecutable { address: first })?;
        let page = PAGE_SIZE as u64;
        for address in (first.0 & !(page - 1)..last).step_by(PAGE_SIZE).map(VirtAddr) {
            // SAFETY: live tables of the kernel's own memory stay during a call.
            let translation = unsafe { translate(arch, address) };
            if !translation.is_some_and(|page| page.executable && !page.writable) {
                return Err(PlatformError::NotExecutable { address });
            }
        }
        arch.synchronise_code(first, bytes);
        self.code_outside.insert(to_usize(first.0), to_usize(last))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "usize is 64 bits on every supported target")]
fn to_usize(address: u64) -> usize {
    address as usize
}
