//! Pairs as sequences, sequences of about the same length as chunks, and as many chunks as memory allows as groups.

use slmc_model::ModelConfig;

use super::{LikelihoodError, Pair};
use crate::plan::{Plan, block_work, bytes_inside};

/// Most tokens of a group. It is answered as a whole, so whoever stops loses no more than this; more would hardly be faster, as
/// reading the weights takes little beside that many tokens.
const GROUP_TOKENS: usize = 16 << 10;

/// The work, in the order it is done. It depends on the pairs, the model and the memory, never on the number of threads.
pub(super) struct Batches {
    chunks: Vec<Chunk>,
    /// The first chunk of every group, and behind the last.
    bounds: Vec<usize>,
}

/// Sequences that go through a block in one call.
pub(super) struct Chunk {
    /// Tokens of the longest, to which all are padded.
    pub length: usize,
    /// `[sequences, length]`.
    pub inputs: Vec<u32>,
    /// What is scored.
    pub rows: Vec<Row>,
}

/// A token that is scored.
pub(super) struct Row {
    /// Where it is predicted, as an index into the chunk's inputs.
    pub position: usize,
    /// The token.
    pub target: u32,
    /// Index of the pair it belongs to.
    pub pair: usize,
}

impl Batches {
    pub fn new(pairs: &[Pair], config: &ModelConfig, memory_budget: usize) -> Result<Self, LikelihoodError> {
        let longest = config.max_position_embeddings;
        let mut sequences = Vec::with_capacity(pairs.len());
        for (pair, tokens) in pairs.iter().enumerate() {
            sequences.push((input(pair, tokens, longest)?, pair));
        }
        // the longest first, so that what is too much for memory shows early; alike ones side by side
        sequences.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));

        let per_token = bytes_inside(config).max(1);
        let hidden_bytes = config.hidden_size * size_of::<f32>();
        let mut batches = Self { chunks: Vec::new(), bounds: vec![0] };
        let (mut group_bytes, mut group_tokens) = (0, 0);
        let mut rest = &sequences[..];
        while let Some((first, _)) = rest.first() {
            let length = first.len();
            let tokens = Plan::CHUNK_TOKENS.min(memory_budget / 4 / per_token);
            let (chunk, taken) = Chunk::of(rest, pairs, length, (tokens / length).max(1));
            rest = &rest[taken..];
            // what goes through the blocks, and what is left of it for the head, twice
            let bytes = (chunk.inputs.len() + 2 * chunk.rows.len()) * hidden_bytes;
            let full =
                group_bytes + bytes > memory_budget / 2 || group_tokens + chunk.inputs.len() > GROUP_TOKENS;
            if group_bytes > 0 && full {
                batches.bounds.push(batches.chunks.len());
                (group_bytes, group_tokens) = (0, 0);
            }
            group_bytes += bytes;
            group_tokens += chunk.inputs.len();
            batches.chunks.push(chunk);
        }
        batches.bounds.push(batches.chunks.len());
        Ok(batches)
    }

    /// Chunks that go through the model together.
    pub fn groups(&self) -> impl Iterator<Item = &[Chunk]> {
        self.bounds
            .windows(2)
            .map(|bounds| &self.chunks[bounds[0]..bounds[1]])
            .filter(|group| !group.is_empty())
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.chunks.first().map_or(1, |chunk| chunk.length)
    }

    /// Multiply-adds of all blocks.
    pub fn work(&self, config: &ModelConfig) -> f64 {
        let once: f64 = self.chunks.iter().map(|chunk| chunk.work(config)).sum();
        once * config.num_hidden_layers as f64
    }
}

impl Chunk {
    /// At most `count` different sequences from the front of `sorted`, and how many entries of it they took.
    fn of(sorted: &[(Vec<u32>, usize)], pairs: &[Pair], length: usize, count: usize) -> (Self, usize) {
        let mut chunk = Self { length, inputs: Vec::new(), rows: Vec::new() };
        let (mut sequences, mut taken) = (0, 0);
        let mut last: Option<&[u32]> = None;
        for (input, pair) in sorted {
            if last != Some(input) {
                if sequences == count {
                    break;
                }
                sequences += 1;
                chunk.inputs.extend_from_slice(input);
                // any token will do: nothing before it sees it
                chunk.inputs.resize(sequences * length, input[0]);
                last = Some(input);
            }
            let targets = &pairs[*pair].continuation;
            let first = (sequences - 1) * length + input.len() - targets.len();
            let row = |(at, &target)| Row { position: first + at, target, pair: *pair };
            chunk.rows.extend(targets.iter().enumerate().map(row));
            taken += 1;
        }
        (chunk, taken)
    }

    /// Multiply-adds of one block.
    pub fn work(&self, config: &ModelConfig) -> f64 {
        block_work(config) * self.inputs.len() as f64
    }
}

/// What the model reads of a pair.
fn input(pair: usize, tokens: &Pair, longest: usize) -> Result<Vec<u32>, LikelihoodError> {
    let Pair { context, continuation } = tokens;
    if context.is_empty() || continuation.is_empty() {
        return Err(LikelihoodError::Empty { pair });
    }
    if continuation.len() > longest {
        return Err(LikelihoodError::TooLong { pair, tokens: continuation.len(), longest });
    }
    let read = context.len() + continuation.len() - 1;
    let all = context.iter().chain(continuation);
    Ok(all.copied().take(read).skip(read.saturating_sub(longest)).collect())
}

/// Vocabulary entries in one slice of the head.
pub(super) fn head_rows(hidden_size: usize) -> usize {
    let steps = Plan::HEAD_BYTES / (hidden_size * size_of::<f32>()) / Plan::HEAD_STEP;
    steps.clamp(1, 32) * Plan::HEAD_STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_on_the_left_and_the_last_token_is_not_read() {
        let pair = |context: &[u32], continuation: &[u32]| Pair {
            context: context.to_vec(),
            continuation: continuation.to_vec(),
        };
        assert_eq!(input(0, &pair(&[1, 2, 3], &[4, 5]), 4).unwrap(), [1, 2, 3, 4]);
        assert_eq!(input(0, &pair(&[1, 2, 3], &[4, 5]), 3).unwrap(), [2, 3, 4]);
        assert_eq!(input(0, &pair(&[1], &[4, 5]), 2).unwrap(), [1, 4]);
        assert!(matches!(input(7, &pair(&[], &[4]), 9), Err(LikelihoodError::Empty { pair: 7 })));
        assert!(matches!(
            input(7, &pair(&[1], &[4, 5, 6]), 2),
            Err(LikelihoodError::TooLong { pair: 7, .. })
        ));
    }

    #[test]
    fn alike_sequences_are_read_once() {
        let pairs: Vec<_> = [[1, 2, 9], [1, 2, 8], [3, 2, 8]]
            .iter()
            .map(|[a, b, c]| Pair { context: vec![*a, *b], continuation: vec![*c] })
            .collect();
        let sorted: Vec<_> = [(vec![1, 2], 0), (vec![1, 2], 1), (vec![3, 2], 2)].into();
        let (chunk, taken) = Chunk::of(&sorted, &pairs, 2, 2);
        assert_eq!((chunk.inputs, taken), (vec![1, 2, 3, 2], 3));
        let rows: Vec<_> = chunk.rows.iter().map(|row| (row.position, row.target, row.pair)).collect();
        assert_eq!(rows, [(1, 9, 0), (1, 8, 1), (3, 8, 2)]);
    }
}
