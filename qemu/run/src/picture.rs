//! Instances that live at the same time, and the machine as it is meanwhile.

use alloc::{format, string::String, vec::Vec};

use allotment::{Allocator, PoolKind, PoolPlan, RegionView, SlotView};
use protocol::dump::{Arena, BEGIN, END, Kind, Line, Pool, Region, Slot, Window};

use crate::{
    instance::{Launched, Launcher},
    streams::{Outcome, Streams},
};

/// Bytes of a page table.
const TABLE: usize = 4096;

/// Makes `count` instances, gives every third back, and writes a dump to
/// standard output. Nobody hears what their programs write.
pub(crate) fn draw(
    launcher: &Launcher,
    count: u32,
    allocator: &Allocator,
    streams: &Streams,
) -> Result<Outcome, Outcome> {
    let mut live: Vec<Option<Launched>> = Vec::new();
    for number in 1..=count {
        // So that they need not all be of one size.
        let variable = format!("ALLOTMENT_INSTANCE={number}");
        let launched = launcher.launch(Streams::Silent, Some(variable))?;
        if let Outcome::Trapped { cause, .. } = &launched.outcome {
            streams.say(&format!("instance {number}: {cause}"));
        }
        live.push(Some(launched));
    }
    // What was in use once is worth a picture too.
    live.iter_mut().skip(2).step_by(3).for_each(|third| *third = None);
    streams.print(&dump(allocator));
    Ok(Outcome::Exited(0))
}

fn dump(allocator: &Allocator) -> String {
    let mut text = format!("{BEGIN}\n");
    let mut line = |line: Line| text.push_str(&format!("{line}\n"));
    let (plan, metrics) = (allocator.plan(), allocator.metrics());
    line(Line::Window(Window { start: plan.window.start.0, end: plan.window.end.0 }));
    line(Line::Arena(Arena {
        start: plan.arena.start.0,
        end: plan.arena.end.0,
        overhead: plan.overhead as u64,
        own: plan.own_frames as u64,
        frames: plan.frames as u64,
        available: metrics.available_frames as u64,
        idle: metrics.idle_frames as u64,
    }));
    let usual = [(Kind::Memory, &plan.memories), (Kind::Table, &plan.tables), (Kind::Stack, &plan.stacks)];
    let further = plan.memory_pools.iter().flatten().map(|pool| (Kind::Memory, pool));
    for (kind, pool) in usual.into_iter().chain(further) {
        if pool.slab.total_memories > 0 {
            line(Line::Pool(of_pool(kind, pool)));
        }
    }
    allocator.for_each_slot(|slot| {
        if let Some(slot) = of_slot(&slot) {
            line(Line::Slot(slot));
        }
    });
    allocator.for_each_region(|region| line(Line::Region(of_region(&region))));
    text + END + "\n"
}

fn of_pool(kind: Kind, pool: &PoolPlan) -> Pool {
    let slab = &pool.slab;
    Pool {
        kind,
        slots: slab.total_memories as u64,
        base: pool.first.0,
        stride: slab.stride as u64,
        reservation: slab.reservation as u64,
        guard_before: slab.guard_before as u64,
        limit: slab.max_memory_size as u64,
        tables: (slab.premapped_tables * TABLE) as u64,
    }
}

/// A slot's line, unless there is nothing to say of it.
fn of_slot(slot: &SlotView) -> Option<Slot> {
    let kind = match slot.pool {
        PoolKind::Memories => Kind::Memory,
        PoolKind::Tables => Kind::Table,
        PoolKind::Stacks => Kind::Stack,
        _ => return None,
    };
    (slot.generation > 0).then(|| Slot {
        kind,
        number: slot.slot.into(),
        base: slot.base.0,
        generation: slot.generation,
        used: slot.in_use,
        accessible: slot.accessible as u64,
        resident: slot.resident as u64,
    })
}

fn of_region(region: &RegionView) -> Region {
    Region {
        start: region.start.0,
        bytes: region.bytes as u64,
        accessible: region.accessible as u64,
        executable: region.executable as u64,
        resident: region.resident as u64,
    }
}
