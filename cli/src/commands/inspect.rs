//! `slmc inspect`

use slmc_pipeline::jobs::inspect::{Inspection, inspect};

use super::{failure, print_json};
use crate::args::inspect::Inspect;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::format::{bytes, parameters, shape};
use crate::terminal::table::table;

pub fn run(args: &Inspect, resolver: &Resolver, json: bool) -> Result<(), Failure> {
    let inspection = inspect(&resolver.model(args.model.as_deref())?).map_err(failure)?;
    if json {
        return print_json(&inspection);
    }
    print_summary(&inspection);
    if args.tensors {
        let rows = inspection
            .tensors
            .iter()
            .map(|t| [t.name.clone(), t.ty.clone(), shape(&t.shape), bytes(t.bytes)]);
        println!("{}", table(["tensor", "type", "shape", "size"], rows));
    } else {
        println!("{}", table(["type", "tensors", "weights", "size"], by_type(&inspection)));
    }
    Ok(())
}

fn print_summary(model: &Inspection) {
    let heads = format!(
        "{} query, {} key/value, {} wide",
        model.num_attention_heads, model.num_key_value_heads, model.head_dim
    );
    let head = if model.tie_word_embeddings { "tied to the embedding" } else { "a matrix of its own" };
    let mut rows = vec![
        ["model".into(), format!("{} ({})", model.path.display(), model.format)],
        ["architecture".into(), model.architecture.into()],
        ["parameters".into(), format!("{} ({})", parameters(model.parameters), model.parameters)],
        ["blocks".into(), model.num_hidden_layers.to_string()],
        ["hidden, feed-forward".into(), format!("{}, {}", model.hidden_size, model.intermediate_size)],
        ["heads".into(), heads],
        ["vocabulary".into(), format!("{} tokens, head {head}", model.vocab_size)],
        ["context".into(), format!("{} tokens", model.max_position_embeddings)],
        ["size".into(), format!("{}, {:.3} bits per weight", bytes(model.bytes), model.bits_per_weight)],
    ];
    if let Some(recipe) = &model.recipe {
        rows.push(["slmc recipe".into(), recipe.clone()]);
    }
    if let Some(distill) = &model.distill {
        rows.push(["slmc distill".into(), distill.clone()]);
    }
    println!("{}", table(["", ""], rows));
}

fn by_type(model: &Inspection) -> Vec<[String; 4]> {
    let mut types: Vec<(&str, u64, u64, u64)> = Vec::new();
    for tensor in &model.tensors {
        let weights = tensor.shape.iter().map(|&d| d as u64).product::<u64>();
        match types.iter_mut().find(|t| t.0 == tensor.ty) {
            Some(entry) => {
                entry.1 += 1;
                entry.2 += weights;
                entry.3 += tensor.bytes;
            }
            None => types.push((&tensor.ty, 1, weights, tensor.bytes)),
        }
    }
    types.sort_by_key(|t| std::cmp::Reverse(t.3));
    types.into_iter().map(|(ty, n, w, b)| [ty.into(), n.to_string(), parameters(w), bytes(b)]).collect()
}
