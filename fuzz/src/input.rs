//! What the bytes of a fuzzer mean.

use allotment::FaultAccess;
use arbitrary::{Arbitrary, Result, Unstructured};

use crate::{memories::OnMemories, others::OnOthers, regions::OnRegions, setup::Setup};

/// The most steps of one sequence: beyond, the fuzzer's time is better spent on
/// another one.
const MOST_STEPS: usize = 300;

/// A machine with an allocator, and what is done with it.
#[derive(Clone, Debug)]
pub struct Input {
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
}

/// One operation.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Step {
    /// The CPU on which it is made.
    pub(crate) cpu: u8,
    /// Leave only so many frames for it.
    pub(crate) leave: Option<u8>,
    pub(crate) operation: Operation,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Memories(OnMemories),
    Others(OnOthers),
    Regions(OnRegions),
    /// Ask what a fault means, anywhere.
    Ask(Anywhere, Access),
    /// Look at every tenant, and at the machine.
    Inspect,
}

impl<'a> Arbitrary<'a> for Operation {
    /// What changes something more often than what asks.
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.int_in_range(0..=19)? {
            0..=8 => Self::Memories(bytes.arbitrary()?),
            9..=12 => Self::Others(bytes.arbitrary()?),
            13..=16 => Self::Regions(bytes.arbitrary()?),
            17 | 18 => Self::Ask(bytes.arbitrary()?, bytes.arbitrary()?),
            _ => Self::Inspect,
        })
    }
}

/// An address.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Anywhere {
    InWindow(u64),
    Wild(u64),
}

/// [`FaultAccess`], as the fuzzer chooses it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Access {
    Read,
    Write,
    Execute,
}

impl From<Access> for FaultAccess {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
            Access::Execute => Self::Execute,
        }
    }
}

impl<'a> Arbitrary<'a> for Input {
    /// Unlike a derived one, it goes on as long as there are bytes: random ones
    /// are long sequences.
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let setup = Setup::arbitrary(bytes)?;
        let mut steps = Vec::new();
        while !bytes.is_empty() && steps.len() < MOST_STEPS {
            steps.push(Step::arbitrary(bytes)?);
        }
        Ok(Self { setup, steps })
    }
}
