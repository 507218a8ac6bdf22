//! Settings of Wasmtime's and Allotment's that the kernel must know: the payload's entry [`ENTRY`].
//!
//! One line of words `name=number`, in any order; what is not said has its default. Names are those of
//! Wasmtime's command line, without the letter of their group: there is none twice. Booleans are 0 and 1, sizes
//! are bytes, times nanoseconds, and of a choice it is the place in the list that the host's table has.
//!
//! ```text
//!   fuel=1000 max-wasm-stack=65536 epoch-interruption=1
//! ```
//!
//! What the compiler alone must know is not here. Which settings there are at all, `xtask` knows.

use core::fmt;

/// The name of the payload's entry.
pub const ENTRY: &str = "settings";

macro_rules! keys {
    ($($key:ident $name:literal,)*) => {
        /// A setting that the kernel must know.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Key {
            $(
                #[doc = concat!("`", $name, "`.")]
                $key,
            )*
        }

        impl Key {
            /// All of them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$key),*];

            /// Its name, as on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$key => $name,)*
                }
            }
        }
    };
}

keys! {
    // What instances may do.
    Fuel "fuel",
    EpochInterruption "epoch-interruption",
    Timeout "timeout",
    MaxWasmStack "max-wasm-stack",
    AsyncStackSize "async-stack-size",
    AsyncStackZeroing "async-stack-zeroing",
    UnknownImportsTrap "unknown-imports-trap",
    UnknownImportsDefault "unknown-imports-default",
    MaxMemorySize "max-memory-size",
    MaxTableElements "max-table-elements",
    MaxInstances "max-instances",
    MaxTables "max-tables",
    MaxMemories "max-memories",
    TrapOnGrowFailure "trap-on-grow-failure",
    MaxBacktrace "max-backtrace",
    // What compiled code relies on, so that both sides must say the same.
    RelaxedSimdDeterministic "relaxed-simd-deterministic",
    Collector "collector",
    Inlining "inlining",
    DebugInfo "debug-info",
    Symbols "symbols",
    MemoryReservation "memory-reservation",
    MemoryGuardSize "memory-guard-size",
    MemoryReservationForGrowth "memory-reservation-for-growth",
    MemoryMayMove "memory-may-move",
    GuardBeforeLinearMemory "guard-before-linear-memory",
    MemoryInitCow "memory-init-cow",
    MemoryGuaranteedDenseImageSize "memory-guaranteed-dense-image-size",
    TableLazyInit "table-lazy-init",
    SignalsBasedTraps "signals-based-traps",
    GcHeapReservation "gc-heap-reservation",
    GcHeapGuardSize "gc-heap-guard-size",
    GcHeapReservationForGrowth "gc-heap-reservation-for-growth",
    GcHeapMayMove "gc-heap-may-move",
    GcHeapInitialSize "gc-heap-initial-size",
    // The pools.
    PoolingDecommitBatchSize "pooling-decommit-batch-size",
    PoolingMemoryKeepResident "pooling-memory-keep-resident",
    PoolingTableKeepResident "pooling-table-keep-resident",
    PoolingAsyncStackKeepResident "pooling-async-stack-keep-resident",
    PoolingMaxUnusedWarmSlots "pooling-max-unused-warm-slots",
    PoolingTotalCoreInstances "pooling-total-core-instances",
    PoolingTotalComponentInstances "pooling-total-component-instances",
    PoolingTotalMemories "pooling-total-memories",
    PoolingTotalTables "pooling-total-tables",
    PoolingTotalStacks "pooling-total-stacks",
    PoolingTotalGcHeaps "pooling-total-gc-heaps",
    PoolingMaxMemorySize "pooling-max-memory-size",
    PoolingTableElements "pooling-table-elements",
    PoolingMaxCoreInstanceSize "pooling-max-core-instance-size",
    PoolingMaxComponentInstanceSize "pooling-max-component-instance-size",
    PoolingMaxCoreInstancesPerComponent "pooling-max-core-instances-per-component",
    PoolingMaxMemoriesPerComponent "pooling-max-memories-per-component",
    PoolingMaxTablesPerComponent "pooling-max-tables-per-component",
    PoolingMaxTablesPerModule "pooling-max-tables-per-module",
    PoolingMaxMemoriesPerModule "pooling-max-memories-per-module",
}

impl Key {
    /// The key of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }
}

/// What was said of each setting, if anything was. Written with `Display`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings([Option<u64>; Key::ALL.len()]);

impl Default for Settings {
    fn default() -> Self {
        Self([None; Key::ALL.len()])
    }
}

impl Settings {
    /// Reads the content of an entry.
    ///
    /// # Errors
    /// For a word that is no setting with a number.
    pub fn parse(content: &[u8]) -> Result<Self, SettingsError<'_>> {
        let text = core::str::from_utf8(content).map_err(|_| SettingsError { word: "(not UTF-8)" })?;
        let mut settings = Self::default();
        for word in text.split_ascii_whitespace() {
            let read = |(name, value): (&str, &str)| Some((Key::parse(name)?, value.parse().ok()?));
            let (key, value) = word.split_once('=').and_then(read).ok_or(SettingsError { word })?;
            settings.set(key, value);
        }
        Ok(settings)
    }

    /// What was said last of a setting.
    #[must_use]
    pub const fn get(&self, key: Key) -> Option<u64> {
        self.0[key as usize]
    }

    /// Whether a setting that is no by default was set to yes.
    #[must_use]
    pub const fn is_on(&self, key: Key) -> bool {
        matches!(self.get(key), Some(1..))
    }

    /// Sets one.
    pub const fn set(&mut self, key: Key, value: u64) {
        self.0[key as usize] = Some(value);
    }

    /// Those that were set, in the order of [`Key::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Key, u64)> {
        Key::ALL.into_iter().zip(self.0).filter_map(|(key, value)| Some((key, value?)))
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (key, value)) in self.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{}={value}", key.name())?;
        }
        Ok(())
    }
}

/// A word that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsError<'a> {
    /// The word.
    pub word: &'a str,
}

impl fmt::Display for SettingsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { word } = self;
        write!(f, "the payload's settings have the word `{word}`, which is no `name=number` of this kernel's")
    }
}

impl core::error::Error for SettingsError<'_> {}

#[cfg(test)]
mod tests {
    use super::{Key, Settings, SettingsError};

    #[test]
    fn every_setting_comes_back() {
        let mut all = Settings::default();
        assert_eq!(Settings::parse(b""), Ok(all));
        for (number, key) in (7..).zip(Key::ALL) {
            let mut one = Settings::default();
            one.set(key, u64::MAX);
            assert_eq!(Settings::parse(one.to_string().as_bytes()), Ok(one));
            assert_eq!(one.iter().collect::<Vec<_>>(), [(key, u64::MAX)]);
            all.set(key, number);
        }
        assert_eq!(Settings::parse(all.to_string().as_bytes()), Ok(all));
        assert_eq!(all.iter().count(), Key::ALL.len());
    }

    #[test]
    fn the_last_word_counts_and_zero_is_off() {
        let settings = Settings::parse(b"fuel=1 fuel=2 unknown-imports-trap=0").unwrap();
        assert_eq!(settings.get(Key::Fuel), Some(2));
        assert!(!settings.is_on(Key::UnknownImportsTrap) && !settings.is_on(Key::EpochInterruption));
        assert!(settings.is_on(Key::Fuel));
    }

    #[test]
    fn words_that_mean_nothing_are_named() {
        for word in ["fuel", "fuel=", "fuel=-1", "fuel=y", "fool=1", "=1", "fuel=99999999999999999999"] {
            let line = format!("timeout=1 {word}");
            assert_eq!(Settings::parse(line.as_bytes()), Err(SettingsError { word }));
        }
        assert!(Settings::parse(b"\xff").is_err());
    }
}
