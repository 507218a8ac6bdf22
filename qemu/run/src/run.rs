//! What the payload asks for, step by step.

use alloc::{format, string::ToString};

use kernel::BootInfo;
use protocol::{
    options::{ENTRY, Options},
    payload::Payload,
};

use crate::{
    instance::Launcher,
    machine, picture, series,
    streams::{Outcome, Streams},
};

/// Does what the payload asks for and ends the machine. The status says how
/// its program ended.
pub fn run(boot: &'static BootInfo) -> ! {
    let streams = Streams::open();
    let outcome = follow(boot, &streams).unwrap_or_else(|refused| refused);
    streams.finish(&outcome)
}

fn follow(boot: &'static BootInfo, streams: &Streams) -> Result<Outcome, Outcome> {
    let bytes = boot.payload.ok_or(Outcome::Refused("the boot image carries no module".to_string()))?;
    let payload = Payload::parse(bytes).map_err(|error| Outcome::Refused(error.to_string()))?;
    let options = Options::parse(payload.get(ENTRY).unwrap_or_default())
        .map_err(|error| Outcome::Refused(error.to_string()))?;
    let module = payload.get("module");
    if module.is_none() && !options.plan {
        return Err(Outcome::Refused("the payload has no module".to_string()));
    }

    let (engine, platform) = machine::start_with(boot, options.strategy, |pools| pools)
        .map_err(|error| Outcome::Refused(error.to_string()))?;
    let allocator = platform.allocator();
    if options.plan {
        match module {
            // Standard output is the program's.
            Some(_) => streams.say(&format!("plan ({})\n{}", options.strategy, allocator.plan())),
            None => streams.print(&format!("{}\n", allocator.plan())),
        }
    }
    let Some(compiled) = module else { return Ok(Outcome::Exited(0)) };
    let launcher = Launcher::new(engine, payload, compiled)?;
    let outcome = if options.draw {
        picture::draw(&launcher, options.instances.unwrap_or(1), allocator, streams)
    } else if let Some(count) = options.instances {
        series::run(&launcher, count, allocator, streams)
    } else {
        launcher.launch(streams.clone(), None).map(|launched| launched.outcome)
    };
    if options.metrics {
        let mut text = format!("metrics\n{}", allocator.metrics());
        if let Some(pools) = allocator.pooling_allocator_metrics() {
            text += &format!("\n{pools}");
        }
        streams.say(&format!("{text}\n{}", allocator.invalidations()));
    }
    outcome
}
