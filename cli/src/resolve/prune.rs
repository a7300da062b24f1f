//! `slmc prune`.

use slmc_pipeline::jobs::prune::{Method, PruneSettings, Scope, Sparsity};
use slmc_pipeline::jobs::quantize::Effort;

use super::Resolver;
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
        let measure = match args.no_eval {
            true => None,
            false => Some(self.measure_by(args.text.as_ref(), None, None, args.device.as_deref())?),
        };
        let named = sparsity.to_string().replace(':', "of");
        let output =
            args.output.clone().unwrap_or_else(|| default_output(&model, &format!("{method}-{named}")));
        let max_memory = args.max_memory.as_ref().map(|size| parse("--max-memory", size)).transpose()?;
        Ok(PruneSettings {
            method,
            sparsity,
            scope: parse_or("--scope", args.scope.as_ref(), Scope::default())?,
            effort: parse_or("--effort", args.effort.as_ref(), Effort::default())?,
            keep: parse_all("--keep", &args.keep, &[])?,
            calibration: self.calibration(&args.calibration),
            batches: self.batches(&args.calibration),
            device: self.device(args.device.as_deref())?,
            output,
            measure,
            max_memory,
            resume: args.resume,
            model,
        })
    }
}
