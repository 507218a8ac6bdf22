//! Processes: a root each, with the kernel's half and a half of their own.

use x86_64::{VirtAddr, structures::paging::PhysFrame};

use crate::{memory, wasm};

/// Where each process has a page of its own: at the same address.
const OWN: VirtAddr = VirtAddr::new(0x4000_0000);

/// One process.
#[derive(Debug)]
pub struct Process {
    /// What it is called.
    pub name: &'static str,
    root: PhysFrame,
}

impl Process {
    /// A process whose own page begins with `own`.
    pub fn new(name: &'static str, own: u64) -> Self {
        let root = memory::new_root(memory::kernel_root());
        let page = memory::map_page(root, OWN).cast::<u64>();
        // SAFETY: a page that is nobody else's.
        unsafe { page.write(own) };
        Self { name, root }
    }

    /// For a process that is older than the window.
    pub fn share_window(&self) {
        wasm::share_window(self.root);
    }

    /// Runs `work` on this CPU as this process. Allotment hears of it, as the process may come from another CPU.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        memory::load_root(self.root);
        wasm::arrive();
        let done = work();
        memory::load_kernel_root();
        done
    }
}

/// What the process that runs on this CPU has at the address that all have. To be asked inside of [`Process::run`].
pub fn own() -> u64 {
    // SAFETY: each process has that page.
    unsafe { OWN.as_ptr::<u64>().read_volatile() }
}
