//! The tables among themselves, and beside what Wasmtime and the kernel have.

use std::collections::BTreeSet;

use protocol::options::Strategy;
use protocol::settings::Key;

use super::value::Kind;
use super::{Given, Group, Place, Words, help, wasm};

fn refused(group: Group, text: &str) -> String {
    Words::parse(group, text).err().unwrap_or_else(|| panic!("`{text}` is taken"))
}

#[test]
fn names_are_there_once_and_everything_says_what_it_is() {
    for group in Group::ALL {
        let mut names = BTreeSet::new();
        for setting in group.settings() {
            assert!(names.insert(setting.name), "{} is there twice", setting.name);
            let text = if let Place::Nowhere(why) = setting.place { why } else { setting.about };
            assert!(text.len() > 10 && !text.ends_with('.'), "{}: {text}", setting.name);
        }
    }
}

#[test]
fn the_kernel_is_told_what_the_tables_say_and_nothing_else() {
    let of_kernel =
        Group::ALL.iter().flat_map(|group| group.settings()).filter_map(|setting| match setting.place {
            Place::Kernel(key) | Place::Both(key, _) => Some(key.name()),
            _ => None,
        });
    let told: BTreeSet<&str> = of_kernel.collect();
    let known: BTreeSet<&str> = Key::ALL.into_iter().map(Key::name).collect();
    assert_eq!(told, known);
}

#[test]
fn every_proposal_is_an_option() {
    for proposal in wasm::PROPOSALS {
        assert!(wasm::SETTINGS.iter().any(|setting| setting.name == proposal.name), "{}", proposal.name);
    }
}

#[test]
fn words_are_separated_by_commas_and_the_last_counts() {
    let given = Given::of(&[
        (Group::Wasm, "fuel=1_000,timeout=2ms,epoch-interruption"),
        (Group::Wasm, "fuel=0x10"),
        (Group::Optimize, "pooling-allocator=n,static-memory-forced,memory-init-cow=no"),
        (Group::Codegen, "cache=n,collector=null"),
    ]);
    let told = given.told();
    for (key, value) in [
        (Key::Fuel, 16),
        (Key::Timeout, 2_000_000),
        (Key::EpochInterruption, 1),
        (Key::MemoryMayMove, 0),
        (Key::MemoryInitCow, 0),
        (Key::Collector, 1),
    ] {
        assert_eq!(told.get(key), Some(value), "{}", key.name());
    }
    assert_eq!(told.iter().count(), 6);
    assert_eq!(given.strategy(), Some(Strategy::OnDemand));
    assert!(!given.keeps_compiled() && !given.is_empty());
    let none = Given::default();
    assert!(none.is_empty() && none.keeps_compiled() && none.strategy().is_none());
}

#[test]
fn unknown_names_are_refused_with_the_list() {
    for group in Group::ALL {
        for name in ["fool", "", "help ", "Fuel"] {
            let why = refused(group, name);
            assert!(why.contains(&format!("unknown option `{name}`")), "{why}");
            for setting in group.settings() {
                assert!(why.contains(setting.name), "{} is not in the list", setting.name);
            }
        }
    }
    // Names belong to their group; Cranelift's are open, but the placeholder is none of them.
    assert!(refused(Group::Codegen, "fuel=1").contains("unknown"));
    assert!(refused(Group::Wasm, "cranelift-opt_level=none").contains("unknown"));
    assert!(refused(Group::Wasm, "simd,,gc").contains("unknown option ``"));
}

#[test]
fn what_cannot_be_had_is_refused_with_the_reason_and_not_wanting_it_is_fine() {
    for group in Group::ALL {
        for setting in group.settings() {
            let Place::Nowhere(reason) = setting.place else { continue };
            let value = match setting.kind {
                Kind::Flag => "y",
                Kind::Choice(names) | Kind::OptionalChoice(names) => names[0],
                _ => "1",
            };
            let why = refused(group, &format!("{}={value}", setting.name));
            assert!(why.contains("not to be had") && why.contains(reason), "{why}");
            if setting.kind == Kind::Flag {
                assert!(Words::parse(group, &format!("{}=n", setting.name)).is_ok(), "{}", setting.name);
            }
        }
    }
}

#[test]
fn bad_values_are_refused_with_what_there_is() {
    for (group, text, word) in [
        (Group::Wasm, "fuel", "needs a value"),
        (Group::Wasm, "fuel=much", "no number"),
        (Group::Wasm, "timeout=soon", "no time"),
        (Group::Wasm, "simd=maybe", "neither y nor n"),
        (Group::Optimize, "opt-level=3", "0, 1, 2, s"),
        (Group::Codegen, "collector=mark", "drc, null, copying"),
    ] {
        let why = refused(group, text);
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn lists_have_reasons_apart() {
    let list = help::list(Group::Wasm);
    let (had, not_had) = list.split_once("Not to be had").unwrap();
    assert!(had.contains("fuel=N") && had.contains("simd[=y|n]") && had.contains("timeout=N|Ns"));
    assert!(not_had.contains("threads") && not_had.contains("std") && !not_had.contains("fuel=N"));
}

#[test]
fn the_compiler_takes_settings_and_refuses_contradictions() {
    use crate::arch::Arch;
    use crate::compile::Compiler;

    let all: Vec<(Group, String)> = Group::ALL
        .iter()
        .flat_map(|group| group.settings().iter().map(move |setting| (*group, setting)))
        .filter(|(_, setting)| {
            matches!(setting.place, Place::Compiler(_) | Place::Both(..) | Place::Kernel(_))
        })
        .map(|(group, setting)| {
            let value = match setting.kind {
                Kind::Flag | Kind::Opposite => "y",
                Kind::Choice(names) | Kind::OptionalChoice(names) => names[0],
                Kind::Number | Kind::Bytes => "65536",
                Kind::Time => "1s",
                Kind::Text => "",
            };
            (group, format!("{}={value}", setting.name))
        })
        .collect();
    let one_by_one = |arch| {
        for (group, text) in &all {
            let given = Given::of(&[(*group, text)]);
            if let Err(why) = Compiler::with(arch, &given) {
                panic!("-{} {text}: {why:#}", group.letter());
            }
        }
    };
    Arch::ALL.into_iter().for_each(one_by_one);
    for (group, text, word) in [
        (Group::Debug, "debug-info,symbols=n", "symbols"),
        (Group::Codegen, "cranelift-no_such_flag=1", "no_such_flag"),
    ] {
        let given = Given::of(&[(group, text)]);
        let why = Compiler::with(Arch::X86_64, &given).err().expect("a contradiction");
        assert!(why.is::<crate::error::Usage>() && format!("{why:#}").contains(word), "{why:#}");
    }
}

#[test]
fn proposals_are_turned_on_and_off() {
    use crate::arch::Arch;
    use crate::compile::Compiler;

    let compiles = |words: &[(Group, &str)], text: &str| {
        let scratch = crate::workspace::cache("test-settings").unwrap();
        let module = scratch.join(format!("{}-{}.wat", std::process::id(), text.len()));
        std::fs::write(&module, text).unwrap();
        let compiled = Compiler::with(Arch::X86_64, &Given::of(words)).unwrap().load(&module);
        std::fs::remove_file(&module).unwrap();
        compiled.is_ok()
    };
    let simd = "(module (func (result v128) (v128.const i32x4 1 2 3 4)))";
    let pages = "(module (memory 1 (pagesize 1)))";
    assert!(compiles(&[], simd) && !compiles(&[], pages));
    assert!(!compiles(&[(Group::Wasm, "simd=n,relaxed-simd=n")], simd));
    assert!(compiles(&[(Group::Wasm, "custom-page-sizes")], pages));
    assert!(compiles(&[(Group::Wasm, "all-proposals")], pages));
    // What is named besides wins, in whichever order.
    assert!(!compiles(&[(Group::Wasm, "custom-page-sizes=n,all-proposals")], pages));
    assert!(compiles(&[(Group::Wasm, "simd"), (Group::Wasm, "all-proposals=n")], simd));
}
