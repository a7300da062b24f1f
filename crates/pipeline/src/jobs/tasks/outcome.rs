//! What models got right, and where they differ.

use serde::Serialize;
use slmc_eval::gate::{Interval, TaskAnswers};
use slmc_eval::paired::{self, Flips};
use slmc_eval::tasks::{Accuracy, Answer, Choices, Format, Item, macro_f1};

use super::source::Loaded;

/// Of each bound of a difference.
const CONFIDENCE: f64 = 0.95;

/// What came out.
#[derive(Debug, Serialize)]
pub struct TasksOutcome {
    /// False where the user stopped before all was answered: what is below is of the items that were.
    #[serde(rename = "tasks_complete")]
    pub complete: bool,
    /// Items answered, of all tasks.
    #[serde(skip)]
    pub items: usize,
    /// Items of all tasks.
    #[serde(skip)]
    pub items_planned: usize,
    /// Every task of which something was answered, in the order they were named.
    pub tasks: Vec<TaskOutcome>,
    /// Wall time of all.
    #[serde(rename = "tasks_seconds")]
    pub seconds: f64,
}

/// One task.
#[derive(Debug, Serialize)]
pub struct TaskOutcome {
    /// The file's name without its ending.
    pub name: String,
    /// The layout of its items.
    pub format: Format,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Items answered, by both models if there are two.
    pub items: usize,
    /// Items to be answered.
    pub items_planned: usize,
    /// Examples in front of each.
    pub fewshot: usize,
    /// The model's scores.
    #[serde(flatten)]
    pub scores: Scores,
    /// The original's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Scores>,
    /// How they differ.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// The model's replies, in the order of the items.
    #[serde(skip)]
    pub replies: Vec<Reply>,
    /// Which of them are right, by `acc` or `exact_match`.
    #[serde(skip)]
    pub right: Vec<bool>,
    /// Which of the original's are right.
    #[serde(skip)]
    pub base_right: Option<Vec<bool>>,
}

/// What a model said to an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// One of the choices.
    Choice(Answer),
    /// A free answer.
    Text(String),
}

/// Scores of one model, by lm-evaluation-harness's definitions: `acc` or `exact_match` with its standard error, and where the
/// lengths of choices mean something, `acc_norm`; of KoBEST's sets macro F1, which has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Share of items whose right choice is the most likely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acc: Option<f64>,
    /// Its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acc_stderr: Option<f64>,
    /// Share of items whose right choice is the most likely for its length in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acc_norm: Option<f64>,
    /// Its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acc_norm_stderr: Option<f64>,
    /// Macro F1 of the most likely choices, of KoBEST's sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// Share of free answers that are the right one, white space around them aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<f64>,
    /// Its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_match_stderr: Option<f64>,
}

/// The model beside the original, by `acc` or `exact_match`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The model's share of right answers less the original's.
    pub difference: f64,
    /// One-sided bounds of the difference, each with a confidence of 95 %.
    pub difference_interval: Interval,
    /// Items by who got them right.
    pub flips: Flips,
    /// The exact McNemar test's: how probable flips at least as one-sided are if neither model is better.
    pub mcnemar_p: f64,
    /// Every item that flipped.
    pub flipped: Vec<Flipped>,
}

/// An item that one model got right and the other did not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flipped {
    /// The line it stands in, from 1.
    pub line: usize,
    /// Whether the model got it right; the original did not then.
    pub gained: bool,
    /// What was asked, without examples.
    pub context: String,
    /// What is right.
    pub right: String,
    /// What the other model said.
    pub wrong: String,
}

impl Scores {
    fn of(task: &Loaded, replies: &[Reply], right: &[bool]) -> Self {
        let Accuracy { mean, stderr } = Accuracy::of(right);
        let (mean, stderr) = (Some(mean), Some(stderr));
        if task.format() == Format::Generation {
            return Self { exact_match: mean, exact_match_stderr: stderr, ..Self::default() };
        }
        let mut scores = Self { acc: mean, acc_stderr: stderr, ..Self::default() };
        if task.format().has_acc_norm() {
            let pairs = task.asked().zip(replies);
            let right: Vec<bool> = pairs
                .map(|((item, _), reply)| match (item, reply) {
                    (Item::Choice(item), Reply::Choice(answer)) => answer.pick_norm == item.gold,
                    _ => false,
                })
                .collect();
            let norm = Accuracy::of(&right);
            (scores.acc_norm, scores.acc_norm_stderr) = (Some(norm.mean), Some(norm.stderr));
        }
        if task.format().has_f1() {
            let pairs = task.asked().zip(replies).filter_map(|((item, _), reply)| match (item, reply) {
                (Item::Choice(item), Reply::Choice(answer)) => Some((item.gold, answer.pick)),
                _ => None,
            });
            scores.f1 = Some(macro_f1(&pairs.collect::<Vec<_>>()));
        }
        scores
    }
}

impl TaskOutcome {
    /// What a baseline keeps of the model's answers.
    pub fn answers(&self) -> TaskAnswers<'_> {
        let Self { name, sha256, fewshot, right, .. } = self;
        TaskAnswers { name, sha256, fewshot: *fewshot, right }
    }

    /// What is left unanswered by a model is left out of both.
    ///
    /// # Panics
    /// If there are not as many replies as items.
    pub(super) fn of(
        mut task: Loaded,
        fewshot: usize,
        replies: Vec<Option<Reply>>,
        base: Option<Vec<Option<Reply>>>,
    ) -> Self {
        let items_planned = replies.len();
        let answered: Vec<bool> = match &base {
            Some(base) => replies.iter().zip(base).map(|(a, b)| a.is_some() && b.is_some()).collect(),
            None => replies.iter().map(Option::is_some).collect(),
        };
        task.keep(&answered);
        let kept = |replies: Vec<Option<Reply>>| -> Vec<Reply> {
            let with = replies.into_iter().zip(&answered);
            with.filter(|(_, answered)| **answered).filter_map(|(reply, _)| reply).collect()
        };
        let (replies, base) = (kept(replies), base.map(kept));
        let right = right(&task, &replies);
        let base_right = base.as_deref().map(|base| self::right(&task, base));
        let comparison = base.as_deref().zip(base_right.as_deref()).map(|(base, base_right)| {
            let flips = Flips::of(&right, base_right);
            Comparison {
                difference: flips.difference(),
                difference_interval: paired::difference(&right, base_right, CONFIDENCE),
                mcnemar_p: flips.mcnemar(),
                flips,
                flipped: flipped(&task, [&replies, base], [&right, base_right]),
            }
        });
        let base = base.as_deref().zip(base_right.as_deref());
        Self {
            format: task.format(),
            items: replies.len(),
            items_planned,
            fewshot,
            scores: Scores::of(&task, &replies, &right),
            base: base.map(|(base, right)| Scores::of(&task, base, right)),
            comparison,
            name: task.name,
            sha256: task.sha256,
            replies,
            right,
            base_right,
        }
    }
}

fn right(task: &Loaded, replies: &[Reply]) -> Vec<bool> {
    assert_eq!(task.asked().count(), replies.len(), "a reply to each item");
    let items = task.asked().zip(replies);
    items
        .map(|((item, _), reply)| match (item, reply) {
            (Item::Choice(item), Reply::Choice(answer)) => answer.pick == item.gold,
            (Item::Generation(item), Reply::Text(text)) => item.accepts(text),
            _ => unreachable!("items are answered by their kind"),
        })
        .collect()
}

fn flipped(task: &Loaded, [model, base]: [&[Reply]; 2], [right, base_right]: [&[bool]; 2]) -> Vec<Flipped> {
    let items = task.asked().zip(model.iter().zip(base)).zip(right.iter().zip(base_right));
    let flips = items.filter(|(_, (right, base_right))| right != base_right);
    flips
        .map(|(((item, &line), (model, base)), (&gained, _))| {
            let wrong = if gained { base } else { model };
            let (context, right, wrong) = shown(item, wrong);
            Flipped { line, gained, context, right, wrong }
        })
        .collect()
}

/// What was asked, what is right, and what was said instead.
fn shown(item: &Item, wrong: &Reply) -> (String, String, String) {
    match (item, wrong) {
        (Item::Choice(item), Reply::Choice(answer)) => {
            let (context, choices) = match &item.choices {
                Choices::Endings { context, endings } => (context, endings),
                Choices::Contexts { contexts, ending } => (ending, contexts),
            };
            (context.clone(), choices[item.gold].clone(), choices[answer.pick].clone())
        }
        (Item::Generation(item), Reply::Text(text)) => {
            (item.prompt.clone(), item.answers.join(" | "), text.clone())
        }
        _ => unreachable!("items are answered by their kind"),
    }
}
