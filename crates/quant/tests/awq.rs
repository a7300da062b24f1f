//! Laws of AWQ, and its scales against `golden/awq_scales.py`.

mod random;

use random::Random;
use serde::Deserialize;
use slmc_gguf::TensorType;
use slmc_quant::awq::{
    Candidate, Family, GroupKind, GroupedHeads, Producer, ScaleGroup, SearchError, SearchOptions,
    candidate_scales, divide_rows, divide_vector, round_scaled, scale_columns, scaled_second_moments, search,
    weight_mean_abs,
};
use slmc_quant::loss::{InputStatistics, output_error};
use slmc_quant::mix::{ModelFacts, TensorFacts};
use slmc_quant::{Method, Mix, Plan, PlanRequest, QuantError, rtn};

/// y = W x in f64, `w` `[d_out, d_in]`.
fn linear(w: &[f32], x: &[f64]) -> Vec<f64> {
    w.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(&w, &x)| f64::from(w) * x).sum()).collect()
}

fn assert_same(before: &[f64], after: &[f64]) {
    let size = before.iter().map(|b| b * b).sum::<f64>().sqrt();
    let apart = before.iter().zip(after).map(|(b, a)| (b - a) * (b - a)).sum::<f64>().sqrt();
    assert!(size > 0.1 && apart <= 1e-6 * size, "outputs of norm {size} moved by {apart}");
}

fn rms_norm(weight: &[f32], x: &[f64]) -> Vec<f64> {
    let rms = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + 1e-6).sqrt();
    x.iter().zip(weight).map(|(x, &w)| x / rms * f64::from(w)).collect()
}

#[test]
fn norm_then_linear_is_unchanged() {
    let (d_in, d_out) = (48, 20);
    let mut random = Random(3);
    let x: Vec<f64> = (0..d_in).map(|_| random.normal()).collect();
    let (mut norm, mut w) = (random.log_normals(d_in, 0.3), random.normals(d_out * d_in, 0.2));
    let scales = candidate_scales(&random.log_normals(d_in, 2.0), None, 0.7).unwrap();
    let before = linear(&w, &rms_norm(&norm, &x));
    divide_vector(&mut norm, &scales).unwrap();
    scale_columns(&mut w, &scales).unwrap();
    assert_same(&before, &linear(&w, &rms_norm(&norm, &x)));
}

#[test]
fn value_then_output_is_unchanged_under_grouped_queries() {
    let (hidden, query_heads, value_heads, head_dim, tokens) = (24, 6, 2, 4, 5);
    let heads = GroupedHeads::new(query_heads, value_heads, head_dim).unwrap();
    let mut random = Random(4);
    let x: Vec<Vec<f64>> = (0..tokens).map(|_| (0..hidden).map(|_| random.normal()).collect()).collect();
    // any attention weights will do: they multiply values that are already scaled
    let attention: Vec<f64> = (0..query_heads * tokens).map(|_| random.uniform()).collect();
    let mut value = random.normals(heads.value_channels() * hidden, 0.3);
    let mut bias = random.normals(heads.value_channels(), 0.3);
    let mut output = random.normals(hidden * heads.output_channels(), 0.3);
    let block = |value: &[f32], bias: &[f32], output: &[f32]| {
        let values: Vec<Vec<f64>> = x
            .iter()
            .map(|x| linear(value, x).iter().zip(bias).map(|(v, &b)| v + f64::from(b)).collect())
            .collect();
        let mixed: Vec<f64> = (0..query_heads * head_dim)
            .map(|i| {
                let (head, channel) = (i / head_dim, i % head_dim);
                let value_channel = head / (query_heads / value_heads) * head_dim + channel;
                (0..tokens).map(|t| attention[head * tokens + t] * values[t][value_channel]).sum()
            })
            .collect();
        linear(output, &mixed)
    };
    let before = block(&value, &bias, &output);

    let statistic = heads.reduce(&random.log_normals(heads.output_channels(), 1.5)).unwrap();
    let scales = candidate_scales(&statistic, None, 0.5).unwrap();
    assert!(scales.iter().any(|s| (s - 1.0).abs() > 0.1));
    divide_rows(&mut value, hidden, &scales).unwrap();
    divide_vector(&mut bias, &scales).unwrap();
    scale_columns(&mut output, &heads.expand(&scales).unwrap()).unwrap();
    assert_same(&before, &block(&value, &bias, &output));
}

#[test]
fn up_then_down_is_unchanged_beside_the_gate() {
    let (hidden, ffn) = (16, 40);
    let mut random = Random(5);
    let x: Vec<f64> = (0..hidden).map(|_| random.normal()).collect();
    let gate = random.normals(ffn * hidden, 0.3);
    let (mut up, mut down) = (random.normals(ffn * hidden, 0.3), random.normals(hidden * ffn, 0.3));
    let silu = |g: f64| g / (1.0 + (-g).exp());
    let block = |up: &[f32], down: &[f32]| {
        let inner: Vec<f64> =
            linear(&gate, &x).iter().zip(linear(up, &x)).map(|(&g, u)| silu(g) * u).collect();
        linear(down, &inner)
    };
    let before = block(&up, &down);
    let scales = candidate_scales(&random.log_normals(ffn, 1.5), None, 0.9).unwrap();
    divide_rows(&mut up, hidden, &scales).unwrap();
    scale_columns(&mut down, &scales).unwrap();
    assert_same(&before, &block(&up, &down));
}

#[test]
fn query_heads_share_their_value_heads_scales() {
    let heads = GroupedHeads::new(4, 2, 2).unwrap();
    assert_eq!(heads.expand(&[1.0, 2.0, 3.0, 4.0]).unwrap(), [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    assert_eq!(heads.reduce(&[1.0, 2.0, 3.0, 6.0, 5.0, 0.0, 5.0, 1.0]).unwrap(), [2.0, 4.0, 5.0, 0.5]);
    assert!(heads.expand(&[1.0; 8]).is_err());
    assert!(heads.reduce(&[1.0; 4]).is_err());
    for (q, v, d) in [(3, 2, 4), (4, 0, 4), (0, 1, 4), (2, 4, 4), (4, 2, 0)] {
        assert!(GroupedHeads::new(q, v, d).is_err());
    }
}

#[test]
fn ratio_zero_is_the_identity_even_with_dead_channels() {
    let mut act = Random(6).log_normals(64, 2.0);
    act[5] = 0.0;
    assert_eq!(candidate_scales(&act, None, 0.0).unwrap(), vec![1.0; 64]);
    assert_eq!(candidate_scales(&act, None, 0.5).unwrap()[5], 1.0);
    assert_eq!(candidate_scales(&[0.0; 3], None, 0.5).unwrap(), [1.0; 3]);
    let mut random = Random(7);
    let weights = random.normals(8 * 64, 0.1);
    let moments = random.log_normals(64, 1.0);
    for importance in [None, Some(&moments[..])] {
        let (mut scaled, mut plain) = (vec![0.0; 512], vec![0.0; 512]);
        round_scaled(TensorType::Q4_0, &weights, &[1.0; 64], importance, &mut scaled).unwrap();
        rtn::round_trip(TensorType::Q4_0, &weights, 64, importance, &mut plain).unwrap();
        assert_eq!(scaled, plain);
    }
}

/// What the search judges is what gets stored: scaling in place and rounding gives the same values, times the scales.
#[test]
fn the_judged_weights_are_the_stored_ones() {
    let mut random = Random(8);
    let mut weights = random.normals(70 * 256, 0.1);
    let moments = random.log_normals(256, 1.0);
    let scales = candidate_scales(&random.log_normals(256, 1.0), None, 0.6).unwrap();
    let mut judged = vec![0.0; weights.len()];
    round_scaled(TensorType::Q4_K, &weights, &scales, Some(&moments), &mut judged).unwrap();
    scale_columns(&mut weights, &scales).unwrap();
    let importance = scaled_second_moments(&moments, &scales).unwrap();
    let mut stored = vec![0.0; weights.len()];
    rtn::round_trip(TensorType::Q4_K, &weights, 256, Some(&importance), &mut stored).unwrap();
    for (i, (j, s)) in judged.iter().zip(&stored).enumerate() {
        assert_eq!(*j, s / scales[i % 256]);
    }
}

#[derive(Deserialize)]
struct Golden {
    columns: usize,
    group_size: usize,
    act_mean_abs: Vec<f32>,
    consumers: Vec<Vec<f32>>,
    weight_mean_abs: Vec<f64>,
    ratios: Vec<f32>,
    activation: Vec<Vec<f64>>,
    activation_over_weight: Vec<Vec<f64>>,
}

#[test]
fn scales_are_those_of_the_papers_formula() {
    let golden: Golden = serde_json::from_str(include_str!("golden/awq_scales.json")).unwrap();
    let close = |found: &[f32], expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        for (&f, &e) in found.iter().zip(expected) {
            assert!((f64::from(f) / e - 1.0).abs() < 2e-6, "{f} for {e}");
        }
    };
    let consumers: Vec<&[f32]> = golden.consumers.iter().map(Vec::as_slice).collect();
    let weights = weight_mean_abs(&consumers, golden.columns, golden.group_size).unwrap();
    close(&weights, &golden.weight_mean_abs);
    for (i, &ratio) in golden.ratios.iter().enumerate() {
        close(&candidate_scales(&golden.act_mean_abs, None, ratio).unwrap(), &golden.activation[i]);
        let scales = candidate_scales(&golden.act_mean_abs, Some(&weights), ratio).unwrap();
        close(&scales, &golden.activation_over_weight[i]);
    }
}

/// Channels of very different size in the inputs: the case AWQ is for. On its objective the search never loses to no
/// scaling, and here it must win.
#[test]
fn the_search_beats_rounding_on_uneven_activations_and_never_loses() {
    let (rows, columns, tokens) = (64, 256, 40);
    for (seed, spread, must_win) in [(9, 1.5, true), (10, 0.0, false)] {
        let mut random = Random(seed);
        let weights = random.normals(rows * columns, 0.05);
        let sizes = random.log_normals(columns, spread);
        let x: Vec<f32> =
            (0..tokens * columns).map(|i| (random.normal() as f32) * sizes[i % columns]).collect();
        let mean_abs: Vec<f32> = (0..columns)
            .map(|j| x.iter().skip(j).step_by(columns).map(|x| x.abs()).sum::<f32>() / tokens as f32)
            .collect();
        let weight_stat = weight_mean_abs(&[&weights], columns, 32).unwrap();
        for ty in [TensorType::Q4_0, TensorType::Q4_K, TensorType::Q3_K] {
            let mut rounded = vec![0.0; weights.len()];
            let mut objective = |scales: &[f32]| -> Result<f64, QuantError> {
                round_scaled(ty, &weights, scales, None, &mut rounded)?;
                output_error(&weights, &rounded, columns, InputStatistics::Samples(&x))
            };
            let options = SearchOptions {
                grid_points: 10,
                halvings: 0,
                families: vec![Family::Activation, Family::ActivationOverWeight],
            };
            let best = search(&options, &mean_abs, Some(&weight_stat), &mut objective).unwrap();
            assert_eq!(best.evaluations, 20);
            assert_eq!(objective(&best.scales).unwrap(), best.loss);
            assert_eq!(objective(&vec![1.0; columns]).unwrap(), best.unscaled_loss);
            assert!(best.loss <= best.unscaled_loss);
            assert!(!must_win || best.loss < 0.9 * best.unscaled_loss, "{ty}: {best:?}");
        }
    }
}

#[test]
fn the_search_passes_over_what_is_not_finite_and_reports_what_fails() {
    let act = [1.0, 2.0, 4.0];
    let options = SearchOptions::paper();
    let all_worse = |scales: &[f32]| Ok::<_, QuantError>(if scales == [1.0; 3] { 1.0 } else { f64::NAN });
    let best = search(&options, &act, None, all_worse).unwrap();
    assert_eq!(
        (best.candidate, best.scales.as_slice(), best.evaluations),
        (Candidate::IDENTITY, &[1.0; 3][..], 20)
    );
    let equal = search(&options, &act, None, |_| Ok::<_, QuantError>(1.0)).unwrap();
    assert_eq!(equal.candidate, Candidate::IDENTITY);
    let nan = search(&options, &act, None, |_| Ok::<_, QuantError>(f64::INFINITY));
    assert!(matches!(nan, Err(SearchError::NotFinite { .. })));
    let failed = search(&options, &act, None, |_| Err("broken"));
    assert!(matches!(failed, Err(SearchError::Objective("broken"))));
    let both = SearchOptions { families: vec![Family::ActivationOverWeight], ..options };
    assert!(matches!(search(&both, &act, None, |_| Ok::<_, QuantError>(1.0)), Err(SearchError::NoWeights)));
}

/// An objective with one valley, at the scales of ratio 0.65: halving the step finds it, the coarse grid only its edge.
#[test]
fn halving_the_step_finds_what_the_coarse_grid_misses() {
    let (act, weights) = ([1.0, 2.0, 4.0, 0.5], [0.2, 0.3, 0.1, 0.4]);
    let valley = candidate_scales(&act, Some(&weights), 0.65).unwrap();
    let distance = |scales: &[f32]| {
        let sum: f64 = scales.iter().zip(&valley).map(|(s, v)| f64::from((s / v).ln()).powi(2)).sum();
        Ok::<_, QuantError>(sum)
    };
    let found = |halvings| {
        let options = SearchOptions { halvings, ..SearchOptions::default() };
        search(&options, &act, Some(&weights), distance).unwrap()
    };
    let (coarse, fine) = (found(0), found(1));
    assert!((coarse.candidate.ratio - 0.65).abs() > 0.04);
    assert!((fine.candidate.ratio - 0.65).abs() < 1e-6);
    assert!(fine.loss < 1e-9 && coarse.loss > 1e-4);
    assert_eq!((coarse.evaluations, fine.evaluations), (11, 13));
}

#[test]
fn statistics_and_scales_that_make_no_sense_are_errors() {
    let value =
        |result: Result<Vec<f32>, QuantError>| assert!(matches!(result, Err(QuantError::Value { .. })));
    value(candidate_scales(&[1.0, f32::NAN], None, 0.5));
    value(candidate_scales(&[1.0, -1.0], None, 0.5));
    value(candidate_scales(&[1.0], None, 1.5));
    value(candidate_scales(&[1.0], Some(&[f32::INFINITY]), 0.5));
    assert!(candidate_scales(&[1.0], Some(&[1.0, 2.0]), 0.5).is_err());
    value(scaled_second_moments(&[1.0], &[0.0]));
    assert!(scale_columns(&mut [1.0, 2.0], &[1.0, -2.0]).is_err());
    assert!(scale_columns(&mut [1.0, 2.0, 3.0], &[1.0, 2.0]).is_err());
    assert!(divide_rows(&mut [1.0, 2.0], 1, &[1.0]).is_err());
    assert!(divide_vector(&mut [1.0, 2.0], &[1.0]).is_err());
    assert!(weight_mean_abs(&[], 4, 2).is_err());
    assert!(weight_mean_abs(&[&[1.0; 6]], 4, 2).is_err());
    assert!(weight_mean_abs(&[&[1.0; 8]], 4, 0).is_err());
}

/// The groups of llama's block 3.
fn groups() -> [ScaleGroup; 4] {
    let name = |tensor: &str| format!("blk.3.{tensor}.weight");
    let norm = |tensor: &str| Some(Producer::Norm { weight: name(tensor) });
    let rows =
        |tensor: &str| Some(Producer::Rows { weight: name(tensor), rows: 0..256, of: 256, bias: None });
    let of = |kind, producer, consumers: &[&str]| {
        let consumers = consumers.iter().map(|consumer| name(consumer)).collect();
        ScaleGroup { kind, producer, consumers }
    };
    [
        of(GroupKind::AttentionInput, norm("attn_norm"), &["attn_q", "attn_k", "attn_v"]),
        of(GroupKind::AttentionOutput, rows("attn_v"), &["attn_output"]),
        of(GroupKind::FeedForwardInput, norm("ffn_norm"), &["ffn_gate", "ffn_up"]),
        of(GroupKind::FeedForwardDown, rows("ffn_up"), &["ffn_down"]),
    ]
}

#[test]
fn groups_leave_kept_tensors_alone() {
    let names = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let tensors: Vec<TensorFacts> = names
        .iter()
        .map(|n| TensorFacts {
            name: format!("blk.3.{n}.weight"),
            shape: vec![256, 256],
            source: TensorType::BF16,
        })
        .collect();
    let model = ModelFacts {
        architecture: "llama".into(),
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 4,
    };
    let applicable = |mix, keep: &str| {
        let mut request = PlanRequest::new(mix, Method::Awq);
        request.keep.extend((!keep.is_empty()).then(|| keep.parse().unwrap()));
        let plan = Plan::new(&model, &tensors, &request).unwrap();
        groups().map(|g| g.is_applicable(&plan))
    };
    assert_eq!(applicable(Mix::Q4_K_M, ""), [true; 4]);
    assert_eq!(applicable(Mix::F16, ""), [false; 4]);
    assert_eq!(applicable(Mix::Q4_K_M, "attn_v"), [false, false, true, true]);
    assert_eq!(applicable(Mix::Q4_K_M, "ffn_down"), [true, true, true, false]);
    // without a norm in front there is nothing to divide
    let alone = ScaleGroup { producer: None, ..groups()[0].clone() };
    let plan = Plan::new(&model, &tensors, &PlanRequest::new(Mix::Q4_K_M, Method::Awq)).unwrap();
    assert!(!alone.is_applicable(&plan));
}
