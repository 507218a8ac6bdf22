//! Lists of what there is.

use std::fmt::Write;

use super::{Group, Place};

/// A group with all it has: what each option does, or why there is none.
pub(super) fn list(group: Group) -> String {
    let mut text = format!("Options behind -{}, {}:\n", group.letter(), group.title());
    // Those that share a reason stand together in the tables.
    let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
    for setting in group.settings() {
        let name = setting.name;
        match (setting.place, missing.last_mut()) {
            (Place::Nowhere(why), Some((same, names))) if why == *same => names.push(name),
            (Place::Nowhere(why), _) => missing.push((why, vec![name])),
            // Writing to a `String` cannot fail, here and below.
            _ => drop(writeln!(text, "  {name}{}\n      {}", setting.kind.shape(), setting.about)),
        }
    }
    if !missing.is_empty() {
        text += "\nNot to be had, and why:\n";
    }
    for (why, names) in missing {
        let _ = writeln!(text, "  {}\n      {why}", names.join("\n  "));
    }
    text
}
