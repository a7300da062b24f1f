//! `slmc prune`.

use slmc_pipeline::jobs::prune::{AsGguf, LayerSparsity, Method, PruneSettings, Scope, Sparsity, owl};
use slmc_pipeline::jobs::quantize::Effort;

use super::Resolver;
use super::convert::unquantized;
use super::output::default_output;
use super::parse::{parse, parse_all, parse_or};
use crate::args::prune::Prune;
use crate::failure::Failure;

impl Resolver {
    pub fn prune(&self, args: &Prune) -> Result<PruneSettings, Failure> {
        let model = self.model(args.model.as_deref())?;
        let method = parse_or("--method", args.method.as_ref(), Method::SparseGpt)?;
        let sparsity: Sparsity = match (&args.sparsity, &args.pattern) {
            (Some(share), _) if share.contains(':') => {
                return Err(Failure::usage(format!("--sparsity {share}: patterns go to --pattern")));
            }
            (Some(share), _) => parse("--sparsity", share)?,
            (None, Some(pattern)) if !pattern.contains(':') => {
                return Err(Failure::usage(format!("--pattern {pattern}: expected N:M, for example 2:4")));
            }
            (None, Some(pattern)) => parse("--pattern", pattern)?,
            (None, None) => {
                return Err(Failure::usage("say how much to prune: --sparsity 0.5 or --pattern 2:4"));
            }
        };
        if args.effort.is_some() && method != Method::SparseGpt {
            return Err(Failure::usage(format!("--effort means nothing to {method}"))
                .help("Only sparsegpt changes the weights that remain: --method sparsegpt."));
        }
        if args.scope.is_some() && method == Method::SparseGpt {
            return Err(Failure::usage("--scope means nothing to sparsegpt")
                .help("It chooses among blocks of 128 columns of all rows, as its paper does."));
        }
        let scope = parse_or("--scope", args.scope.as_ref(), Scope::default())?;
        let layer_sparsity = layer_sparsity(args)?;
        if scope == Scope::Global && (method != Method::Magnitude || !layer_sparsity.is_uniform()) {
            return Err(Failure::usage("--scope global means nothing here").help(
                "It spreads the share over the layers by magnitude: --method magnitude without --layer-sparsity.",
            ));
        }
        if args.scope.is_some() && args.pattern.is_some() {
            return Err(Failure::usage("--scope and --pattern exclude each other")
                .help("N of every M neighbours are a scope of their own."));
        }
        if args.scores.is_some() && method != Method::Wanda && layer_sparsity.is_uniform() {
            return Err(Failure::usage(format!("--scores means nothing to {method}")).help(
                "wanda goes by the dense model's statistics, and so do --layer-sparsity owl and measured; sparsegpt needs the whole \
                 Hessians of what is pruned so far, magnitude nothing.",
            ));
        }
        let named = sparsity.to_string().replace(':', "of");
        let gguf = gguf(args)?;
        let ending = if gguf.is_some() { ".gguf" } else { "" };
        let output = args
            .output
            .clone()
            .unwrap_or_else(|| default_output(&model, &format!("{method}-{named}{ending}")));
        let job = self.job(model, output, args.into())?;
        Ok(PruneSettings {
            job,
            method,
            sparsity,
            scope,
            layer_sparsity,
            scores: args.scores.clone(),
            effort: parse_or("--effort", args.effort.as_ref(), Effort::default())?,
            keep: parse_all("--keep", &args.keep, &[])?,
            gguf,
        })
    }
}

/// `--layer-sparsity`, with what OWL is told.
fn layer_sparsity(args: &Prune) -> Result<LayerSparsity, Failure> {
    let told = args.owl_threshold.is_some() || args.owl_lambda.is_some();
    let positive = |option: &str, value: f64| match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(Failure::usage(format!("{option} {value}: expected a number above 0"))),
    };
    match args.layer_sparsity.as_deref().unwrap_or("uniform") {
        "owl" => Ok(LayerSparsity::Owl {
            threshold: positive("--owl-threshold", args.owl_threshold.unwrap_or(owl::THRESHOLD))?,
            lambda: positive("--owl-lambda", args.owl_lambda.unwrap_or(owl::LAMBDA))?,
        }),
        _ if told => Err(Failure::usage("--owl-threshold and --owl-lambda are --layer-sparsity owl's")),
        "uniform" => Ok(LayerSparsity::Uniform),
        "measured" => Ok(LayerSparsity::Measured),
        other => Err(Failure::usage(format!("--layer-sparsity {other}: expected uniform, owl or measured"))),
    }
}

/// The GGUF file that is wanted; `None` for a checkpoint.
pub(super) fn gguf(args: &Prune) -> Result<Option<AsGguf>, Failure> {
    let ends = args.output.as_ref().and_then(|path| path.extension()).is_some_and(|e| e == "gguf");
    let is_gguf = match args.format.as_deref() {
        None => ends,
        Some("gguf") => true,
        Some("safetensors") => false,
        Some(other) => return Err(Failure::usage(format!("--format {other}: expected safetensors or gguf"))),
    };
    if !is_gguf && args.dtype.is_some() {
        return Err(Failure::usage("--dtype means nothing to a checkpoint")
            .help("It keeps its element types; --format gguf writes a GGUF file of the type named."));
    }
    if !is_gguf && args.modelfile {
        return Err(Failure::usage("--modelfile means nothing to a checkpoint")
            .help("It stands beside a GGUF file, which --format gguf writes."));
    }
    let mix = is_gguf.then(|| unquantized(args.dtype.as_deref().unwrap_or("f16"))).transpose()?;
    Ok(mix.map(|mix| AsGguf { mix, modelfile: args.modelfile }))
}
