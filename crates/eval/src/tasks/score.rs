//! From log-likelihoods to right and wrong.

use serde::Serialize;

use super::item::{ChoiceItem, Choices};
use crate::statistics::Estimate;

/// What a model chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// log p(continuation | context) of every choice, in nats.
    pub log_likelihoods: Vec<f64>,
    /// The most likely choice; of equals, the first.
    pub pick: usize,
    /// The most likely choice for its length, which is counted in characters of the choice without the delimiter.
    pub pick_norm: usize,
}

/// The share of right answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// The share.
    pub mean: f64,
    /// Its standard error, sqrt(s·(1 - s) / (n - 1)), as of the harness.
    pub stderr: f64,
}

impl ChoiceItem {
    /// The choice that log-likelihoods of [`ChoiceItem::pairs`] make.
    ///
    /// # Panics
    /// If there is not one for each.
    pub fn answer(&self, log_likelihoods: Vec<f64>) -> Answer {
        assert_eq!(log_likelihoods.len(), self.len(), "a log-likelihood of each choice");
        let (Choices::Endings { endings: choices, .. } | Choices::Contexts { contexts: choices, .. }) =
            &self.choices;
        let by_length = log_likelihoods.iter().zip(choices);
        let by_length: Vec<f64> =
            by_length.map(|(log, choice)| log / choice.chars().count() as f64).collect();
        Answer {
            pick: first_largest(&log_likelihoods),
            pick_norm: first_largest(&by_length),
            log_likelihoods,
        }
    }
}

impl Accuracy {
    /// Of answers; NaN if there are none.
    pub fn of(right: &[bool]) -> Self {
        let Estimate { mean, stderr } = Estimate::of(right.iter().map(|&right| f64::from(u8::from(right))));
        Self { mean, stderr }
    }
}

/// The mean of the classes' F1 = 2 tp / (2 tp + fp + fn), every class that is right or chosen somewhere counted alike, from pairs
/// of the right choice and the chosen one; NaN if there are none.
///
/// Source: scikit-learn's `f1_score` with `average="macro"`, which the harness takes for KoBEST.
pub fn macro_f1(answers: &[(usize, usize)]) -> f64 {
    let classes = answers.iter().map(|(gold, pick)| 1 + gold.max(pick)).max().unwrap_or(0);
    let scores: Vec<f64> = (0..classes)
        .filter_map(|class| {
            let count = |is: fn(bool, bool) -> bool| {
                answers.iter().filter(|(gold, pick)| is(*gold == class, *pick == class)).count() as f64
            };
            let (right, wrong) = (count(|gold, pick| gold && pick), count(|gold, pick| gold != pick));
            (right + wrong > 0.0).then(|| 2.0 * right / (2.0 * right + wrong))
        })
        .collect();
    scores.iter().sum::<f64>() / scores.len() as f64
}

fn first_largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equals_the_first_is_chosen_and_long_answers_may_be_less_likely() {
        let endings = vec!["ab".to_owned(), "한국어 말".to_owned(), "cd".to_owned()];
        let choices = Choices::Endings { context: "x".into(), endings };
        let item = ChoiceItem { description: String::new(), choices, gold: 1 };
        let answer = item.answer(vec![-2.0, -3.0, -2.0]);
        // -1 a character against -0.6 of five characters (thirteen bytes)
        assert_eq!((answer.pick, answer.pick_norm), (0, 1));
    }

    #[test]
    fn classes_count_alike_in_f1_and_those_that_never_occur_not_at_all() {
        // class 0: 2 right of 3, none taken for it wrongly; class 2: 1 right, 1 wrongly; class 3 never right; no class 1
        let answers = [(0, 0), (0, 0), (0, 2), (2, 2), (3, 2)];
        let expected = (4.0 / 5.0 + 2.0 / 4.0 + 0.0) / 3.0;
        assert!((macro_f1(&answers) - expected).abs() < 1e-15);
        assert_eq!(macro_f1(&[(1, 1)]), 1.0);
        assert!(macro_f1(&[]).is_nan());
    }

    #[test]
    fn the_standard_error_is_the_binomial_one() {
        let accuracy = Accuracy::of(&[true, true, true, false, false]);
        assert!((accuracy.mean - 0.6).abs() < 1e-15);
        assert!((accuracy.stderr - (0.6f64 * 0.4 / 4.0).sqrt()).abs() < 1e-15);
    }
}
