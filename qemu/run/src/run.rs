//! What the payload asks for, step by step.

use alloc::{format, string::ToString};

use allotment::wasmtime::{Platform, configure_stacks};
use kernel::BootInfo;
use protocol::{
    options::{ENTRY, Options},
    payload::Payload,
    settings::{ENTRY as SETTINGS, Settings},
};
use wasmtime::Engine;

use crate::{
    instance::Launcher,
    machine::{self, SLOTS, StartError},
    picture, series,
    settings::{self, Time},
    slices,
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
    let settings = Settings::parse(payload.get(SETTINGS).unwrap_or_default())
        .map_err(|error| Outcome::Refused(error.to_string()))?;
    let time = Time::of(&settings, options.slice);
    let module = payload.get("module");
    if module.is_none() && !options.plan {
        return Err(Outcome::Refused("the payload has no module".to_string()));
    }

    let (engine, platform) =
        start(boot, &options, &settings, &time).map_err(|error| Outcome::Refused(error.to_string()))?;
    let allocator = platform.allocator();
    if options.plan {
        match module {
            // Standard output is the program's.
            Some(_) => streams.say(&format!("plan ({})\n{}", options.strategy, allocator.plan())),
            None => streams.print(&format!("{}\n", allocator.plan())),
        }
    }
    let Some(compiled) = module else { return Ok(Outcome::Exited(0)) };
    let launcher = Launcher::new(engine, payload, compiled, settings, time)?;
    let one_after_another = || {
        if options.draw {
            picture::draw(&launcher, options.instances.unwrap_or(1), allocator, streams)
        } else if let Some(count) = options.instances {
            series::run(&launcher, count, allocator, streams)
        } else {
            launcher.launch(streams.clone(), None).map(|launched| launched.outcome)
        }
    };
    let outcome = if time.slice.is_some() {
        slices::run(&launcher, options.instances.unwrap_or(1), streams)
    } else {
        launcher.ticking(one_after_another).unwrap_or_else(|why| Err(Outcome::Refused(why)))
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

/// Starts the machine as it is to be.
fn start(
    boot: &'static BootInfo,
    options: &Options,
    settings: &Settings,
    time: &Time,
) -> Result<(Engine, &'static Platform), StartError> {
    let at_a_time = match time.slice {
        Some(_) => usize::try_from(options.instances.unwrap_or(1)).unwrap_or(usize::MAX),
        None => 1,
    };
    let has_stacks = time.slice.is_some() || settings::has_own_stack(settings);
    machine::start_for(
        boot,
        options.strategy,
        |pools| {
            let pools = pools.total_memories(SLOTS.max(at_a_time));
            settings::pools(settings, if has_stacks { pools.total_stacks(at_a_time) } else { pools })
        },
        |config| settings::allocator(settings, config),
        |config, platform| {
            settings::engine(settings, time, config);
            if has_stacks {
                configure_stacks(config, platform);
            }
        },
    )
}
