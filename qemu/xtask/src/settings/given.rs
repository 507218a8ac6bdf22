//! All settings of a command line, and whom they concern.

use clap::Args;
use protocol::{options, settings::Settings};
use wasmtime::Config;

use super::parse::Word;
use super::{Codegen, Debug, Group, Optimize, Place, Tool, Wasm, Words, wasm};

/// Settings by Wasmtime's names.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings, by Wasmtime's names (`help` lists them)")]
pub(crate) struct Given {
    /// What WebAssembly may do: proposals, fuel, stacks, time.
    #[arg(short = 'W', long, value_name = "KEY[=VAL],..")]
    wasm: Vec<Wasm>,

    /// Memories, pools and the optimizer.
    #[arg(short = 'O', long, value_name = "KEY[=VAL],..")]
    optimize: Vec<Optimize>,

    /// Code generation.
    #[arg(short = 'C', long, value_name = "KEY[=VAL],..")]
    codegen: Vec<Codegen>,

    /// Backtraces and debug information.
    #[arg(short = 'D', long, value_name = "KEY[=VAL],..")]
    debug: Vec<Debug>,
}

impl Given {
    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups().next().is_none()
    }

    /// The same with checks of the epoch compiled in, if somebody wants them who is no setting.
    pub(crate) fn with_epochs(mut self, wanted: bool) -> Self {
        let checks = || Words::parse(Group::Wasm, "epoch-interruption").ok().map(Wasm);
        self.wasm.extend(wanted.then(checks).flatten());
        self
    }

    /// Sets the compiler up.
    pub(crate) fn configure(&self, config: &mut Config) {
        if let Some(all) = self.last(Tool::AllProposals) {
            for proposal in wasm::PROPOSALS {
                config.wasm_features(proposal.feature, all != 0);
            }
        }
        for word in self.words() {
            if let Place::Compiler(apply) | Place::Both(_, apply) = word.setting.place {
                apply(config, word.value);
            }
        }
        if self.told().get(protocol::settings::Key::Timeout).is_some() {
            config.epoch_interruption(true);
        }
        for (flag, value) in self.groups().flat_map(|words| &words.flags) {
            match value {
                // SAFETY: the flags are the user's, who is told so; the kernel refuses those that change how code is called.
                Some(value) => unsafe { config.cranelift_flag_set(flag, value) },
                // SAFETY: as above.
                None => unsafe { config.cranelift_flag_enable(flag) },
            };
        }
    }

    /// What the kernel must know.
    pub(crate) fn told(&self) -> Settings {
        let mut settings = Settings::default();
        for word in self.words() {
            if let Place::Kernel(key) | Place::Both(key, _) = word.setting.place {
                settings.set(key, word.value);
            }
        }
        settings
    }

    /// Where memories come from, if that was said.
    pub(crate) fn strategy(&self) -> Option<options::Strategy> {
        let pooling = self.last(Tool::Strategy)? != 0;
        Some(if pooling { options::Strategy::Pooling } else { options::Strategy::OnDemand })
    }

    /// Whether compiled modules are kept, and taken from there.
    pub(crate) fn keeps_compiled(&self) -> bool {
        self.last(Tool::Cache) != Some(0)
    }

    fn last(&self, tool: Tool) -> Option<u64> {
        let is_it = |word: &&Word| matches!(word.setting.place, Place::Tool(found) if found == tool);
        self.words().filter(is_it).last().map(|word| word.value)
    }

    fn words(&self) -> impl Iterator<Item = &Word> {
        self.groups().flat_map(|words| &words.words)
    }

    fn groups(&self) -> impl Iterator<Item = &Words> {
        let Self { wasm, optimize, codegen, debug } = self;
        let wasm = wasm.iter().map(|group| &group.0);
        let optimize = optimize.iter().map(|group| &group.0);
        let codegen = codegen.iter().map(|group| &group.0);
        wasm.chain(optimize).chain(codegen).chain(debug.iter().map(|group| &group.0))
    }
}

/// For tests: what would stand on a command line.
#[cfg(test)]
impl Given {
    pub(crate) fn of(words: &[(Group, &str)]) -> Self {
        let mut given = Self::default();
        for (group, text) in words {
            let words = Words::parse(*group, text).unwrap();
            match group {
                Group::Wasm => given.wasm.push(Wasm(words)),
                Group::Optimize => given.optimize.push(Optimize(words)),
                Group::Codegen => given.codegen.push(Codegen(words)),
                Group::Debug => given.debug.push(Debug(words)),
            }
        }
        given
    }
}
