//! Slots that share what nobody wrote: images, and zeros.
//!
//! ```text
//!   directory:  | T        | S        | S        | T        | 0
//!                 |          |          |          |
//!                 own table  image's    zero       own table (from the arena)
//!                 | C C W W C ...|      table      | W C C C ...|
//!
//!   S  points to a table that every memory of the image shares
//!   T  points to the slot's own: C shows a shared frame, and is copied on write;
//!      W is a frame of the slot's own
//! ```
//!
//! Opening such a slot links a table for each 2 MiB, however large the image. The
//! first write below `S` gives the granule a table of its own, the first to a `C` a
//! frame of its own: both in the fault, by [`write_fault`].
//!
//! Taking the slot back looks at own tables only, and in them at groups of 16
//! entries where something became writable: a *summary* of 32 bits for each table
//! says which. What was written is copied from the image again, or cleared, and
//! stays the slot's own: a next instance of the module that writes there does
//! not fault. The slot at rest stays paired with its image: own tables are parked
//! in the directory, hidden, and linked again by the next user.
//!
//! | file | what |
//! |---|---|
//! | `open` | pairing with an image, promising, linking |
//! | `grow` | more of it accessible |
//! | `granule` | one granule's table: whose, and making it the slot's own |
//! | `write_fault` | first writes, and writes declared before or after |
//! | `close` | unlinking, reset by what was written, learning, ageing |
//! | `larger` | contiguous runs and blocks of what is steadily written |
//! | `capture` | an image of what it shows |
//! | `placing`, `shrink` | what Wasmtime's platform asks of slots |
//! | `pending` | access that was given before the image is known |
//! | `release` | giving frames and tables back, ending a pairing |

#[cfg(feature = "audit")]
mod audit;
mod capture;
mod close;
mod granule;
mod grow;
mod larger;
mod open;
mod pending;
#[cfg(feature = "wasmtime-platform")]
mod placing;
mod release;
#[cfg(feature = "wasmtime-platform")]
mod shrink;
mod write_fault;

use core::sync::atomic::AtomicU64;

pub(super) use self::larger::Larger;
pub(super) use crate::vm::copy_on_write::EAGER_PAGES;

/// Pages whose entries one bit of a table's summary stands for.
pub(super) const GROUP: usize = 16;

/// What is known of a leaf table that a slot which shares has since the carve.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Below, the groups in which something may be writable; above, those that were
    /// written of late.
    groups: AtomicU64,
    /// How often in a row each group was written as a whole.
    streaks: AtomicU64,
}
