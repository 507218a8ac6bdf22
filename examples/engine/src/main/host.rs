//! On a host: a file, on an emulated machine.

use core::{fmt::Display, ops::Range};
use std::{env, ffi::OsString, fs, path::Path, process::ExitCode};

use allotment::{
    Allocator, Config, PoolingAllocationConfig,
    arch::{
        Aarch64, VirtAddr, X86_64,
        emulated::{Emulated, Mmu},
    },
};
use engine::{Engine, Error, InstanceId, Store, ValType, Value};

use crate::demo;

const HELP: &str = "\
Runs a wasm file on an emulated machine, in instances of Allotment's.

Usage: engine [OPTIONS] [FILE.wasm [FUNCTION [ARGUMENT]...]]

Without a file it runs a program of its own. Without a function it calls `main`,
or `_start`. A module may import `host` `print` (address and length) and `host`
`print_i32`.

Options:
  --on-demand   give instances ranges of their own instead of slots of pools
  --aarch64     emulate aarch64's page tables instead of x86_64's
  --fuel N      trap after N branches and calls
  --help        print this
";

/// Bytes of the machine's memory, and of its address space.
const MACHINE: usize = 128 << 20;
const WINDOW: Range<VirtAddr> = VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9800_0000_0000);
/// What an instance may have.
const SLOTS: usize = 4;
const MAX_MEMORY: usize = 64 << 20;

/// A command line.
#[derive(Default)]
struct Words {
    on_demand: bool,
    aarch64: bool,
    fuel: Option<u64>,
    file: Option<OsString>,
    function: Option<String>,
    arguments: Vec<String>,
}

pub(crate) fn main() -> ExitCode {
    let words = match parse(env::args_os().skip(1)) {
        Ok(Some(words)) => words,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("error: {message}; see --help");
            return ExitCode::from(2);
        }
    };
    let run = if words.aarch64 { run::<Aarch64>(&words) } else { run::<X86_64>(&words) };
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The command line, or nothing if it asks for help.
fn parse(words: impl Iterator<Item = OsString>) -> Result<Option<Words>, String> {
    let mut parsed = Words::default();
    let mut words = words;
    while let Some(word) = words.next() {
        // Options end with the file; what looks like one after it may be a number.
        let text = word.to_str().map(str::to_owned);
        match text.as_deref() {
            _ if parsed.function.is_some() => {
                parsed.arguments.push(text.ok_or("an argument is not UTF-8")?);
            }
            _ if parsed.file.is_some() => parsed.function = Some(text.ok_or("the function is not UTF-8")?),
            Some("--help" | "-h") => return Ok(None),
            Some("--on-demand") => parsed.on_demand = true,
            Some("--aarch64") => parsed.aarch64 = true,
            Some("--fuel") => {
                let fuel = words.next().and_then(|word| word.to_str()?.parse().ok());
                parsed.fuel = Some(fuel.ok_or("`--fuel` wants a number")?);
            }
            Some(option) if option.starts_with('-') => return Err(format!("there is no option `{option}`")),
            _ => parsed.file = Some(word),
        }
    }
    Ok(Some(parsed))
}

fn run<F: Mmu>(words: &Words) -> Result<(), String> {
    let machine = Emulated::<F>::new(MACHINE);
    machine.guard_window(WINDOW);
    let arena = machine.free_memory();
    let config = if words.on_demand {
        Config::new().region_space(1 << 37)
    } else {
        let pools = PoolingAllocationConfig::new()
            .total_core_instances(SLOTS)
            .total_memories(SLOTS)
            .max_memory_size(MAX_MEMORY)
            .max_memories_per_module(4)
            .total_tables(SLOTS)
            .max_tables_per_module(4)
            .total_stacks(0);
        Config::new().allocation_strategy(pools).region_space(1 << 30)
    };
    // SAFETY: the machine is new; nobody else uses any of it.
    let allocator = unsafe { Allocator::new(machine, WINDOW, arena, &config) }.map_err(|e| e.to_string())?;
    let engine = Engine::new(&allocator).map_err(|error| error.to_string())?;
    match &words.file {
        None => demo::run(&engine, |text| print!("{text}")).map_err(|error| error.to_string()),
        Some(file) => run_file(&engine, words, Path::new(file)),
    }
}

fn run_file<F: Mmu>(engine: &Engine<'_, Emulated<F>>, words: &Words, file: &Path) -> Result<(), String> {
    let of_file = |error: &dyn Display| format!("{}: {error}", file.display());
    let bytes = fs::read(file).map_err(|error| of_file(&error))?;
    let code = engine.compile(&bytes).map_err(|error| of_file(&error))?;
    let mut store = Store::new(engine);
    demo::define_printing(&mut store, |text| print!("{text}"));
    store.set_fuel(words.fuel);
    let id = store.instantiate("main", &code).map_err(|error| of_file(&error))?;
    let name = words.function.clone().unwrap_or_else(|| usual(&store, id));
    let ty = store.function_type(id, &name).map_err(|error| of_file(&error))?;
    if ty.params().len() != words.arguments.len() {
        let (wanted, given) = (ty.params().len(), words.arguments.len());
        return Err(format!("`{name}` takes {wanted} arguments, {given} are given"));
    }
    let arguments: Result<Vec<Value>, String> =
        words.arguments.iter().zip(ty.params()).map(|(text, &ty)| value(text, ty)).collect();
    let results = store.call(id, &name, &arguments?).map_err(|error| of_file(&error))?;
    for result in results {
        match result {
            Value::I32(value) => println!("{value}"),
            Value::I64(value) => println!("{value}"),
            Value::F32(value) => println!("{value}"),
            Value::F64(value) => println!("{value}"),
            Value::FuncRef(_) | Value::ExternRef(_) => println!("{result:?}"),
        }
    }
    Ok(())
}

/// The function that is called when nobody says which.
fn usual<F: Mmu>(store: &Store<'_, '_, Emulated<F>>, id: InstanceId) -> String {
    let has_main = !matches!(store.function_type(id, "main"), Err(Error::UnknownExport(_)));
    if has_main { "main" } else { "_start" }.to_owned()
}

/// An argument of that type.
fn value(text: &str, ty: ValType) -> Result<Value, String> {
    let number = match ty {
        ValType::I32 => text.parse().map(Value::I32).ok(),
        ValType::I64 => text.parse().map(Value::I64).ok(),
        ValType::F32 => text.parse().map(Value::F32).ok(),
        ValType::F64 => text.parse().map(Value::F64).ok(),
        _ => None,
    };
    number.ok_or_else(|| format!("`{text}` is no {ty}; give a number of that type"))
}
