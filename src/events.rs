//! What happens seldom, told to the crate `log` by the feature of that name; without it the macros
//! below are nothing.
//!
//! | level | what |
//! |---|---|
//! | info | what was carved, and what limited it; that boot is over |
//! | warn | a carve that was refused; a memory, table, stack or GC heap that was not to be had |
//! | debug | the whole plan; growth that was refused; a module that was purged; calls of Wasmtime's that failed |
//!
//! Never on the fault path, and nothing of what succeeds after the carve but `purge_module` and `seal`: a
//! logger may lock, allocate and print. It is called after all locks of the core are free, on the CPU and
//! thread of whoever made the call. What wasm can repeat as it likes, such as growth, is told as `debug`.

/// Tells.
#[cfg(feature = "log")]
macro_rules! tell {
    ($level:ident, $($what:tt)+) => { ::log::$level!(target: "allotment", $($what)+) };
}

/// Tells nothing.
#[cfg(not(feature = "log"))]
macro_rules! tell {
    ($level:ident, $($what:tt)+) => {};
}

/// The result, after its error was told.
#[cfg(feature = "log")]
macro_rules! told {
    ($level:ident, $what:literal, $result:expr) => {{
        let result = $result;
        if let Err(error) = &result {
            $crate::events::failed(::log::Level::$level, $what, error);
        }
        result
    }};
}

/// The result.
#[cfg(not(feature = "log"))]
macro_rules! told {
    ($level:ident, $what:literal, $result:expr) => {
        $result
    };
}

pub(crate) use {tell, told};

/// Out of the way of what succeeds.
#[cfg(feature = "log")]
#[cold]
#[inline(never)]
pub(crate) fn failed(level: log::Level, what: &str, error: &dyn core::fmt::Display) {
    log::log!(target: "allotment", level, "{what}: {error}");
}
