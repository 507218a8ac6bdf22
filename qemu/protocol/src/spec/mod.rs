//! The specification's tests as a kernel gets them, and what it says of them.
//!
//! ```text
//!   FILE.wast --- host: parses, compiles ---> payload entry script/NUMBER: steps, one after another
//!                                               | Step { line: 12, Instantiate { name, module } }
//!                                               | Step { line: 15, Return { action, results } }
//!   "begin 3", "failed 15 WHY", "end" <-------- kernel: a store for each script
//! ```
//!
//! The host makes modules into code and text into bits; what is left needs no parser. Steps are written by serde, in
//! postcard's format. Assertions about modules that no engine may accept never leave the host.

extern crate alloc;

mod packed;
mod report;
mod value;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use packed::{Damaged, Packed};
pub use report::{Report, UnknownReport};
pub use value::{Expected, Float, Heap, Value};

/// The prefix of the payload's entries that are scripts. Behind it is the script's number, five digits.
pub const SCRIPTS: &str = "script/";

/// The name of the payload's entry that says which collector modules were compiled for, see [`Collector`].
pub const COLLECTOR: &str = "collector";

/// What both sides turn on besides the proposals that Wasmtime has turned on. Takes a `&mut wasmtime::Config`. A
/// macro, as each side has a Wasmtime of its own.
#[macro_export]
macro_rules! enable_proposals {
    ($config:expr) => {
        $config.wasm_custom_page_sizes(true).wasm_wide_arithmetic(true)
    };
}

/// Who looks after the objects of the GC proposal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collector {
    /// References are counted, later.
    #[default]
    Drc,
    /// Nothing is ever freed.
    Null,
    /// What lives is copied.
    Copying,
}

impl Collector {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Drc, Self::Null, Self::Copying];

    /// The collector of this name.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|collector| collector.name().as_bytes() == name)
    }

    /// Its name, as on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drc => "drc",
            Self::Null => "null",
            Self::Copying => "copying",
        }
    }
}

/// A directive and where it is in its file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Step<'a> {
    /// Its line, from 1.
    pub line: u32,
    /// What is to be done.
    #[serde(borrow)]
    pub directive: Directive<'a>,
}

/// What is to be done. Names that are not given mean the latest instance or module.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Directive<'a> {
    /// A module is there, to be instantiated by its name.
    Define {
        /// Its name.
        name: Option<&'a str>,
        /// The code.
        module: Packed<'a>,
    },
    /// A module becomes the latest instance.
    Instantiate {
        /// The instance's name, and the module's.
        name: Option<&'a str>,
        /// The code.
        module: Packed<'a>,
    },
    /// A module that was defined becomes the latest instance.
    InstantiateDefined {
        /// The instance's name.
        name: Option<&'a str>,
        /// The module's.
        module: Option<&'a str>,
    },
    /// What an instance exports can be imported from now on.
    Register {
        /// The module's name in imports.
        name: &'a str,
        /// The instance.
        instance: Option<&'a str>,
    },
    /// Something is done that has to go well.
    Do(Action<'a>),
    /// Something has these results.
    Return {
        /// What is done.
        action: Action<'a>,
        /// A value for each result.
        results: Vec<Expected>,
    },
    /// Something traps, exhaustion of the stack included.
    Trap {
        /// What is done.
        action: Action<'a>,
        /// What the trap says.
        message: &'a str,
    },
    /// Something throws an exception that nobody catches.
    Exception(Action<'a>),
    /// A module's imports are not to be had.
    Unlinkable {
        /// The code.
        module: Packed<'a>,
        /// What is said.
        message: &'a str,
    },
}

/// Something that wasm does.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Action<'a> {
    /// A function is called.
    Invoke {
        /// The instance.
        instance: Option<&'a str>,
        /// The name of its export.
        function: &'a str,
        /// A value for each parameter.
        arguments: Vec<Value>,
    },
    /// A global is read.
    Get {
        /// The instance.
        instance: Option<&'a str>,
        /// The name of its export.
        global: &'a str,
    },
    /// A module is instantiated, which is not the latest after that.
    Instantiate(Packed<'a>),
}

impl<'a> Step<'a> {
    /// Appends the step to a script.
    ///
    /// # Errors
    /// Never, as a heap takes all.
    #[cfg(any(feature = "std", test))]
    pub fn write(&self, script: &mut Vec<u8>) -> Result<(), postcard::Error> {
        script.extend_from_slice(&postcard::to_allocvec(self)?);
        Ok(())
    }

    /// The first step of a script, and the rest of it. `None` at the end.
    ///
    /// # Errors
    /// If the bytes are no step. Never panics, whatever the bytes.
    pub fn read(script: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, postcard::Error> {
        if script.is_empty() { Ok(None) } else { postcard::take_from_bytes(script).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Collector, Directive, Expected, Float, Heap, Packed, Step, Value};

    fn steps() -> Vec<Step<'static>> {
        let invoke = || Action::Invoke {
            instance: Some("M"),
            function: "f",
            arguments: vec![
                Value::I32(-1),
                Value::F64(u64::MAX),
                Value::V128(1 << 127),
                Value::Null(Heap::Any),
            ],
        };
        let either = vec![Expected::I64(i64::MIN), Expected::F32(Float::Canonical)];
        let lanes = [Float::Bits(1), Float::Arithmetic, Float::Canonical, Float::Bits(u32::MAX)];
        let module = || Packed::new(b"code\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0more");
        let directives = [
            Directive::Define { name: None, module: module() },
            Directive::Instantiate { name: Some("ü"), module: module() },
            Directive::InstantiateDefined { name: None, module: Some("M") },
            Directive::Register { name: "", instance: None },
            Directive::Do(Action::Instantiate(module())),
            Directive::Return {
                action: invoke(),
                results: vec![Expected::Either(either), Expected::F32x4(lanes)],
            },
            Directive::Trap { action: Action::Get { instance: None, global: "g" }, message: "out of bounds" },
            Directive::Exception(invoke()),
            Directive::Unlinkable { module: module(), message: "unknown import" },
        ];
        (1..).zip(directives).map(|(line, directive)| Step { line, directive }).collect()
    }

    #[test]
    fn every_step_comes_back() {
        let mut script = Vec::new();
        for step in steps() {
            step.write(&mut script).unwrap();
        }
        let mut rest = script.as_slice();
        for step in steps() {
            let (read, behind) = Step::read(rest).unwrap().unwrap();
            assert_eq!(read, step);
            rest = behind;
        }
        assert_eq!(Step::read(rest), Ok(None));
    }

    #[test]
    fn a_script_that_is_cut_off_is_an_error() {
        for step in steps() {
            let mut script = Vec::new();
            step.write(&mut script).unwrap();
            for length in 1..script.len() {
                assert!(Step::read(&script[..length]).is_err(), "{step:?} of {length} bytes");
            }
        }
    }

    #[test]
    fn collectors_have_names() {
        for collector in Collector::ALL {
            assert_eq!(Collector::parse(collector.name().as_bytes()), Some(collector));
        }
        assert_eq!(Collector::parse(b"auto"), None);
    }
}
