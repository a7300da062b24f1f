//! What `slmc prune` cuts out whole.

use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Structured pruning")]
pub struct StructuredArgs {
    /// Cut out whole channels, heads and layers: a smaller and faster model of the same architecture. --sparsity is then the share of the
    /// blocks' parameters that goes
    #[arg(long, conflicts_with_all = ["pattern", "scope", "keep", "layer_sparsity"])]
    pub structured: bool,
    /// Parameters that may stay in all, embedding and head included: 0.9B, 350M
    #[arg(long, value_name = "N", requires = "structured", conflicts_with_all = ["sparsity", "target_size"])]
    pub target_params: Option<String>,
    /// Bytes that the weight files may take: 700MB, 1.5GiB
    #[arg(long, value_name = "SIZE", requires = "structured", conflicts_with = "sparsity")]
    pub target_size: Option<String>,
    /// --target-size is that of a GGUF file of this type, as `slmc quantize --type` then makes of the result: q4_k_m
    #[arg(long, value_name = "TYPE", requires = "target_size")]
    pub target_type: Option<String>,
    /// Kinds that the budget is spread over by measured damage: layers, kv-heads, query-heads, channels, hidden-size [default: all
    /// that the family allows: heads and hidden size of qwen2, phi3, olmo2 and exaone4, the hidden size of gemma, and layers of smollm3 stay]
    #[arg(long, value_name = "KINDS", value_delimiter = ',', requires = "structured")]
    pub kinds: Vec<String>,
    /// Layers that stay
    #[arg(long, value_name = "N", requires = "structured")]
    pub layers: Option<usize>,
    /// Key and value heads that stay in each layer, with the query heads that share them
    #[arg(long, value_name = "N", requires = "structured")]
    pub kv_heads: Option<usize>,
    /// Query heads that stay in each layer
    #[arg(long, value_name = "N", requires = "structured")]
    pub query_heads: Option<usize>,
    /// Channels of the MLP that stay in each layer
    #[arg(long, value_name = "N", requires = "structured")]
    pub channels: Option<usize>,
    /// Dimensions of the residual stream that stay, the same ones everywhere; embedding and head get narrower, too. Loses more than
    /// channels do at equal size. What stays is solved for beside the original, whatever --effort says
    #[arg(long, value_name = "N", requires = "structured")]
    pub hidden_size: Option<usize>,
    /// Layers that must stay, by number from 0 (comma-separated)
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', requires = "structured")]
    pub keep_layers: Vec<usize>,
    /// What numbers of channels and of dimensions are multiples of where a budget chooses them [default: 256, where that leaves enough
    /// of a choice; else 32]
    #[arg(long, value_name = "N", requires = "structured", value_parser = clap::value_parser!(u32).range(1..))]
    pub multiple_of: Option<u32>,
    /// How channels, heads and dimensions are chosen: hessian (the others make up for them best), wanda, activation, variance, magnitude or random
    /// [default: hessian, or what --method stands for]
    #[arg(long, value_name = "IMPORTANCE", requires = "structured")]
    pub importance: Option<String>,
    /// Leave what stays as it was, instead of solving for it by least squares. With --importance magnitude or random and sizes as numbers
    /// no calibration text is read then, and nothing is run through the model
    #[arg(long, requires = "structured", conflicts_with = "effort")]
    pub no_solve: bool,
    /// Let biases give what goes gave on the average (FLAP, arXiv 2312.11983): for --no-solve, beside which solving needs none. The model
    /// then has attention_bias and mlp_bias, which only llama's family knows
    #[arg(long, requires = "structured")]
    pub compensate_bias: bool,
}
