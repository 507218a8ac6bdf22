//! A kernel with several address spaces and several CPUs, which all run wasm in one window.
//!
//! ```text
//!               0            0x40000000                          0xffff9000..
//!   root of ada |            |own page|          | kernel's half | window |   |
//!   root of bob |            |own page|          |       "       |   "    |   |     one entry, copied
//!   root of cyd |            |own page|          |       "       |   "    |   |
//! ```
//!
//! [`wasm`] is all that knows of Allotment. [`program`] is Wasmtime, as anywhere. All else is a kernel.
#![no_std]
#![no_main]

extern crate alloc;

mod apic;
mod cpus;
mod descriptors;
mod exceptions;
mod memory;
mod process;
mod program;
mod serial;
mod wasm;

use core::{arch::global_asm, panic::PanicInfo};

use spin::Mutex;
use wasmtime::{Engine, Module};

use cpus::{COUNT, STACK_SIZE, STACKS};
use memory::MemoryMap;
use process::Process;
use program::{PROCESSES, Program};

global_asm!(
    include_str!("boot.s"),
    CPUS = const COUNT,
    STACKS = sym STACKS,
    STACK_SIZE = const STACK_SIZE,
    cpu_start = sym cpu_start,
);

unsafe extern "C" {
    fn pvh_start() -> !;
}
pvh::xen_elfnote_phys32_entry!(pvh_start);

/// Where `boot.s` ends, on each CPU, with the boot code's root.
extern "C" fn cpu_start(number: usize, start_info: u32) -> ! {
    if number > 0 {
        memory::load_kernel_root();
        cpus::init(number);
        cpus::idle();
    }
    let memory = memory::init(start_info);
    cpus::init(0);
    cpus::start();
    x86_64::instructions::interrupts::enable();
    run(&memory);
    println!("processes: all as expected");
    serial::exit(true)
}

const ROUNDS: usize = 8;
/// In which bob's second instance traps.
const STRAY: usize = 3;
/// After which bob ends, and dan begins on another CPU.
const END: usize = 5;

fn run(memory: &MemoryMap) {
    let engine = wasm::start(memory);
    println!("{}", wasm::platform().allocator().plan());
    let module = load(&engine, memory.module());
    let start = |name, own| {
        let program = Program::start(&engine, &module, Process::new(name, own));
        Mutex::new(program.unwrap_or_else(|error| panic!("{name} does not start: {error:#}")))
    };
    let programs = [start("ada", 11), start("bob", 22), start("cyd", 33)];
    println!("{COUNT} CPUs, {PROCESSES} processes, each with a root and two instances of its own");

    for round in 0..ROUNDS {
        let place = |nth: usize| (nth + round) % COUNT;
        cpus::on_all(&|cpu| match (0..PROCESSES).find(|&nth| place(nth) == cpu) {
            Some(nth) if (round, nth) == (STRAY, 1) => stray(&mut programs[nth].lock()),
            Some(nth) => turn(&mut programs[nth].lock()),
            // Code comes and goes meanwhile, of which every CPU hears.
            None => drop(load(&engine, memory.module())),
        });
        let [ada, bob, cyd] = [0, 1, 2].map(|nth| (programs[nth].lock().process.name, place(nth)));
        println!("round {round}: {} on CPU {}, {} on CPU {}, {} on CPU {}", ada.0, ada.1, bob.0, bob.1, cyd.0, cyd.1);
    }
    assert_eq!(cpus::answered(), COUNT);
}

fn turn(program: &mut Program) {
    match program.turn() {
        Ok(true) => {}
        other => panic!("{} finds its memories changed: {other:?}", program.process.name),
    }
}

fn stray(program: &mut Program) {
    let (intact, trap) = program.stray().expect("a first instance that goes on");
    let trap = trap.expect("a trap");
    assert!(intact);
    println!("{} on CPU {}: {trap}", program.process.name, cpus::current());
}

fn load(engine: &Engine, bytes: &[u8]) -> Module {
    // SAFETY: compiled by the same Wasmtime, as the command that boots this kernel has it.
    let module = unsafe { Module::deserialize(engine, bytes) };
    module.unwrap_or_else(|error| panic!("the module of `-initrd` does not load: {error:#}"))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    serial::print_last(format_args!("processes: CPU {}: {info}\n", cpus::current()));
    serial::exit(false)
}
