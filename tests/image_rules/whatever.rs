//! Whatever segments there are, beside a model that writes them all into arrays.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use allotment::{
    MemorySummary,
    image::{ImageRules, NoImage, Segment},
};

use crate::{
    memory_of,
    random::{Random, Rounds, for_each_seed},
};

/// Memories of pages that are as large as those of images, or smaller.
const PAGE_LOG2: [u8; 4] = [12, 12, 13, 11];

pub(crate) fn planned() {
    let rounds = Rounds { host: 5_000, host_full: 500_000, bare: 500 };
    let (mut made, mut refused) = (0, [0; 3]);
    for_each_seed(rounds, |seed| match plan_one(&mut Random::new(seed)) {
        None => made += 1,
        Some(NoImage::OutOfBounds { .. }) => refused[0] += 1,
        Some(NoImage::SmallPages { .. }) => refused[1] += 1,
        Some(NoImage::Sparse { .. }) => refused[2] += 1,
        Some(other) => panic!("{other}, seed {seed}"),
    });
    // Unless there was one seed only, of each kind enough.
    let all = made + refused.iter().sum::<u64>();
    let enough = all / 50;
    assert!(all == 1 || made > enough && refused.iter().all(|&some| some > enough), "{made}, {refused:?}");
}

/// Why there is no image, if there is none: the model agrees.
fn plan_one(random: &mut Random) -> Option<NoImage> {
    let memories: Vec<_> =
        (0..=random.below(3)).map(|_| memory_of(random.below(5) as u64, random.pick(&PAGE_LOG2))).collect();
    let data: Vec<u8> = (0..3000).map(|_| if random.percent(2) { random.byte() } else { 0 }).collect();
    let segments: Vec<_> = (0..random.below(6)).map(|_| segment(random, &memories, &data)).collect();
    let dense = random.pick(&[0, 1, 4096, 6000, 16 << 20]);
    let rules = ImageRules::X86_64.guaranteed_dense_image_size(dense);

    let expected = Model::new(&memories, &segments).filter(|model| model.is_allowed(&memories, dense));
    let plan = match rules.plan(&memories, segments.iter().copied()) {
        Ok(plan) => plan,
        Err(reason) => {
            assert!(expected.is_none(), "{reason}: {memories:?}, {segments:?}");
            return Some(reason);
        }
    };
    let model = expected.unwrap_or_else(|| panic!("planned: {memories:?}, {segments:?}"));
    for (number, memory) in (0..).zip(&model.memories) {
        let set = |range: Range<usize>| memory.set[range].contains(&true);
        let (mut first, mut end) = (0, memory.bytes.len());
        match plan.extent(number) {
            Some(extent) => {
                (first, end) = (extent.offset, extent.offset + extent.len);
                assert!(first % 4096 == 0 && end % 4096 == 0 && end <= memory.bytes.len());
                // All that is set, and no page too many at either end.
                assert!(!set(0..first) && !set(end..memory.bytes.len()), "{extent:?}: {segments:?}");
                assert!(set(first..first + 4096) && set(end - 4096..end), "{extent:?}: {segments:?}");
            }
            None => assert!(!set(first..end), "{segments:?}"),
        }
        let mut bytes = vec![0xff; end - first];
        plan.fill(number, first, &mut bytes);
        assert!(bytes == memory.bytes[first..end], "{segments:?}");
        let from = random.below(memory.bytes.len() + 1);
        let mut part = vec![0xff; random.below(memory.bytes.len() - from + 1)];
        plan.fill(number, from, &mut part);
        assert!(part == memory.bytes[from..][..part.len()], "{segments:?}");
    }
    None
}

/// Seldom out of bounds, sometimes without bytes or with zeros only.
fn segment<'d>(random: &mut Random, memories: &[MemorySummary], data: &'d [u8]) -> Segment<'d> {
    let memory = random.below(memories.len());
    let size = bytes_of(&memories[memory]);
    let from = random.below(data.len());
    let len = if random.percent(20) { random.below(3) } else { random.below(data.len() - from) };
    let len = len.min(size);
    // At the end, or just beyond it.
    let offset = if random.percent(6) { size - len + random.below(3) } else { random.below(size - len + 1) };
    let offset = offset as u64;
    Segment { memory: u32::try_from(memory).unwrap(), offset, bytes: &data[from..][..len] }
}

fn bytes_of(memory: &MemorySummary) -> usize {
    usize::try_from(memory.minimum_pages).unwrap() << memory.page_size_log2
}

/// Memories of which each byte is written.
struct Model {
    memories: Vec<Written>,
}

/// Bytes of a memory, of each whether a segment wrote something to it and whether
/// one set it, and the bytes of all segments together.
struct Written {
    bytes: Vec<u8>,
    touched: Vec<bool>,
    set: Vec<bool>,
    data: usize,
}

impl Model {
    /// `None` if a segment does not fit.
    fn new(memories: &[MemorySummary], segments: &[Segment<'_>]) -> Option<Self> {
        let empty = |memory| {
            let size = bytes_of(memory);
            Written { bytes: vec![0; size], touched: vec![false; size], set: vec![false; size], data: 0 }
        };
        let mut memories: Vec<_> = memories.iter().map(empty).collect();
        for segment in segments {
            let memory = &mut memories[segment.memory as usize];
            let from = usize::try_from(segment.offset).unwrap();
            memory.bytes.get(from..from + segment.bytes.len())?;
            for (at, &byte) in (from..).zip(segment.bytes) {
                memory.bytes[at] = byte;
                memory.touched[at] = true;
                memory.set[at] |= byte != 0;
            }
            memory.data += segment.bytes.len();
        }
        Some(Self { memories })
    }

    /// Large pages, and data that lies together.
    fn is_allowed(&self, summaries: &[MemorySummary], dense: usize) -> bool {
        self.memories.iter().zip(summaries).all(|(memory, summary)| {
            let Some(first) = memory.touched.iter().position(|&touched| touched) else { return true };
            let last = memory.touched.iter().rposition(|&touched| touched).unwrap();
            let span = last + 1 - first;
            summary.page_size_log2 >= 12 && (span < 2 * memory.data || span < dense)
        })
    }
}
