//! The program of `cargo xtask spec`: goes through the scripts in its payload and says what came of them.
//!
//! ```text
//!   payload: script/00000, script/00001, ..      channel: a line for each script and each failure
//!        |                                           ^
//!        v                                           |
//!   main --- script      a store and its instances --'
//!              |--- spectest    what every file may import
//!              |--- values      arguments, and whether results are as expected
//!              '--- traps       whether an error says what the specification's interpreter says
//!   machine    pools with room for every instance of a file, an engine with all proposals
//! ```
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod reports;
#[cfg(target_os = "none")]
mod script;
#[cfg(target_os = "none")]
mod spectest;
#[cfg(target_os = "none")]
mod traps;
#[cfg(target_os = "none")]
mod values;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("this program is a kernel; boot it with `cargo xtask spec`");
    std::process::ExitCode::from(2)
}

#[cfg(target_os = "none")]
kernel::entry!(bare::main);

#[cfg(target_os = "none")]
mod bare {
    use alloc::string::{String, ToString};

    use kernel::BootInfo;
    use protocol::{
        options::{ENTRY, Options},
        payload::Payload,
        spec::{COLLECTOR, Collector, Report, SCRIPTS},
    };

    use crate::{machine, reports::Reports, script};

    pub(crate) fn main(boot: &'static BootInfo) -> ! {
        let mut reports = Reports::open();
        let refused = run(boot, &mut reports).err();
        reports.finish(refused.as_deref())
    }

    /// Every script, or why none can be run.
    fn run(boot: &'static BootInfo, reports: &mut Reports) -> Result<(), String> {
        let bytes =
            boot.payload.ok_or("the boot image carries no scripts; boot it with `cargo xtask spec`")?;
        let payload = Payload::parse(bytes).map_err(|error| error.to_string())?;
        let options = Options::parse(payload.get(ENTRY).unwrap_or_default());
        let options = options.map_err(|error| error.to_string())?;
        let collector = Collector::parse(payload.get(COLLECTOR).unwrap_or(b"drc"))
            .ok_or("the payload names a collector that this kernel does not know")?;
        let engine = machine::start(boot, options.strategy, collector).map_err(|error| error.to_string())?;
        for (number, entry) in (0..).zip(payload.with_prefix(SCRIPTS)) {
            reports.say(&Report::Begin(number));
            script::run(&engine, entry.data, reports);
            reports.say(&Report::End);
        }
        Ok(())
    }
}
