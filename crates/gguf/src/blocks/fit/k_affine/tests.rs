use super::super::affine::Offset;
use super::super::lanes::tests::noise;
use super::super::unit::{FAR_BEYOND, even_steps};
use super::*;

const SUB_BLOCK: Affine = Affine {
    highest: 15.0,
    offset: Offset::NotPositive,
    trials: &[(0.0, 0.0), (-0.4, -0.4), (0.3, 0.3)],
    refits: 1,
};
const SEARCH: AffineSuperBlock = AffineSuperBlock {
    highest_code: 63.0,
    plain: AffineSearch {
        sub_block: SUB_BLOCK,
        top_codes: &[even_steps(1.15, 0.8)],
        finer: 1,
        coarser: 2,
        min_reach: 1,
    },
    weighted: AffineSearch {
        sub_block: SUB_BLOCK,
        top_codes: &[even_steps(1.15, 0.8), FAR_BEYOND],
        finer: 2,
        coarser: 2,
        min_reach: 1,
    },
};

/// Σ w (x − x̂)² of one block.
fn error<const N: usize, const S: usize>(
    x: &[f32; QK_K],
    w: Option<&[f32; QK_K]>,
    scales: &AffineScales<S>,
) -> f64
where
    [u8; S]: Default,
{
    let (d, dmin) = (scales.d.to_f32(), scales.dmin.to_f32());
    (0..QK_K)
        .map(|i| {
            let step = d * f32::from(scales.scales[i / N]);
            let min = dmin * f32::from(scales.mins[i / N]);
            let level = if step > 0.0 { ((x[i] + min) / step).round().clamp(0.0, 15.0) } else { 0.0 };
            f64::from(w.map_or(1.0, |w| w[i])) * f64::from(x[i] - (step * level - min)).powi(2)
        })
        .sum()
}

#[test]
fn every_instruction_set_chooses_the_same_scales_in_any_company() {
    let mut noise = noise(7);
    // An odd number, so that the last tile is half empty.
    let x: [[f32; QK_K]; 5] = std::array::from_fn(|_| std::array::from_fn(|_| noise()));
    let weights: [[f32; QK_K]; 5] = std::array::from_fn(|_| std::array::from_fn(|_| noise().abs()));
    for importance in [Importance::UNIFORM, Importance::of_row(&weights)] {
        let fit = |arch, range: std::ops::Range<usize>| {
            let mut scales = vec![AffineScales::<8>::default(); range.len()];
            SEARCH.fit_on::<32, 8>(arch, &x[range.clone()], importance.skip(range.start), &mut scales);
            scales
        };
        let all = fit(Arch::new(), 0..5);
        assert_eq!(all, fit(Arch::Scalar, 0..5));
        for i in 0..5 {
            assert_eq!(all[i], fit(Arch::new(), i..i + 1)[0]);
        }
    }
}

#[test]
fn never_worse_than_ranges_rounded_to_codes() {
    for seed in 0..20 {
        let mut noise = noise(100 + seed);
        let mut x: [f32; QK_K] = std::array::from_fn(|_| noise());
        // One sub-block far larger than the others, one of zeros, one of one sign.
        x[32..64].iter_mut().for_each(|x| *x *= 20.0);
        x[64..96].fill(0.0);
        x[96..128].iter_mut().for_each(|x| *x = x.abs());
        let w: [f32; QK_K] = std::array::from_fn(|_| noise().exp().min(1e3));

        let mut steps = [(0.0f32, 0.0f32); 8];
        for (step, x) in steps.iter_mut().zip(x.as_chunks::<32>().0) {
            let least = x.iter().fold(0.0f32, |a, b| a.min(*b));
            let most = x.iter().fold(0.0f32, |a, b| a.max(*b));
            *step = ((most - least) / 15.0, -least);
        }
        let d = steps.iter().fold(0.0f32, |a, s| a.max(s.0)) / 63.0;
        let dmin = steps.iter().fold(0.0f32, |a, s| a.max(s.1)) / 63.0;
        let naive = AffineScales::<8> {
            d: half::f16::from_f32(d),
            dmin: half::f16::from_f32(dmin),
            scales: steps.map(|s| (s.0 / d).round() as u8),
            mins: steps.map(|s| (s.1 / dmin).round() as u8),
        };
        for w in [None, Some(&w)] {
            let mut fitted = [AffineScales::<8>::default()];
            let row = w.map(|w| [*w]);
            let importance = Importance::of_row(row.as_ref().map_or(&[], |row| row));
            SEARCH.fit::<32, 8>(&[x], importance, &mut fitted);
            let (found, naive) = (error::<32, 8>(&x, w, &fitted[0]), error::<32, 8>(&x, w, &naive));
            assert!(found < naive, "seed {seed}: {found} against {naive}");
        }
    }
}

#[test]
fn sub_blocks_without_importance_cost_the_others_nothing() {
    let mut noise = noise(8);
    let x: [f32; QK_K] = std::array::from_fn(|i| noise() * if i < 64 { 50.0 } else { 1.0 });
    let w: [f32; QK_K] = std::array::from_fn(|i| if i < 64 { 0.0 } else { 1.0 });
    let mut alone = x;
    alone[..64].fill(0.0);
    let fit = |x: [f32; QK_K]| {
        let mut scales = [AffineScales::<8>::default()];
        SEARCH.fit::<32, 8>(&[x], Importance::of_row(&[w]), &mut scales);
        error::<32, 8>(&x, Some(&w), &scales[0])
    };
    let (beside, alone) = (fit(x), fit(alone));
    assert!(beside < alone * 1.5, "{beside} beside large weights that do not matter, {alone} without");
}
