//! Clocks.

use crate::{Errno, Guest, Host, Wasi, abi::clock};

impl<H: Host> Wasi<H> {
    pub(crate) fn clock_res_get(
        &mut self,
        memory: &mut Guest<'_>,
        clock: u32,
        resolution: u32,
    ) -> Result<(), Errno> {
        self.clock(clock)?;
        memory.write_u64(resolution, self.host.resolution_ns())
    }

    pub(crate) fn clock_time_get(
        &mut self,
        memory: &mut Guest<'_>,
        clock: u32,
        _precision: u64,
        time: u32,
    ) -> Result<(), Errno> {
        let now = self.clock(clock)?;
        memory.write_u64(time, now)
    }

    fn clock(&mut self, clock: u32) -> Result<u64, Errno> {
        match clock {
            clock::REALTIME => Ok(self.host.realtime_ns()),
            clock::MONOTONIC => Ok(self.host.monotonic_ns()),
            // Processor time is not measured; this is how Wasmtime says so.
            clock::PROCESS_CPU | clock::THREAD_CPU => Err(Errno::BadDescriptor),
            _ => Err(Errno::Invalid),
        }
    }
}
