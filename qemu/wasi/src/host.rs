//! What this crate asks of the machine.

/// The machine under a program: clocks, randomness and standard streams.
///
/// No method fails: what the machine cannot do any more (a console that went away) it drops.
pub trait Host {
    /// Nanoseconds since an arbitrary point in the past; never goes back.
    fn monotonic_ns(&mut self) -> u64;

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    fn realtime_ns(&mut self) -> u64;

    /// The shortest step of both clocks, in nanoseconds.
    fn resolution_ns(&mut self) -> u64 {
        1
    }

    /// Returns once [`Host::monotonic_ns`] has reached `deadline`; at once if it lies in the past.
    fn sleep_until(&mut self, deadline: u64);

    /// Lets others run, if there are any.
    fn yield_now(&mut self) {
        core::hint::spin_loop();
    }

    /// Fills `bytes` with unpredictable bytes.
    fn fill_random(&mut self, bytes: &mut [u8]);

    /// Waits for standard input and puts its next bytes at the start of `bytes`, which is not empty.
    /// Returns how many, 0 at the end of the input. More than `bytes.len()` counts as `bytes.len()`.
    fn stdin_read(&mut self, bytes: &mut [u8]) -> usize;

    /// Writes all of `bytes` to standard output.
    fn stdout_write(&mut self, bytes: &[u8]);

    /// Writes all of `bytes` to standard error.
    fn stderr_write(&mut self, bytes: &[u8]);

    /// Whether a person sits at the other end. C programs write line by line only then.
    fn is_terminal(&self, stream: Stream) -> bool {
        let _ = stream;
        false
    }
}

/// The standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input, descriptor 0.
    Input,
    /// Standard output, descriptor 1.
    Output,
    /// Standard error, descriptor 2.
    Error,
}
