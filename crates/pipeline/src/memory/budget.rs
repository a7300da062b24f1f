//! What a run will need of memory, known before it begins, and how it keeps within a limit.
//!
//! The figures follow from the shapes: everything large that a stage holds at once is counted, the small things are not.

use serde::Serialize;
use slmc_calibration::statistics::{SecondMoment, VALUES_AT_ONCE};
use slmc_model::{LinearInput, ModelConfig, Role};
use slmc_quant::{Effort, Method, Rounding};

use super::ByteSize;
use crate::walker::BATCH_TOKENS;

const F32: u64 = 4;

/// Weights of the head that error feedback rounds together, from the fastest to the smallest choice.
const CHUNK_WEIGHTS: [usize; 3] = [1 << 25, 1 << 23, 1 << 21];

/// Batches of tokens, likewise.
const BATCHES: [usize; 3] = [BATCH_TOKENS, BATCH_TOKENS / 2, BATCH_TOKENS / 4];

/// Of the machine's memory, what hidden states may take before they go to a file: a quarter.
const HIDDEN_SHARE: u64 = 4;

/// What the inputs of a layer that is being rounded may take: keeping them saves a sixth of the products.
const KEPT_INPUTS: u64 = 512 << 20;

/// What reading, rounding and writing take for every thread, and the output's buffers.
const WRITING: (u64, u64) = (6 << 20, 32 << 20);

/// What is not counted: buffers of products and threads, and an eighth of the rest for what the allocator holds besides.
const UNCOUNTED: (u64, u64) = (24 << 20, 8);

/// What a job does that decides how much memory it needs.
#[derive(Clone, Copy, Debug)]
pub struct Demands {
    /// How values are chosen.
    pub method: Method,
    /// Of how many batches one runs through the float model too, where errors are fed forward; see
    /// [`Effort::follows_float_model_every`].
    pub follows: Option<usize>,
    /// Columns of the runs in which AWQ keeps products of inputs, if it does.
    pub run_len: Option<usize>,
}

impl Demands {
    /// Of a job that follows the float model as its effort says.
    pub fn new(method: Method, effort: Effort, run_len: Option<usize>) -> Self {
        Self { method, follows: effort.follows_float_model_every(), run_len }
    }
}

/// A run whose memory is asked about.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// What is done to it.
    pub demands: Demands,
    /// Calibration sequences; 0 for a method that needs none.
    pub sequences: usize,
    /// Tokens of each.
    pub seq_len: usize,
    /// Bytes that the process holds already and keeps.
    pub held: u64,
}

/// How a run uses memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Footing {
    /// Tokens that run through a block together.
    pub batch_tokens: usize,
    /// Weights of the head that error feedback rounds together.
    pub chunk_weights: usize,
    /// Whether the hidden states are kept in a file.
    pub spill: bool,
    /// What the inputs of a layer that is being rounded may take, in bytes, instead of being computed twice.
    pub kept_input_bytes: u64,
    /// Peak resident memory in bytes, estimated.
    pub peak_bytes: u64,
}

/// A limit that cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--max-memory {limit} is not enough: this run needs about {needed}, {bytes} of them for {what}; allow more, or choose a \
     method that needs less (imatrix; rtn least of all)"
)]
pub struct BudgetError {
    /// What was allowed.
    pub limit: ByteSize,
    /// What is needed at least.
    pub needed: ByteSize,
    /// The largest part of it.
    pub what: &'static str,
    /// Its size.
    pub bytes: ByteSize,
}

/// Bytes held at once, by what they are for.
type Parts = Vec<(&'static str, u64)>;

impl Workload<'_> {
    /// The fastest way that keeps within `limit`; without one, hidden states go to a file where they would take more than
    /// their share of the memory `installed`. `batch_tokens` is given where it is no longer free: on resume.
    ///
    /// # Errors
    /// No way keeps within the limit.
    pub fn footing(
        &self,
        limit: Option<u64>,
        installed: Option<u64>,
        batch_tokens: Option<usize>,
    ) -> Result<Footing, BudgetError> {
        let too_much = installed.is_some_and(|installed| self.hidden() > installed / HIDDEN_SHARE);
        let batches = match batch_tokens {
            Some(given) => vec![given],
            None => BATCHES.to_vec(),
        };
        let Some(limit) = limit else {
            return Ok(self.at(batches[0], CHUNK_WEIGHTS[0], KEPT_INPUTS, too_much));
        };
        let mut least = None;
        for batch_tokens in batches {
            let hidden = [(KEPT_INPUTS, false), (0, false), (0, true)];
            let choices = CHUNK_WEIGHTS.into_iter().flat_map(|chunk| hidden.map(|hidden| (chunk, hidden)));
            for (chunk_weights, (kept, spill)) in choices {
                let footing = self.at(batch_tokens, chunk_weights, kept, spill || too_much);
                if footing.peak_bytes <= limit {
                    return Ok(footing);
                }
                if least.is_none_or(|least: Footing| footing.peak_bytes < least.peak_bytes) {
                    least = Some(footing);
                }
            }
        }
        let least = least.expect("there are choices");
        let parts = self.peak(&least);
        let (what, bytes) = parts.into_iter().max_by_key(|(_, bytes)| *bytes).expect("there are parts");
        let [limit, needed, bytes] = [limit, least.peak_bytes, bytes].map(ByteSize);
        Err(BudgetError { limit, needed, what, bytes })
    }

    fn at(&self, batch_tokens: usize, chunk_weights: usize, kept_input_bytes: u64, spill: bool) -> Footing {
        let spill = spill && self.sequences > 0;
        let mut footing = Footing { batch_tokens, chunk_weights, spill, kept_input_bytes, peak_bytes: 0 };
        footing.peak_bytes = sum(&self.peak(&footing));
        footing
    }

    /// The stage that holds most.
    fn peak(&self, footing: &Footing) -> Parts {
        let mut stages = vec![self.writing()];
        if self.sequences > 0 {
            if self.demands.method.rescales() || self.demands.method.rounding() == Rounding::Weighted {
                stages.push(self.calibrating(footing));
            }
            if self.demands.method.rounding() == Rounding::Feedback {
                stages.extend(self.feeding_back(footing));
            }
        }
        let mut most = stages.into_iter().max_by_key(sum).expect("writing is one");
        most.push(("small things", UNCOUNTED.0 + sum(&most) / UNCOUNTED.1));
        most.push(("the program, the vocabulary and the calibration text", self.held));
        most
    }

    fn writing(&self) -> Parts {
        let (thread, buffers) = WRITING;
        vec![("rounding and writing", rayon::current_num_threads() as u64 * thread + buffers)]
    }

    /// AWQ's search and the gathering of second moments.
    fn calibrating(&self, footing: &Footing) -> Parts {
        let mut parts = self.walking(footing, None);
        // AWQ keeps the inputs of a batch, and while it searches the float weights of a group and a rounded copy of each
        let inputs = LinearInput::ALL.iter().map(|input| self.width(*input)).sum::<u64>();
        parts.push(("samples of the inputs", self.batch(footing).min(BATCH_TOKENS as u64) * inputs * F32));
        if self.demands.method.rescales() {
            let group = self.linear().map(|role| self.weights(role)).max().unwrap_or(0);
            parts.push(("AWQ's search", 4 * group * F32));
            // every block's until it is written, and sums in f64 while they are gathered
            let products = inputs * self.demands.run_len.unwrap_or(0) as u64;
            let layers = self.config.num_hidden_layers as u64;
            parts.push(("products of neighbouring inputs", products * (layers * F32 + 8)));
        }
        parts
    }

    /// Error feedback, input by input: gathering the Hessian and the drift; factoring; aiming; rounding.
    fn feeding_back(&self, footing: &Footing) -> Vec<Parts> {
        const WHAT: &str = "a Hessian and its factor";
        const KEPT: &str = "inputs of a layer";
        const F64: u64 = 8;
        let mut stages = Vec::new();
        for input in LinearInput::ALL {
            let width = self.width(input);
            let square = width.pow(2) * F32;
            let drift = match input {
                _ if self.follows().is_none() => 0,
                LinearInput::Attention | LinearInput::Mlp => width.pow(2),
                LinearInput::Output | LinearInput::Down => {
                    let plainly = input.adding().is_some_and(|role| self.config.adds_plainly(role));
                    width * if plainly { self.config.hidden_size as u64 } else { width }
                }
            };
            let mut gathering = self.walking(footing, self.follows());
            gathering.push((WHAT, SecondMoment::bytes(width)));
            gathering.push(("drift from the float model", drift * F64));
            // twice, in bfloat16
            let packed = (self.batch(footing) * width).min(VALUES_AT_ONCE as u64);
            gathering.push(("inputs packed for products", packed * 2 * 2));
            let mut factoring = self.standing(footing, self.follows());
            factoring.push((WHAT, square + SecondMoment::bytes(width).max(square)));
            factoring.push(("drift from the float model", drift * (F64 + F32)));
            let largest = input.roles(self.config).map(|role| self.weights(role)).max().unwrap_or(0);
            let mut rounding = self.standing(footing, self.follows());
            rounding.push((WHAT, 2 * square));
            rounding.push(("drift from the float model", drift * F32));
            // the weights, what they aim at and become, and a rearranged copy of each
            rounding.push(("the matrix being rounded", largest * (6 * F32 + 1)));
            gathering.push((
                KEPT,
                self.kept(footing, if input == LinearInput::Mlp { LinearInput::Output } else { input }),
            ));
            factoring.push((KEPT, self.kept(footing, input)));
            rounding.push((KEPT, self.kept(footing, input)));
            stages.extend([gathering, factoring, rounding]);
        }
        let square = (self.config.hidden_size as u64).pow(2) * F32;
        let head = (self.config.vocab_size * self.config.hidden_size) as u64;
        stages.push(vec![(WHAT, 2 * square), ("the head being rounded", self.rounding(footing, head))]);
        stages
    }

    /// Of how many batches one runs through the float model too, beside the rounded one.
    fn follows(&self) -> Option<usize> {
        match self.demands.method.rounding() {
            Rounding::Feedback => self.demands.follows,
            Rounding::Plain | Rounding::Weighted => None,
        }
    }

    /// The inputs that are kept while the layer behind them is rounded.
    fn kept(&self, footing: &Footing, input: LinearInput) -> u64 {
        let bytes = (self.sequences * self.seq_len) as u64 * self.width(input) * F32;
        let adds_to_stream = input.adding().is_some();
        if adds_to_stream && bytes <= footing.kept_input_bytes { bytes } else { 0 }
    }

    /// Read, rearranged, rounded and encoded.
    fn rounding(&self, footing: &Footing, weights: u64) -> u64 {
        weights.min(footing.chunk_weights as u64) * (3 * F32 + 1)
    }

    /// A block, the hidden states, and what a batch needs on its way.
    fn walking(&self, footing: &Footing, follows: Option<usize>) -> Parts {
        let mut parts = self.standing(footing, follows);
        let heads = self.width(LinearInput::Output);
        let keys = (self.config.num_key_value_heads * self.config.head_dim) as u64;
        let inside = (2 * heads + 4 * keys).max(self.width(LinearInput::Down));
        let width = 3 * self.width(LinearInput::Attention) + inside;
        parts.push(("a batch in a block", self.batch(footing) * width * F32));
        parts
    }

    /// A block and the hidden states.
    fn standing(&self, footing: &Footing, follows: Option<usize>) -> Parts {
        let streams = if follows.is_some() { 2 } else { 1 };
        let block = self.linear().map(|role| self.weights(role)).sum::<u64>() * F32;
        let batch = self.batch(footing) * self.width(LinearInput::Attention) * F32;
        let hidden = if footing.spill { batch * streams } else { self.hidden_of(follows) };
        vec![("one block's weights", block * streams), ("hidden states", hidden)]
    }

    fn hidden(&self) -> u64 {
        self.hidden_of(self.follows())
    }

    /// The rounded model's, and the float model's where one of so many batches follows it.
    fn hidden_of(&self, follows: Option<usize>) -> u64 {
        let states = (self.sequences * self.seq_len * self.config.hidden_size) as u64 * F32;
        states + follows.map_or(0, |every| states.div_ceil(every as u64))
    }

    /// Tokens of a batch.
    fn batch(&self, footing: &Footing) -> u64 {
        let sequences = (footing.batch_tokens / self.seq_len.max(1)).clamp(1, self.sequences.max(1));
        (sequences * self.seq_len) as u64
    }

    fn weights(&self, role: Role) -> u64 {
        self.config.shape(role).iter().map(|&extent| extent as u64).product()
    }

    fn width(&self, input: LinearInput) -> u64 {
        input.roles(self.config).next().map_or(0, |role| self.config.shape(role)[1] as u64)
    }

    /// The linear layers of a block.
    fn linear(&self) -> impl Iterator<Item = Role> {
        Role::LINEAR.into_iter().filter(move |&role| self.config.has(role))
    }
}

fn sum(parts: &Parts) -> u64 {
    parts.iter().map(|(_, bytes)| bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model_file::ModelFile;

    const HELD: u64 = 50 << 20;

    fn config() -> ModelConfig {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
        ModelFile::open(&path).unwrap().source().unwrap().config().clone()
    }

    fn workload(config: &ModelConfig, method: Method, sequences: usize) -> Workload<'_> {
        let demands = Demands::new(method, Effort::Fast, None);
        Workload { config, demands, sequences, seq_len: 512, held: HELD }
    }

    #[test]
    fn the_hidden_states_go_to_a_file_before_anything_gets_slower() {
        // at one thread, as every thread counts
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        one.install(spill_first);
    }

    fn spill_first() {
        // wide enough for a batch to count
        let config = ModelConfig { intermediate_size: 2048, ..config() };
        let workload = workload(&config, Method::Gptq, 4096);
        let hidden = 4096 * 512 * config.hidden_size as u64 * F32;
        let free = workload.footing(None, Some(hidden * 5), None).unwrap();
        assert!(!free.spill && free.peak_bytes > hidden + HELD && free.peak_bytes < hidden * 2);
        assert_eq!(workload.footing(Some(free.peak_bytes), None, None), Ok(free));
        // a quarter of the machine's memory is enough for them, and not more
        assert!(workload.footing(None, Some(hidden * 3), None).unwrap().spill);
        let tight = workload.footing(Some(free.peak_bytes - 1), None, None).unwrap();
        assert!(tight.spill && tight.peak_bytes < free.peak_bytes - hidden / 2);
        assert_eq!((tight.batch_tokens, tight.chunk_weights), (free.batch_tokens, free.chunk_weights));
        let small = workload.footing(Some(tight.peak_bytes - 1), None, None).unwrap();
        assert!(small.batch_tokens < free.batch_tokens && small.spill);
        // what an earlier run fixed stays
        let resumed = workload.footing(Some(free.peak_bytes), None, Some(small.batch_tokens)).unwrap();
        assert_eq!(resumed.batch_tokens, small.batch_tokens);
    }

    #[test]
    fn a_limit_that_cannot_be_kept_names_what_takes_most() {
        let config = config();
        let error = workload(&config, Method::AwqGptq, 64).footing(Some(HELD), None, None).unwrap_err();
        assert!(error.needed.0 > HELD && error.bytes.0 == HELD, "{error}");
        assert!(error.to_string().contains("--max-memory 50.00 MiB is not enough"), "{error}");
        let plain = workload(&config, Method::Rtn, 0).footing(None, None, None).unwrap();
        let awq = workload(&config, Method::Awq, 64).footing(None, None, None).unwrap();
        assert!(plain.peak_bytes < awq.peak_bytes && !plain.spill);
        // a second stream, and a second copy of the block
        let fast = workload(&config, Method::Gptq, 64);
        let best = Workload { demands: Demands { follows: Some(1), ..fast.demands }, ..fast.clone() };
        let [fast, best] = [fast, best].map(|run| run.footing(None, None, None).unwrap().peak_bytes);
        assert!(best > fast + 64 * 512 * config.hidden_size as u64 * F32, "{best} {fast}");
    }
}
