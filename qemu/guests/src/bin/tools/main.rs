//! `tools NAME [ARGUMENTS...]`: small tools in one program, each a customer of another part of the system.
//!
//! They behave as their namesakes on Linux: messages on standard error, status 1 after an error.

mod files;
mod process;
mod text;

use std::{
    env,
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

/// How a tool ends.
type Outcome = Result<(), Box<dyn Error>>;

/// Name, arguments, and the tool itself.
type Tool = (&'static str, &'static str, fn(&[String]) -> Outcome);

const TOOLS: &[Tool] = &[
    ("cat", "[FILE...]      copies files, or standard input, to standard output", text::cat),
    ("wc", "[FILE]          counts lines, words and bytes", text::wc),
    ("sort", "[FILE]        sorts lines", text::sort),
    ("sum", "[FILE]         a checksum (FNV-1a, 64 bits)", text::sum),
    ("ls", "[DIRECTORY]     lists a directory with types and sizes", files::ls),
    ("find", "[DIRECTORY]   lists everything below a directory", files::find),
    ("stat", "PATH...       tells what is at a path", files::stat),
    ("readlink", "PATH      prints where a link leads", files::readlink),
    ("tail", "COUNT FILE    prints the last bytes of a file", files::tail),
    ("write", "PATH         tries to write in every way and prints what the system says", files::write),
    ("args", "[ARGUMENT...] prints its arguments", process::args),
    ("env", "[NAME...]      prints the environment, or some of it", process::env),
    ("sleep", "MILLISECONDS sleeps, and fails if that took less", process::sleep),
    ("clock", "             fails if clocks go back or stand still", process::clock),
    ("random", "            fails if random bytes repeat", process::random),
    ("exit", "STATUS        exits with a status", process::exit),
    ("panic", "[MESSAGE]    panics", process::panic),
    ("recurse", "DEPTH      calls itself", process::recurse),
    ("allocate", "MIB       allocates, writes and reads back", process::allocate),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let found = arguments.split_first().and_then(|(name, rest)| {
        let tool = TOOLS.iter().find(|tool| tool.0 == name)?;
        Some((tool, rest))
    });
    let Some(((name, _, tool), rest)) = found else {
        eprintln!("usage: tools NAME [ARGUMENTS...]");
        for (name, usage, _) in TOOLS {
            eprintln!("  {name} {usage}");
        }
        return ExitCode::from(2);
    };
    match tool(rest).and_then(|()| Ok(io::stdout().flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The one argument that a tool needs.
fn only<'a>(arguments: &'a [String], what: &str) -> Result<&'a str, Box<dyn Error>> {
    match arguments {
        [argument] => Ok(argument),
        _ => Err(format!("expected one argument: {what}").into()),
    }
}
