//! What the tests of instances share.

use allotment::PoolingAllocationConfig;

use crate::common::{MIB, pool};

/// A pool for four instances with a memory of 1 MiB and a table each.
pub(crate) fn few() -> PoolingAllocationConfig {
    pool(4, MIB).total_tables(4).total_core_instances(4)
}
