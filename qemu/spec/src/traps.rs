//! Whether an error is the one that a test wants. The suite has the words of the specification's interpreter.

use alloc::{format, string::String};

/// Words of the suite, and words by which Wasmtime says the same or less.
const SYNONYMS: [(&str, &str); 4] = [
    // Which element it is, nobody knows any more.
    ("uninitialized element", "uninitialized element"),
    // A function is called through its reference as if through a table.
    ("null function", "uninitialized element"),
    ("null function", "null reference"),
    // `null i31 reference` and the like.
    ("null", "null reference"),
];

/// Checks that `error` says `message`. What it says of wasm's frames does not count.
pub(crate) fn check(error: &wasmtime::Error, message: &str) -> Result<(), String> {
    let said = format!("{error:?}");
    let same = said.contains(message)
        || SYNONYMS.iter().any(|(theirs, ours)| message.starts_with(theirs) && said.contains(ours));
    if same { Ok(()) } else { Err(format!("expected `{message}`, got: {said}")) }
}
