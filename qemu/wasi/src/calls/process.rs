//! Arguments, environment, randomness, yielding.

use alloc::vec::Vec;

use crate::{Errno, Guest, Host, Wasi};

impl<H: Host> Wasi<H> {
    pub(crate) fn args_get(&mut self, memory: &mut Guest<'_>, argv: u32, buffer: u32) -> Result<(), Errno> {
        write_strings(memory, &self.args, argv, buffer)
    }

    pub(crate) fn args_sizes_get(
        &mut self,
        memory: &mut Guest<'_>,
        count: u32,
        size: u32,
    ) -> Result<(), Errno> {
        write_sizes(memory, &self.args, count, size)
    }

    pub(crate) fn environ_get(
        &mut self,
        memory: &mut Guest<'_>,
        environ: u32,
        buffer: u32,
    ) -> Result<(), Errno> {
        write_strings(memory, &self.env, environ, buffer)
    }

    pub(crate) fn environ_sizes_get(
        &mut self,
        memory: &mut Guest<'_>,
        count: u32,
        size: u32,
    ) -> Result<(), Errno> {
        write_sizes(memory, &self.env, count, size)
    }

    pub(crate) fn random_get(&mut self, memory: &mut Guest<'_>, buffer: u32, len: u32) -> Result<(), Errno> {
        self.host.fill_random(memory.bytes_mut(buffer, len)?);
        Ok(())
    }

    pub(crate) fn sched_yield(&mut self, _memory: &mut Guest<'_>) -> Result<(), Errno> {
        self.host.yield_now();
        Ok(())
    }
}

/// Writes the strings one after another to `buffer`, each ended by a NUL, and where each begins to `pointers`.
fn write_strings(
    memory: &mut Guest<'_>,
    strings: &[Vec<u8>],
    pointers: u32,
    buffer: u32,
) -> Result<(), Errno> {
    let (mut pointer, mut at) = (pointers, buffer);
    for string in strings {
        memory.write_u32(pointer, at)?;
        memory.write(at, string)?;
        let end = at.checked_add(size(string.len())?).ok_or(Errno::Fault)?;
        memory.write(end, &[0])?;
        at = end.checked_add(1).ok_or(Errno::Fault)?;
        pointer = pointer.checked_add(4).ok_or(Errno::Fault)?;
    }
    Ok(())
}

/// Writes how many strings there are and how many bytes they take with their NULs.
fn write_sizes(memory: &mut Guest<'_>, strings: &[Vec<u8>], count: u32, bytes: u32) -> Result<(), Errno> {
    let total: usize = strings.iter().map(|string| string.len() + 1).sum();
    memory.write_u32(count, size(strings.len())?)?;
    memory.write_u32(bytes, size(total)?)
}

fn size(size: usize) -> Result<u32, Errno> {
    u32::try_from(size).map_err(|_| Errno::Overflow)
}
