//! Why a job failed.

use std::path::PathBuf;

use slmc_quant::QuantError;

/// A job that failed. Messages name the file and the thing.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The model is neither a checkpoint directory nor a GGUF file.
    #[error("{path}: {reason}")]
    NoModel {
        /// What was given.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// A gate's baseline cannot be read or written.
    #[error("{path}: {reason}")]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A prompt that cannot be continued.
    #[error("{path}: {reason}")]
    Prompt {
        /// The model.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// llama.cpp is asked for, but not built in.
    #[error(
        "this slmc was built without llama.cpp: `cargo install --path cli --features llama-cpp` builds it in (needs cmake and \
         libclang)"
    )]
    NoLlamaCpp,
    /// llama.cpp is asked to run something else than GGUF.
    #[error(
        "{path}: llama.cpp reads GGUF files only; `slmc convert {path} --dtype f16` makes one of a checkpoint", path = path.display()
    )]
    NotGguf {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A model does not run where it is timed.
    #[error("{message}")]
    Engine {
        /// What is wrong with which model.
        message: String,
    },
    /// The process that runs a model failed.
    #[error("{model}: {reason}")]
    Worker {
        /// The model.
        model: PathBuf,
        /// What happened.
        reason: String,
    },
    /// llama.cpp would run a GGUF file of this model as another one.
    #[error(
        "{path}: llama.cpp cannot run this {model_type} model: {reason}; --group-size writes a quantized checkpoint instead of GGUF"
    )]
    GgufObstacle {
        /// The checkpoint.
        path: PathBuf,
        /// The family.
        model_type: &'static str,
        /// What llama.cpp does otherwise.
        reason: String,
    },
    /// What is lost can be told only beside the original.
    #[error("no original given to compare with: name it with --base")]
    NoBase,
    /// Reading or writing a checkpoint failed.
    #[error(transparent)]
    Checkpoint(#[from] slmc_checkpoint::CheckpointError),
    /// Writing a checkpoint failed.
    #[error(transparent)]
    WriteCheckpoint(#[from] slmc_checkpoint::WriteError),
    /// Reading or writing a GGUF file failed.
    #[error(transparent)]
    Container(#[from] slmc_gguf::container::ContainerError),
    /// A GGUF file cannot be laid out.
    #[error("{path}: {source}")]
    Layout {
        /// The file to be written.
        path: PathBuf,
        /// What is wrong with it.
        source: slmc_gguf::container::FormatError,
    },
    /// The tokenizer cannot be carried to GGUF or back.
    #[error("{path}: {source}")]
    Vocabulary {
        /// The tokenizer's file.
        path: PathBuf,
        /// What is wrong with it.
        source: slmc_gguf::vocabulary::VocabularyError,
    },
    /// An importance matrix cannot be read or written.
    #[error(transparent)]
    Imatrix(#[from] slmc_gguf::imatrix::ImatrixError),
    /// An importance matrix does not fit the model.
    #[error(
        "{path}, tensor {tensor}: found {found}, expected {expected}; make an importance matrix of this very model (slmc imatrix), \
         or leave the tensor unquantized (--keep)"
    )]
    Importance {
        /// The importance matrix.
        path: PathBuf,
        /// GGUF name.
        tensor: String,
        /// What the file has for it.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// Sums of squares that an importance matrix cannot hold.
    #[error("inputs of tensor {tensor}: {source}")]
    ImportanceEntry {
        /// GGUF name.
        tensor: String,
        /// Why.
        source: slmc_gguf::imatrix::EntryError,
    },
    /// The method cannot work from an importance matrix.
    #[error("--imatrix with method {method}: {reason}; leave out --imatrix, or use method imatrix")]
    ImatrixMethod {
        /// The method.
        method: slmc_quant::Method,
        /// Why not.
        reason: &'static str,
    },
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] slmc_model::ModelError),
    /// Calibration or evaluation text cannot be read or tokenized.
    #[error(transparent)]
    Calibration(#[from] slmc_calibration::CalibrationError),
    /// The plan cannot be made.
    #[error(transparent)]
    Plan(#[from] slmc_quant::PlanError),
    /// Measuring failed.
    #[error(transparent)]
    Evaluate(#[from] slmc_eval::EvaluateError),
    /// Items of a task cannot be read or asked.
    #[error("{task}: {reason}")]
    Task {
        /// The file, or what the bundled items are called.
        task: String,
        /// What is wrong, with the line where it is one.
        reason: String,
    },
    /// A model does not answer.
    #[error("{model}: {source}")]
    Answers {
        /// The model.
        model: PathBuf,
        /// Why.
        source: Box<slmc_eval::likelihood::LikelihoodError>,
    },
    /// A tensor cannot be rounded.
    #[error("tensor {tensor}: {source}")]
    Rounding {
        /// GGUF name.
        tensor: String,
        /// Why.
        source: QuantError,
    },
    /// Pruning cannot be planned.
    #[error(transparent)]
    PrunePlan(#[from] slmc_prune::PruneError),
    /// A tensor cannot be pruned.
    #[error("tensor {tensor}: {source}")]
    Pruning {
        /// Hugging Face name.
        tensor: String,
        /// Why.
        source: slmc_prune::PruneError,
    },
    /// Zeros that were to stay are none in the written file.
    #[error(
        "{path}: {found} of the {expected} zeros of tensor {tensor} are zeros in the file; please report this"
    )]
    ZerosLost {
        /// The file or checkpoint that was written.
        path: PathBuf,
        /// GGUF name.
        tensor: String,
        /// In the checkpoint.
        expected: u64,
        /// Of those, in the file.
        found: u64,
    },
    /// Scores cannot be read or written, or are not this run's.
    #[error("{path}: {reason}")]
    Scores {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A written tensor has fewer zeros than it should.
    #[error("{path}: tensor {tensor} has {found} zeros, expected {expected}; please report this")]
    NotPruned {
        /// The checkpoint that was written.
        path: PathBuf,
        /// Hugging Face name.
        tensor: String,
        /// Planned.
        expected: u64,
        /// Counted.
        found: u64,
    },
    /// A tensor that the configuration asks for is missing.
    #[error("{path}: no tensor {tensor}, which config.json asks for")]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// Hugging Face name.
        tensor: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{path}: tensor {tensor} is {found:?}; config.json says {expected:?}")]
    Shape {
        /// The checkpoint.
        path: PathBuf,
        /// Hugging Face name.
        tensor: String,
        /// By the configuration.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// The search for scales failed.
    #[error("tensor {tensor}: {reason}")]
    Search {
        /// GGUF name.
        tensor: String,
        /// Why.
        reason: String,
    },
    /// The two models do not have the same tokenizer, so their probabilities are not about the same things.
    #[error("{model} and {base} tokenize the text differently; KL divergence needs the same tokenizer")]
    TokenizersDiffer {
        /// The model.
        model: PathBuf,
        /// The original.
        base: PathBuf,
    },
    /// A token's number means something else in the other model, or only one has it.
    #[error(
        "token {id} is {found} in {model} and {expected} in {base}: their predictions can be compared only where every token's number \
         means the same in both, and rows that one has alone stand for no token"
    )]
    VocabulariesDiffer {
        /// The model.
        model: PathBuf,
        /// The original.
        base: PathBuf,
        /// The first id that differs.
        id: u32,
        /// The model's token, quoted, or `nothing`.
        found: String,
        /// The original's.
        expected: String,
    },
    /// No choice of types reaches the target.
    #[error(
        "{target} cannot be reached: {reachable}; ask for more, or free tensors that --keep or --tensor-type pin"
    )]
    Target {
        /// What was asked for.
        target: slmc_quant::plan::Target,
        /// What can be reached.
        reachable: String,
    },
    /// The output would replace something that must not be replaced.
    #[error("{path}: {reason}")]
    Output {
        /// The output.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The work directory cannot be used.
    #[error(transparent)]
    Work(#[from] crate::work::WorkError),
    /// Training cannot go on.
    #[error(transparent)]
    Training(Box<slmc_distill::DistillError>),
    /// llama-perplexity's file of a base model's predictions cannot be read.
    #[error(transparent)]
    LlamaLogits(#[from] slmc_eval::LlamaLogitsError),
    /// A base model's predictions that are not of what is measured.
    #[error("`{}` {reason}", path.display())]
    BaseLogits {
        /// The file.
        path: PathBuf,
        /// What it is of, and what to do.
        reason: String,
    },
    /// A distillation that cannot be done as asked.
    #[error("{reason}")]
    Distill {
        /// Why, and what to do.
        reason: String,
    },
    /// The memory limit cannot be kept.
    #[error(transparent)]
    Memory(#[from] crate::memory::BudgetError),
    /// A size that no pruned model can have.
    #[error("{reason}")]
    CannotPrune {
        /// Why not.
        reason: String,
    },
    /// The user stopped the job.
    #[error("interrupted; nothing was written")]
    Cancelled,
    /// The user stopped an evaluation before its first windows were measured.
    #[error("interrupted before anything was measured")]
    NothingMeasured,
    /// The user stopped the job, and what it had finished is kept.
    #[error("interrupted; {steps} finished steps are kept in `{}`: --resume continues the run", directory.display())]
    Interrupted {
        /// The work directory.
        directory: PathBuf,
        /// Steps finished.
        steps: usize,
    },
}

impl PipelineError {
    /// A size that no pruned model can have.
    pub(crate) const fn cannot_prune(reason: String) -> Self {
        Self::CannotPrune { reason }
    }
}

impl From<slmc_distill::DistillError> for PipelineError {
    fn from(error: slmc_distill::DistillError) -> Self {
        Self::Training(Box::new(error))
    }
}
