//! Runs WebAssembly programs and Allotment's tests on bare metal in QEMU.
//!
//! ```text
//!   cargo xtask            cli      what can be typed
//!     run ............... run --.     one program
//!     image ............. run   |     one bootable file
//!     compile ........... compile     one .cwasm
//!     draw .............. draw        a picture of a running machine
//!     test .............. test        cargo's tests, all targets
//!     test defects ...... defects     do the tests notice mistakes?
//!     spec .............. spec        the specification's tests
//!     bench ............. bench       instructions per operation
//!     example ........... example     kernels of others, built and booted
//!     runner ............ runner      called by cargo: a kernel's tests
//!                               |
//!   install   QEMU and Rust targets             kernel, guests   what cargo builds
//!   settings  Wasmtime's names for what can be set: compiler, kernel, pools
//!   compile   .wasm to .cwasm, kept             payload, files   what a machine is given
//!   image     kernel + payload -> one ELF       setup            QEMU's command line
//!   machine   a QEMU process and its deadline   channel          a program's streams
//!   verdict   how a machine ended               monitor          where its CPUs are
//!   plot      curves as SVG                     symbols          names for addresses
//!   units     numbers in words                  xml              text in pictures
//! ```

#![expect(clippy::std_instead_of_core, reason = "a program for the host, where std is one thing")]

mod arch;
mod bench;
mod cargo;
mod channel;
mod cli;
mod compile;
mod defects;
mod demo;
mod draw;
mod error;
mod example;
mod files;
mod guests;
mod image;
mod install;
mod kernel;
mod machine;
mod monitor;
mod payload;
mod plot;
mod progress;
mod reset;
mod run;
mod runner;
mod settings;
mod setup;
mod spec;
mod symbols;
mod test;
mod units;
mod verdict;
mod workspace;
mod xml;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(words) => match &words.module {
            Some(module) => run::run(&words, module),
            None if words.plan => run::plan(&words),
            None if !words.settings.is_empty() => Err(settings::needs_module()),
            None => demo::run(&run::Options::of(&words)),
        },
        Command::Compile(words) => run::compile(&words),
        Command::Image(words) => run::image(&words),
        Command::Draw(words) => draw::draw(&words),
        Command::Test(words) => test::test(&words),
        Command::Spec(words) => spec::spec(&words),
        Command::Bench(words) => bench::bench(&words),
        Command::Example(words) => example::example(&words),
        Command::Guests => guests::print(),
        Command::Runner(words) => runner::run(&words.elf, &words.words),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            progress::say(format_args!("{error:#}"));
            ExitCode::from(error::exit_status(&error))
        }
    }
}
