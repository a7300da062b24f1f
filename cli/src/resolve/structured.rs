//! `slmc prune --structured`.

use slmc_pipeline::jobs::prune::Method;
use slmc_pipeline::jobs::quantize::Effort;
use slmc_pipeline::jobs::structured::{Asked, Budget, StructuredImportance, StructuredSettings};

use super::Resolver;
use super::output::default_output;
use super::parse::{bytes, count, parse, parse_or, share};
use super::prune::gguf;
use crate::args::prune::Prune;
use crate::failure::Failure;

impl Resolver {
    pub fn structured(&self, args: &Prune) -> Result<StructuredSettings, Failure> {
        let (model, of) = (self.model(args.model.as_deref())?, &args.structured);
        let budget = match (&args.sparsity, &of.target_params, &of.target_size) {
            (Some(text), ..) => match share("--sparsity", text)? {
                share if share > 0.0 && share < 1.0 => Some(Budget::Share(share)),
                _ => {
                    return Err(Failure::usage(format!(
                        "--sparsity {text}: expected a share such as 0.25 or 25%"
                    )));
                }
            },
            (_, Some(text), _) => Some(Budget::Parameters(count("--target-params", text)?)),
            (_, _, Some(text)) => Some(match (bytes("--target-size", text)?, &of.target_type) {
                (size, None) => Budget::Bytes(size),
                (size, Some(ty)) => Budget::File(size, parse("--target-type", ty)?),
            }),
            _ => None,
        };
        let asked = Asked {
            layers: of.layers,
            key_value_heads: of.kv_heads,
            query_heads: of.query_heads,
            channels: of.channels,
            hidden_size: of.hidden_size,
        };
        if budget.is_none() && asked == Asked::default() {
            return Err(Failure::usage("say how much to cut out").help(
                "A budget: --sparsity 0.25, --target-params 0.9B or --target-size 700MB; or numbers: --layers, --kv-heads, \
                 --query-heads, --channels, --hidden-size.",
            ));
        }
        let kinds = of.kinds.iter().map(|kind| parse("--kinds", kind)).collect::<Result<_, _>>()?;
        let importance = match (&of.importance, &args.method) {
            (Some(importance), _) => parse("--importance", importance)?,
            (None, Some(method)) => match parse("--method", method)? {
                Method::SparseGpt => StructuredImportance::Hessian,
                Method::Wanda => StructuredImportance::Wanda,
                Method::Magnitude => StructuredImportance::Magnitude,
            },
            (None, None) => StructuredImportance::Hessian,
        };
        // without solving nothing is aimed at
        let effort = if of.no_solve {
            Effort::Fast
        } else {
            parse_or("--effort", args.effort.as_ref(), Effort::default())?
        };
        let gguf = gguf(args)?;
        let ending = if gguf.is_some() { "pruned.gguf" } else { "pruned" };
        let output = args.output.clone().unwrap_or_else(|| default_output(&model, ending));
        let mut keep_layers = of.keep_layers.clone();
        keep_layers.sort_unstable();
        keep_layers.dedup();
        let job = self.job(model, output, args.into())?;
        Ok(StructuredSettings {
            job,
            budget,
            asked,
            kinds,
            importance,
            solves: !of.no_solve,
            compensates: of.compensate_bias,
            effort,
            keep_layers,
            multiple: of.multiple_of.map(|n| n as usize),
            scores: args.scores.clone(),
            gguf,
        })
    }
}
