//! The heads of one or two models over the vocabulary, a slice at a time.

use std::ops::Range;

use slmc_model::WeightSource;
use slmc_model::host::HostView;

use crate::accumulate::{Accumulator, NonFiniteLogit};
use crate::evaluate::EvaluateError;
use crate::group::{FinalStates, Group, Step};
use crate::kept::BasePredictions;
use crate::plan::head_work;
use crate::scores::{Scores, Side};

/// A model that has read a group.
pub(crate) struct Reader<'a> {
    pub side: Side,
    pub source: &'a dyn WeightSource,
    pub states: FinalStates,
}

/// Scores a group's windows over the first `vocab_size` entries of the vocabulary, from the final states of the evaluated model,
/// the last of `readers`, and of the base model if it comes before it or `kept` stands in its place. `None` if `step` wants no more.
///
/// # Errors
/// A head or what was kept cannot be read; logits that are not finite.
pub(crate) fn score(
    group: &Group<'_>,
    readers: &[Reader<'_>],
    kept: Option<BasePredictions<'_>>,
    vocab_size: usize,
    step: &mut Step<'_>,
) -> Result<Option<Scores>, EvaluateError> {
    let start = |chunk: &Range<usize>| {
        let targets = group.targets(chunk.clone());
        Ok(match kept {
            Some(BasePredictions::TopK(source)) => {
                let kept = source.read(chunk.clone()).map_err(EvaluateError::Kept)?;
                Accumulator::against_top_k(targets, kept)
            }
            Some(BasePredictions::Llama(_)) => Accumulator::against_log_probs(targets),
            None if readers.len() == 2 => Accumulator::pair(targets),
            None => Accumulator::single(targets),
        })
    };
    let mut accumulators = group.chunks.iter().map(start).collect::<Result<Vec<_>, EvaluateError>>()?;

    for first in (0..vocab_size).step_by(group.head_rows) {
        let rows = first..(first + group.head_rows).min(vocab_size);
        let load = |reader: &Reader<'_>| {
            let rows = reader.states.head.load_rows(reader.source, rows.clone());
            // Nothing of the head is read twice in a group: mapped pages need not stay.
            reader.source.release(reader.source.config().head());
            rows.map_err(EvaluateError::model(reader.side))
        };
        let slices = readers.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        for (chunk, accumulator) in accumulators.iter_mut().enumerate() {
            let mut logits = Vec::with_capacity(2);
            for (reader, slice) in readers.iter().zip(&slices) {
                let states = &reader.states.chunks[chunk];
                let [scored, _] = states.dims();
                logits.push(HostView::of(&slice.logits(states)));
                if step(head_work(reader.source.config(), rows.len()) * scored as f64).is_break() {
                    return Ok(None);
                }
            }
            let log_probs = match kept {
                Some(BasePredictions::Llama(file)) => {
                    let read = file.read(group.chunks[chunk].clone(), rows.clone());
                    Some(read.map_err(|error| EvaluateError::Kept(error.into()))?)
                }
                _ => None,
            };
            let (model, base) = logits.split_last().expect("the evaluated model's");
            let base = base.first().map(|base| &base[..]).or(log_probs.as_deref());
            let added = accumulator.add(rows.len(), base, model);
            added.map_err(|error| locate(group, chunk, error))?;
        }
    }
    let mut scores = Scores::default();
    accumulators.into_iter().for_each(|accumulator| scores.append(accumulator.finish()));
    Ok(Some(scores))
}

/// The window and position of a logit that is not finite.
fn locate(group: &Group<'_>, chunk: usize, error: NonFiniteLogit) -> EvaluateError {
    let first = group.chunks[chunk].start;
    let scored = &group.windows.all()[first].scored;
    EvaluateError::NonFiniteLogits {
        side: error.side,
        window: first + error.token / scored.len(),
        position: scored.start + error.token % scored.len(),
        first_entry: error.first_entry,
    }
}
