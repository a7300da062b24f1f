//! What an accepted model got right, item by item, to hold later ones against on the same items.

use serde::{Deserialize, Serialize};

use super::{Check, Incomparable, Metric, check_accuracy};

/// An accepted model's answers to one task: which of them were right decides far more than how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskBaseline {
    /// The task's name.
    pub name: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Examples in front of each item.
    pub fewshot: usize,
    /// Items answered: the first ones of the file.
    pub items: usize,
    /// Which answers were right: a hexadecimal digit for every four items, the first of them its lowest bit.
    pub right: String,
}

/// One model's answers to a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskAnswers<'a> {
    /// The task's name.
    pub name: &'a str,
    /// SHA-256 of its file.
    pub sha256: &'a str,
    /// Examples in front of each item.
    pub fewshot: usize,
    /// Which answers were right.
    pub right: &'a [bool],
}

impl TaskBaseline {
    /// Of a task's answers.
    pub fn of(answers: &TaskAnswers<'_>) -> Self {
        let digit = |four: &[bool]| {
            let bits = four.iter().rev().fold(0, |bits, &right| 2 * bits + u32::from(right));
            char::from_digit(bits, 16).expect("four bits")
        };
        Self {
            name: answers.name.to_owned(),
            sha256: answers.sha256.to_owned(),
            fewshot: answers.fewshot,
            items: answers.right.len(),
            right: answers.right.chunks(4).map(digit).collect(),
        }
    }

    /// Which answers were right; `None` where that is not what is written.
    fn right(&self) -> Option<Vec<bool>> {
        let digits = self.right.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>()?;
        let bits = digits.iter().flat_map(|digit| (0..4).map(move |bit| digit >> bit & 1 == 1));
        let right: Vec<bool> = bits.take(self.items).collect();
        (right.len() == self.items && digits.len() == self.items.div_ceil(4)).then_some(right)
    }

    /// The answers that were right then and are now, if both are to the same items.
    fn beside<'a>(&self, now: &[TaskAnswers<'a>]) -> Result<(Vec<bool>, &'a [bool]), Incomparable> {
        let name = || self.name.clone();
        // one task may be asked twice, with and without examples
        let found = now.iter().filter(|task| task.name == self.name);
        let same = found.clone().find(|task| task.fewshot == self.fewshot);
        let Some(task) = same.or_else(|| found.clone().next()) else {
            return Err(Incomparable::TaskMissing { name: name() });
        };
        if task.sha256 != self.sha256 {
            return Err(Incomparable::TaskFile { name: name() });
        }
        if (task.fewshot, task.right.len()) != (self.fewshot, self.items) {
            return Err(Incomparable::TaskItems {
                name: name(),
                baseline_items: self.items,
                baseline_fewshot: self.fewshot,
                items: task.right.len(),
                fewshot: task.fewshot,
            });
        }
        let before = self.right().ok_or_else(|| Incomparable::TaskDamaged { name: name() })?;
        Ok((before, task.right))
    }
}

/// Holds the accuracy on a baseline's tasks, the items of all of them together, over that of the baseline against the least that it
/// may be: paired, item by item, as [`check_accuracy`] does beside an original. `None` for a baseline without tasks.
///
/// # Errors
/// A task of the baseline was not asked, or not the same items of it.
pub(super) fn check_tasks(
    baseline: &[TaskBaseline],
    now: &[TaskAnswers<'_>],
    limit: f64,
    confidence: f64,
) -> Result<Option<Check>, Incomparable> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for task in baseline {
        let (right_before, right_now) = task.beside(now)?;
        before.extend(right_before);
        after.extend_from_slice(right_now);
    }
    if before.is_empty() {
        return Ok(None);
    }
    let check = check_accuracy(&after, &before, limit, confidence);
    Ok(Some(Check { metric: Metric::AccuracyOverBaseline, ..check }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Verdict;

    fn answers(right: &[bool]) -> TaskAnswers<'_> {
        TaskAnswers { name: "task", sha256: "abc", fewshot: 1, right }
    }

    /// Right but for every `wrong`-th.
    fn right(items: usize, wrong: usize) -> Vec<bool> {
        (0..items).map(|item| item % wrong != 0).collect()
    }

    #[test]
    fn answers_are_stored_in_a_digit_for_four_and_come_back() {
        for items in [1, 4, 5, 681] {
            let right = right(items, 3);
            let stored = TaskBaseline::of(&answers(&right));
            assert_eq!((stored.items, stored.right.len()), (items, items.div_ceil(4)));
            assert_eq!(stored.right(), Some(right));
        }
        assert_eq!(TaskBaseline::of(&answers(&[true, false, false, false, false, true])).right, "12");
        let stored = TaskBaseline::of(&answers(&right(8, 3)));
        for damaged in ["", "1", "zz", "123"] {
            assert_eq!(TaskBaseline { right: damaged.into(), ..stored.clone() }.right(), None, "{damaged}");
        }
    }

    #[test]
    fn the_same_answers_pass_and_lost_ones_are_a_regression() {
        let (good, bad) = (right(400, 5), right(400, 2));
        let baseline = [TaskBaseline::of(&answers(&good))];
        let verdict = |now: &[bool]| {
            let check = check_tasks(&baseline, &[answers(now)], 0.95, 0.95).unwrap().unwrap();
            assert_eq!(check.metric, Metric::AccuracyOverBaseline);
            check.verdict
        };
        assert_eq!(verdict(&good), Verdict::Passed);
        assert_eq!(verdict(&bad), Verdict::Regression);
        assert_eq!(check_tasks(&[], &[answers(&good)], 0.95, 0.95), Ok(None));
    }

    #[test]
    fn other_items_are_not_compared() {
        let right = right(40, 5);
        let baseline = [TaskBaseline::of(&answers(&right))];
        let refused =
            |now: &[TaskAnswers<'_>]| check_tasks(&baseline, now, 0.95, 0.95).unwrap_err().to_string();
        let now = answers(&right);
        assert!(refused(&[]).contains("`task`, which was not asked now; name its file with --tasks"));
        assert!(refused(&[TaskAnswers { sha256: "other", ..now }]).contains("another file `task`"));
        assert!(refused(&[TaskAnswers { fewshot: 0, ..now }]).contains("40 items of `task` with 1 examples"));
        assert!(refused(&[TaskAnswers { right: &right[1..], ..now }]).contains("this model 39 with 1"));
        let damaged = [TaskBaseline { right: "x".into(), ..baseline[0].clone() }];
        assert!(check_tasks(&damaged, &[now], 0.95, 0.95).unwrap_err().to_string().contains("damaged"));
        // what the baseline does not know is no hindrance
        let more = TaskAnswers { name: "new", ..now };
        assert!(check_tasks(&baseline, &[more, now], 0.95, 0.95).unwrap().is_some());
    }
}
