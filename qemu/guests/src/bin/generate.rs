//! `generate orders [COUNT]` or `generate segments [COUNT]`: writes input for other guests to standard output.

use std::{env, io::Write, process::ExitCode};

fn main() -> ExitCode {
    let what = env::args().nth(1).unwrap_or_default();
    let count = env::args().nth(2).and_then(|count| count.parse().ok());
    let text = match what.as_str() {
        "orders" => guest_data::orders(count.unwrap_or(2000)),
        "segments" => guest_data::many_segments(count.unwrap_or(20_000)),
        _ => {
            eprintln!("usage: generate orders|segments [COUNT]");
            return ExitCode::from(2);
        }
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}
