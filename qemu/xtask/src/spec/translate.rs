//! From a file's text to a script: what needs a machine becomes steps, what does not is settled here.
//!
//! ```text
//!   (module ..)  (register ..)  (assert_return ..)  ---> steps, with compiled modules
//!   (assert_invalid ..)  (assert_malformed ..) -------> compiled here: refused, as it must be, or not
//!   what cannot be parsed or compiled ----------------> a failure, known before any machine starts
//! ```

use anyhow::{Context, Result, anyhow, bail};
use protocol::spec::{Action, Directive, Expected, Packed, Step, Value};
use wast::lexer::Lexer;
use wast::parser::{self, ParseBuffer};
use wast::token::Span;
use wast::{QuoteWat, Wast, WastDirective, WastExecute, WastInvoke, Wat};

use super::compiler::Compiler;
use super::values;
use crate::error::Refusal;

/// What became of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    /// The steps, for a machine.
    pub(super) script: Vec<u8>,
    /// The lines of the assertions among all that needs a machine.
    pub(super) assertions: Vec<u32>,
    /// The lines of the assertions that are settled here.
    pub(super) settled: Vec<u32>,
    /// Those of them that do not hold, and why.
    pub(super) unsettled: Vec<(u32, String)>,
    /// The lines of what should have become a step and cannot, and why.
    pub(super) refused: Vec<(u32, String)>,
}

/// Prepares the file called `name`.
///
/// # Errors
/// A [`Refusal`] with the place if `text` is no script.
pub(super) fn prepare(name: &str, text: &str, compiler: &Compiler) -> Result<Prepared> {
    let lines = Lines::of(text);
    let refusal =
        |error: wast::Error| Refusal(format!("{name}:{}: {}", lines.line(error.span()), error.message()));
    let mut lexer = Lexer::new(text);
    // Names of every kind are among what is tested.
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).map_err(refusal)?;
    let file = parser::parse::<Wast<'_>>(&buffer).map_err(refusal)?;
    let mut translator = Translator { compiler, prepared: Prepared::default() };
    for directive in file.directives {
        translator.directive(lines.line(directive.span()), directive)?;
    }
    Ok(translator.prepared)
}

struct Translator<'a> {
    compiler: &'a Compiler,
    prepared: Prepared,
}

impl Translator<'_> {
    fn directive(&mut self, line: u32, directive: WastDirective<'_>) -> Result<()> {
        match directive {
            WastDirective::AssertMalformed { mut module, .. }
            | WastDirective::AssertInvalid { mut module, .. }
            | WastDirective::AssertMalformedCustom { mut module, .. }
            | WastDirective::AssertInvalidCustom { mut module, .. } => self.settle(line, &mut module),
            needs_machine => {
                if is_assertion(&needs_machine) {
                    self.prepared.assertions.push(line);
                }
                if let Err(why) = self.step(line, needs_machine) {
                    self.prepared.refused.push((line, format!("{why:#}")));
                }
            }
        }
        Ok(())
    }

    /// Makes sure that nobody takes a module that nobody may take.
    fn settle(&mut self, line: u32, module: &mut QuoteWat<'_>) {
        self.prepared.settled.push(line);
        let taken =
            module.encode().map_err(anyhow::Error::from).and_then(|wasm| self.compiler.compile(&wasm));
        if taken.is_ok() {
            let why = "expected to be refused, was compiled".to_owned();
            self.prepared.unsettled.push((line, why));
        }
    }

    fn step(&mut self, line: u32, directive: WastDirective<'_>) -> Result<()> {
        match directive {
            WastDirective::Module(mut module) => {
                let name = module.name().map(|id| id.name());
                let code = self.code(&mut module)?;
                self.write(line, Directive::Instantiate { name, module: Packed::new(&code) })
            }
            WastDirective::ModuleDefinition(mut module) => {
                let name = module.name().map(|id| id.name());
                let code = self.code(&mut module)?;
                self.write(line, Directive::Define { name, module: Packed::new(&code) })
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                let (name, module) = (instance.map(|id| id.name()), module.map(|id| id.name()));
                self.write(line, Directive::InstantiateDefined { name, module })
            }
            WastDirective::Register { name, module, .. } => {
                self.write(line, Directive::Register { name, instance: module.map(|id| id.name()) })
            }
            WastDirective::Invoke(invoke) => self.write(line, Directive::Do(call(&invoke)?)),
            WastDirective::AssertReturn { exec, results, .. } => {
                let results = results.iter().map(values::expected).collect::<Result<Vec<Expected>>>()?;
                self.action(exec, |this, action| this.write(line, Directive::Return { action, results }))
            }
            WastDirective::AssertTrap { exec, message, .. } => {
                self.action(exec, |this, action| this.write(line, Directive::Trap { action, message }))
            }
            WastDirective::AssertExhaustion { call: invoke, message, .. } => {
                self.write(line, Directive::Trap { action: call(&invoke)?, message })
            }
            WastDirective::AssertException { exec, .. } => {
                self.action(exec, |this, action| this.write(line, Directive::Exception(action)))
            }
            WastDirective::AssertUnlinkable { module, message, .. } => {
                let code = self.code(&mut QuoteWat::Wat(module))?;
                self.write(line, Directive::Unlinkable { module: Packed::new(&code), message })
            }
            WastDirective::AssertSuspension { .. } => bail!("there are no continuations"),
            WastDirective::Thread(_) | WastDirective::Wait { .. } => bail!("there are no threads"),
            WastDirective::AssertMalformed { .. }
            | WastDirective::AssertInvalid { .. }
            | WastDirective::AssertMalformedCustom { .. }
            | WastDirective::AssertInvalidCustom { .. } => bail!("needs no machine"),
        }
    }

    fn action(
        &mut self,
        execute: WastExecute<'_>,
        then: impl FnOnce(&mut Self, Action<'_>) -> Result<()>,
    ) -> Result<()> {
        match execute {
            WastExecute::Invoke(invoke) => then(self, call(&invoke)?),
            WastExecute::Get { module, global, .. } => {
                then(self, Action::Get { instance: module.map(|id| id.name()), global })
            }
            WastExecute::Wat(module) => {
                let code = self.code(&mut QuoteWat::Wat(module))?;
                then(self, Action::Instantiate(Packed::new(&code)))
            }
        }
    }

    fn code(&self, module: &mut QuoteWat<'_>) -> Result<Vec<u8>> {
        if matches!(module, QuoteWat::Wat(Wat::Component(_)) | QuoteWat::QuoteComponent(..)) {
            bail!("is a component; only core modules run here");
        }
        let wasm = module.encode().map_err(|error| anyhow!("{}", error.message()))?;
        self.compiler.compile(&wasm)
    }

    fn write(&mut self, line: u32, directive: Directive<'_>) -> Result<()> {
        Step { line, directive }.write(&mut self.prepared.script).context("a step cannot be written")
    }
}

fn call<'a>(invoke: &WastInvoke<'a>) -> Result<Action<'a>> {
    let arguments = invoke.args.iter().map(values::argument).collect::<Result<Vec<Value>>>()?;
    Ok(Action::Invoke { instance: invoke.module.map(|id| id.name()), function: invoke.name, arguments })
}

fn is_assertion(directive: &WastDirective<'_>) -> bool {
    !matches!(
        directive,
        WastDirective::Module(_)
            | WastDirective::ModuleDefinition(_)
            | WastDirective::ModuleInstance { .. }
            | WastDirective::Register { .. }
            | WastDirective::Invoke(_)
            | WastDirective::Thread(_)
            | WastDirective::Wait { .. }
    )
}

/// Where lines begin: counting them anew for each directive would take longer than all else.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(offset, _)| offset).collect())
    }

    /// The line of a place, from 1.
    fn line(&self, span: Span) -> u32 {
        let before = self.0.partition_point(|end| *end < span.offset());
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::prepare;
    use crate::arch::Arch;
    use crate::spec::compiler::Compiler;
    use protocol::spec::{Collector, Directive, Expected, Step};

    fn compiler() -> Compiler {
        Compiler::new(Arch::X86_64, Collector::Drc).unwrap()
    }

    #[test]
    fn a_file_becomes_steps_and_what_needs_no_machine_is_settled() {
        let text = "(module $m (func (export \"f\") (result i32) i32.const 7))\n\
             (assert_return (invoke $m \"f\") (i32.const 7))\n\n\
             (assert_invalid (module (func (result i32))) \"type mismatch\")\n\
             (assert_malformed (module quote \"(func\") \"end\")\n\
             (assert_invalid (module) \"nothing is wrong with it\")";
        let prepared = prepare("a.wast", text, &compiler()).unwrap();
        assert_eq!((prepared.assertions, prepared.settled), (vec![2], vec![4, 5, 6]));
        let [(6, _)] = prepared.unsettled.as_slice() else { panic!("{:?}", prepared.unsettled) };
        let (first, rest) = Step::read(&prepared.script).unwrap().unwrap();
        assert!(matches!(first.directive, Directive::Instantiate { name: Some("m"), .. }));
        let (second, rest) = Step::read(rest).unwrap().unwrap();
        assert_eq!(second.line, 2);
        let Directive::Return { results, .. } = second.directive else { panic!("{second:?}") };
        assert_eq!(results, [Expected::I32(7)]);
        assert!(rest.is_empty());
    }

    #[test]
    fn what_cannot_be_compiled_is_a_failure_of_its_line() {
        let text = "\n(module (memory 1 2 shared))\n(module)";
        let prepared = prepare("a.wast", text, &compiler()).unwrap();
        let [(2, why)] = prepared.refused.as_slice() else { panic!("{:?}", prepared.refused) };
        assert!(why.contains("shared"), "{why}");
    }

    #[test]
    fn what_is_no_script_is_refused_with_its_line() {
        let error = prepare("a.wast", "(module)\n(assert_nothing)", &compiler()).unwrap_err();
        assert!(error.to_string().starts_with("a.wast:2: "), "{error}");
    }
}
