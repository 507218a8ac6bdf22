//! From `fuel=1000,simd=n` to settings.

use std::str::FromStr;

use super::{Group, Place, Setting, Tool, help, value::Kind};

/// One option with its value.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) setting: &'static Setting,
    pub(super) value: u64,
}

/// What one `-W`, `-O`, `-C` or `-D` says.
#[derive(Clone)]
pub(crate) struct Words {
    pub(super) words: Vec<Word>,
    /// Flags of Cranelift's, with their values.
    pub(super) flags: Vec<(String, Option<String>)>,
}

impl Words {
    /// Reads what stands behind the group's letter.
    pub(super) fn parse(group: Group, text: &str) -> Result<Self, String> {
        let mut read = Self { words: Vec::new(), flags: Vec::new() };
        for word in text.split(',') {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            if let Some(flag) = name.strip_prefix("cranelift-").filter(|_| is_open(group, name)) {
                // Cranelift's own names have underscores.
                read.flags.push((flag.replace('-', "_"), value.map(str::to_owned)));
                continue;
            }
            read.words.push(find(group, name, value)?);
        }
        Ok(read)
    }
}

/// Whether a name that begins as Cranelift's flags do is no setting of its own.
fn is_open(group: Group, name: &str) -> bool {
    group == Group::Codegen && group.settings().iter().all(|setting| setting.name != name)
}

fn find(group: Group, name: &str, value: Option<&str>) -> Result<Word, String> {
    let letter = group.letter();
    let known =
        |setting: &&Setting| setting.name == name && !matches!(setting.place, Place::Tool(Tool::Cranelift));
    let Some(setting) = group.settings().iter().find(known) else {
        return Err(format!("unknown option `{name}`; there is\n\n{}", help::list(group)));
    };
    let parsed = setting.kind.parse(value);
    if let Place::Nowhere(why) = setting.place {
        // Without it is how things are.
        return match parsed {
            Ok(0) if setting.kind == Kind::Flag => Ok(Word { setting, value: 0 }),
            _ => Err(format!("`-{letter} {name}` is not to be had: {why}")),
        };
    }
    let value = parsed.map_err(|why| format!("`-{letter} {name}{}`: {why}", setting.kind.shape()))?;
    Ok(Word { setting, value })
}

/// A group's words as a type of its own: the command line reads each by its type.
macro_rules! groups {
    ($($name:ident),*) => {$(
        #[doc = concat!("Words of [`Group::", stringify!($name), "`].")]
        #[derive(Clone)]
        pub(crate) struct $name(pub(super) Words);

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                if text == "help" {
                    // At once, as Wasmtime does: nothing else need be right.
                    print!("{}", help::list(Group::$name));
                    std::process::exit(0);
                }
                Words::parse(Group::$name, text).map(Self)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_list().entries(self.0.words.iter().map(|word| (word.setting.name, word.value))).finish()
            }
        }
    )*};
}

groups!(Wasm, Optimize, Codegen, Debug);
