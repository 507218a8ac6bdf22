//! The program of `cargo xtask run`: runs the module in its payload and ends
//! the machine with the module's status.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
kernel::entry!(main);

#[cfg(target_os = "none")]
fn main(boot: &'static kernel::BootInfo) -> ! {
    runtime::run::run(boot)
}

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("this program is a kernel; boot it with `cargo xtask run`");
    std::process::ExitCode::from(2)
}
