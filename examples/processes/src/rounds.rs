//! What the processes do. Whatever is not as it must be ends in a panic, and thus in another exit status.

use spin::Mutex;
use wasmtime::{Engine, Module};

use crate::{
    cpus::{self, COUNT},
    exceptions,
    memory::MemoryMap,
    println,
    process::Process,
    program::{PROCESSES, Program},
    wasm,
};

/// In each of them every process runs, on the CPU after its last one.
const ROUNDS: usize = 8;
/// In which bob's second instance traps.
const STRAY: usize = 3;
/// Before which bob ends, and dan begins.
const SUCCESSION: usize = 6;

/// Nobody's, before it has begun and after it has ended.
type Place = Mutex<Option<Program>>;

pub fn run(memory: &MemoryMap) {
    // Too early: the window is not in the kernel's root yet.
    let eve = Process::new("eve", 55);
    let engine = wasm::start(memory);
    println!("{}", wasm::platform().allocator().plan());

    let module = load(&engine, memory);
    let start = |process| Program::start(&engine, &module, process).expect("memories and a module");
    let processes = [("ada", 11), ("bob", 22), ("cyd", 33)].map(|(name, own)| Process::new(name, own));
    let places = processes.map(|process| Place::new(Some(start(process))));
    println!("{COUNT} CPUs; {PROCESSES} processes, each with a root and two instances");
    for place in &places {
        let own = place.lock().as_mut().expect("it has begun").own().expect("it runs");
        println!("{} has {own} where the others have theirs", name(place));
    }

    for round in 0..ROUNDS {
        let cpu_of = |nth| (nth + round) % COUNT;
        if round == SUCCESSION {
            let dan = Process::new("dan", 44);
            succeed(&places[1], dan, [cpu_of(0), cpu_of(1)], &start);
        }
        cpus::on_all(&|cpu| match (0..PROCESSES).find(|&nth| cpu_of(nth) == cpu) {
            Some(nth) => turn(&places[nth], round == STRAY && nth == 1),
            // Code comes and goes meanwhile, and every CPU has to forget it.
            None => drop(load(&engine, memory)),
        });
        let name = |nth: usize| name(&places[nth]);
        println!(
            "round {round}, from CPU {}: {}, {}, {} find all as they left it",
            cpu_of(0),
            name(0),
            name(1),
            name(2)
        );
    }
    assert_eq!(cpus::answered(), COUNT, "some CPU was never interrupted");
    println!("each CPU was interrupted, and has answered");

    *places[0].lock() = None;
    let [memory, _] = places[2].lock().as_mut().expect("it has not ended").memories();
    catch_up(eve, memory, &start);
}

/// A turn of the process, on this CPU.
fn turn(place: &Place, strays: bool) {
    let mut program = place.lock();
    let program = program.as_mut().expect("it has begun");
    let name = program.process.name;
    let intact = if strays {
        let (intact, trap) = program.stray().expect("a first instance that goes on");
        println!("{name} on CPU {}: {}", cpus::current(), trap.expect("a trap"));
        intact
    } else {
        program.turn().expect("two instances that go on")
    };
    assert!(intact, "{name} finds something else than it has left");
}

/// Ends the program on one CPU, and begins another on the next, with what that has left.
fn succeed(place: &Place, process: Process, cpus: [usize; 2], start: &(dyn Fn(Process) -> Program + Sync)) {
    let before = name(place);
    let memories = place.lock().as_mut().expect("it has begun").memories();
    cpus::on(cpus[0], &|| *place.lock() = None);
    let process = Mutex::new(Some(process));
    cpus::on(cpus[1], &|| {
        let mut program = start(process.lock().take().expect("there is one"));
        assert_eq!(program.memories(), memories, "there are no others");
        assert!(program.is_fresh().expect("it runs"), "{before} has left something");
        *place.lock() = Some(program);
    });
    println!(
        "{before} ended on CPU {}, {} began on CPU {}: the same memories, fresh",
        cpus[0],
        name(place),
        cpus[1]
    );
}

/// A process whose root is older than the window cannot be helped by faults. It has to be given the window.
fn catch_up(eve: Process, memory: usize, start: &dyn Fn(Process) -> Program) {
    let Err(found) = eve.run(|| exceptions::try_read(memory)) else { panic!("eve's root has the window") };
    println!("{}: {found}", eve.name);
    eve.share_window();
    eve.run(|| exceptions::try_read(memory)).expect("the window is there");
    let mut program = start(eve);
    assert!(program.is_fresh().expect("it runs"), "ada has left something");
    println!("eve began with the window");
}

fn name(place: &Place) -> &'static str {
    place.lock().as_ref().map_or("nobody", |program| program.process.name)
}

fn load(engine: &Engine, memory: &MemoryMap) -> Module {
    // SAFETY: made by the same version of Wasmtime for this kernel, as its README says.
    let module = unsafe { Module::deserialize(engine, memory.module()) };
    module.unwrap_or_else(|error| panic!("what came with `-initrd` does not load: {error:#}"))
}
