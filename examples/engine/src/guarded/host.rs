//! The emulated machine, which says by itself when an access faults.

use allotment::arch::{
    VirtAddr,
    emulated::{Emulated, Mmu},
};

use crate::Guarded;

// SAFETY: the machine goes through its tables for each access.
unsafe impl<F: Mmu> Guarded for Emulated<F> {
    unsafe fn load(&self, at: VirtAddr, bytes: usize) -> Result<u64, VirtAddr> {
        let mut value = [0; 8];
        self.read(at, &mut value[..bytes.min(8)]).map_err(|fault| fault.address)?;
        Ok(u64::from_le_bytes(value))
    }

    unsafe fn store(&self, at: VirtAddr, bytes: usize, value: u64) -> Result<(), VirtAddr> {
        self.write(at, &value.to_le_bytes()[..bytes.min(8)]).map_err(|fault| fault.address)
    }
}
