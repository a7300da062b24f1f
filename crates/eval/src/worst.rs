//! Where a model departs most from its base.

use serde::Serialize;

use crate::evaluation::Evaluation;

/// A window in which the two models differ, and the place in it where they differ most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WorstWindow {
    /// Index of the window.
    pub window: usize,
    /// Mean KL divergence over its scored positions, nats.
    pub mean_kl: f64,
    /// The scored position of the window with the largest KL divergence; it predicts the token after it.
    pub position: usize,
    /// Index in the text of the token that it predicts.
    pub token_index: usize,
    /// The KL divergence there, nats.
    pub kl: f64,
    /// -log q(token) there, nats.
    pub nll: f64,
    /// -log p(token) of the base model there, nats.
    pub base_nll: f64,
}

/// The `count` windows of the largest mean KL divergence, the largest first; of equal ones the earlier. Empty if there was no
/// base.
pub fn worst_windows(evaluation: &Evaluation, count: usize) -> Vec<WorstWindow> {
    let Some(drift) = evaluation.scores.drift.as_deref() else { return Vec::new() };
    let windows = evaluation.read.iter().zip(evaluation.window_rows()).enumerate();
    let mut worst: Vec<WorstWindow> = windows
        .filter_map(|(index, (window, rows))| {
            let mean_kl = drift[rows.clone()].iter().map(|row| row.kl).sum::<f64>() / rows.len() as f64;
            let row = rows.clone().rev().max_by(|&a, &b| drift[a].kl.total_cmp(&drift[b].kl))?;
            let position = window.scored.start + row - rows.start;
            Some(WorstWindow {
                window: index,
                mean_kl,
                position,
                token_index: window.start + position + 1,
                kl: drift[row].kl,
                nll: evaluation.scores.nll[row],
                base_nll: drift[row].base_nll,
            })
        })
        .collect();
    worst.sort_by(|a, b| b.mean_kl.total_cmp(&a.mean_kl));
    worst.truncate(count);
    worst
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::{Drift, Scores};
    use crate::windows::{Protocol, Window};

    #[test]
    fn the_largest_means_come_first_with_their_largest_places() {
        let protocol = Protocol { n_ctx: 8, ..Protocol::new(None) };
        let windows: Vec<Window> =
            (0..4).map(|index| Window { start: 8 * index, len: 8, scored: 4..7 }).collect();
        let kl = [[0.0, 0.375, 0.0], [0.25, 0.25, 0.25], [0.125, 0.0, 0.25], [0.0, 0.125, 0.25]];
        let drift = |&kl: &f64| Drift { base_nll: 1.0, kl, delta_p: 0.0, same_top: true, in_top5: true };
        let drift = kl.as_flattened().iter().map(drift).collect();
        let scores = Scores { nll: vec![2.0; 12], drift: Some(drift) };
        let evaluation = Evaluation::new(&protocol, &windows, 4, vec![], scores);
        let worst = worst_windows(&evaluation, 3);
        let places: Vec<_> = worst.iter().map(|w| (w.window, w.position, w.token_index)).collect();
        // means 1/4, then three times 1/8 of which the earliest two; of equal places the first
        assert_eq!(places, [(1, 4, 13), (0, 5, 6), (2, 6, 23)]);
        assert_eq!((worst[1].kl, worst[1].nll, worst[1].base_nll), (0.375, 2.0, 1.0));
        let alone = Scores { nll: vec![2.0; 12], drift: None };
        assert!(worst_windows(&Evaluation::new(&protocol, &windows, 4, vec![], alone), 3).is_empty());
    }
}
