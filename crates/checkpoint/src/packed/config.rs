//! `quantization_config` of `config.json`, in and out.
//!
//! Source: compressed-tensors 0.20, `quantization/{quant_config,quant_scheme,quant_args}.py`.

use serde_json::{Value, json};

use super::{GroupSize, PackScheme};
use crate::config::{ConfigError, Fields};

const FIELD: &str = "quantization_config";
const METHOD: &str = "compressed-tensors";
const FORMAT: &str = "pack-quantized";

/// The field's value: every linear layer as `scheme` says, but the modules `ignore` names. `act_order` says that columns
/// were rounded in the order of their activations, for the record; the layout is the same.
pub fn quantization_config(scheme: &PackScheme, ignore: &[String], act_order: bool) -> Value {
    let (strategy, group_size) = match scheme.group {
        GroupSize::Columns(n) => ("group", Some(n)),
        GroupSize::Channel => ("channel", None),
    };
    json!({
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": scheme.bits,
                    "type": "int",
                    "symmetric": scheme.symmetric,
                    "strategy": strategy,
                    "group_size": group_size,
                    "actorder": act_order.then_some("weight"),
                    "dynamic": false,
                },
                "input_activations": null,
                "output_activations": null,
                "format": FORMAT,
            },
        },
        "ignore": ignore,
        "kv_cache_scheme": null,
    })
}

/// The scheme that the configuration names; `None` for weights as they are.
///
/// # Errors
/// Any other quantization than this module's.
pub(crate) fn read(fields: &Fields<'_>) -> Result<Option<PackScheme>, ConfigError> {
    let Some(config) = fields.nested(FIELD)? else { return Ok(None) };
    let expect = |fields: &Fields<'_>, name: &str, expected: &str| {
        let found = fields.optional_string(name)?.unwrap_or_else(|| "absent".into());
        if found == expected {
            return Ok(());
        }
        let advice = format!(
            "{expected:?}: of quantized checkpoints only those in the layout {FORMAT} of {METHOD} are read; \
             take the unquantized checkpoint"
        );
        Err(fields.bad_value(name, format!("{found:?}"), &advice))
    };
    expect(&config, "quant_method", METHOD)?;
    expect(&config, "format", FORMAT)?;
    let absent = |fields: &Fields<'_>, name: &str, why: &str| match fields.get(name) {
        Some(Value::Object(object)) if !object.is_empty() => Err(fields.bad_value(name, "set", why)),
        _ => Ok(()),
    };
    absent(&config, "kv_cache_scheme", "null: quantized keys and values are not read")?;
    absent(&config, "sparsity_config", "null: compressed sparsity is not read")?;
    let groups = config.nested("config_groups")?.ok_or_else(|| config.absent("config_groups"))?;
    let mut names = groups.object().keys();
    let (Some(name), None) = (names.next(), names.next()) else {
        let found = format!("{} groups", groups.object().len());
        return Err(config.bad_value("config_groups", found, "one group: all layers in one scheme"));
    };
    let group = groups.nested(name)?.ok_or_else(|| groups.absent(name))?;
    absent(&group, "input_activations", "null: only weights are read quantized")?;
    absent(&group, "output_activations", "null: only weights are read quantized")?;
    let weights = group.nested("weights")?.ok_or_else(|| group.absent("weights"))?;
    expect(&weights, "type", "int")?;
    let bits = weights.within("num_bits", 8)?.ok_or_else(|| weights.absent("num_bits"))?;
    if bits < 2 {
        return Err(weights.bad_value("num_bits", bits, "2 to 8"));
    }
    if weights.get("actorder").and_then(Value::as_str) == Some("group") {
        return Err(weights.bad_value(
            "actorder",
            "\"group\"",
            "null or \"weight\": columns of a group must be neighbours",
        ));
    }
    let group = match weights.string("strategy")?.as_str() {
        "channel" => GroupSize::Channel,
        "group" => GroupSize::Columns(weights.dimension("group_size")?),
        other => return Err(weights.bad_value("strategy", format!("{other:?}"), "\"group\" or \"channel\"")),
    };
    let symmetric = weights.boolean("symmetric")?.unwrap_or(true);
    Ok(Some(PackScheme { bits: bits as u32, group, symmetric }))
}
