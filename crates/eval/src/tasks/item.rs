//! One item, and the texts that a model is shown of it.

use super::python::strip;

/// What stands between a context and its continuation, in questions and in examples.
const DELIMITER: &str = " ";

/// What stands after an example.
const EXAMPLE_END: &str = "\n\n";

/// Something that a model can get right or wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// One of several answers is right.
    Choice(ChoiceItem),
    /// The answer is written freely.
    Generation(GenerationItem),
}

/// A question with several answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceItem {
    /// What is put before everything else, examples included; mostly nothing.
    pub description: String,
    /// What there is to choose from.
    pub choices: Choices,
    /// Index of the right one.
    pub gold: usize,
}

/// Where the answers differ.
#[derive(Clone, Debug, PartialEq)]
pub enum Choices {
    /// They continue one context.
    Endings {
        /// What comes before all of them.
        context: String,
        /// The answers, not empty.
        endings: Vec<String>,
    },
    /// They are inserted into the context, and what is scored is the text behind them: "partial scoring" of Trinh and Le 2018,
    /// "A Simple Method for Commonsense Reasoning", section 3.
    Contexts {
        /// The texts up to and with each answer, not empty.
        contexts: Vec<String>,
        /// What follows all of them.
        ending: String,
    },
}

/// A prompt and what should follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationItem {
    /// What is continued.
    pub prompt: String,
    /// What is right: any of these.
    pub answers: Vec<String>,
    /// The continuation ends in front of the first of these, or at the end of the text.
    pub until: Vec<String>,
    /// Most tokens of it.
    pub max_tokens: usize,
}

impl GenerationItem {
    /// Whether a continuation is the answer, white space around either aside. (The harness's `exact_match` compares it as well, so
    /// that a model that begins with a space, as most do, is wrong unless the task filters its answers.)
    pub fn accepts(&self, continuation: &str) -> bool {
        self.answers.iter().any(|answer| strip(answer) == strip(continuation))
    }

    /// The continuation up to the first of `until`; all of it if none is there.
    pub fn cut<'a>(&self, continuation: &'a str) -> &'a str {
        let ends =
            self.until.iter().filter(|until| !until.is_empty()).filter_map(|until| continuation.find(until));
        ends.min().map_or(continuation, |end| &continuation[..end])
    }
}

/// Not as many examples as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} examples are wanted before each item, but there are {found} others to take them from")]
pub struct TooFewExamples {
    /// How many.
    pub wanted: usize,
    /// How many there are.
    pub found: usize,
}

impl ChoiceItem {
    /// How many answers there are.
    pub fn len(&self) -> usize {
        match &self.choices {
            Choices::Endings { endings, .. } => endings.len(),
            Choices::Contexts { contexts, .. } => contexts.len(),
        }
    }

    /// Whether there is no answer at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For each answer a context and the continuation that is scored in it; `examples` is what [`examples`] gives.
    pub fn pairs(&self, examples: &str) -> Vec<(String, String)> {
        let before = |context: &String| format!("{}{examples}{context}", self.description);
        let after = |text: &String| format!("{DELIMITER}{text}");
        match &self.choices {
            Choices::Endings { context, endings } => {
                endings.iter().map(|ending| (before(context), after(ending))).collect()
            }
            Choices::Contexts { contexts, ending } => {
                contexts.iter().map(|context| (before(context), after(ending))).collect()
            }
        }
    }

    fn example(&self) -> String {
        match &self.choices {
            Choices::Endings { context, endings } => format!("{context}{DELIMITER}{}", endings[self.gold]),
            Choices::Contexts { contexts, ending } => format!("{}{DELIMITER}{ending}", contexts[self.gold]),
        }
    }
}

impl Item {
    /// The item with its answer.
    fn example(&self) -> String {
        match self {
            Self::Choice(item) => item.example(),
            Self::Generation(item) => {
                format!("{}{DELIMITER}{}", item.prompt, item.answers.first().map_or("", String::as_str))
            }
        }
    }
}

/// The first `count` of `pool` that are not `item` itself, with their answers, as the text in front of it.
///
/// This is what lm-evaluation-harness does with `sampler: first_n`. Its default sampler draws other examples for every item,
/// from a random generator that all items share, so that an item's score depends on which others were asked.
///
/// # Errors
/// There are fewer.
pub fn examples(pool: &[Item], item: &Item, count: usize) -> Result<String, TooFewExamples> {
    let mut text = String::new();
    let mut found = 0;
    for example in pool.iter().filter(|example| *example != item).take(count) {
        text.push_str(&example.example());
        text.push_str(EXAMPLE_END);
        found += 1;
    }
    if found < count { Err(TooFewExamples { wanted: count, found }) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(context: &str, gold: usize) -> Item {
        let endings = vec!["red".to_owned(), "blue".to_owned()];
        let choices = Choices::Endings { context: context.into(), endings };
        Item::Choice(ChoiceItem { description: String::new(), choices, gold })
    }

    #[test]
    fn examples_are_the_first_others_with_their_answers() {
        let pool = [item("a", 0), item("b", 1), item("c", 0)];
        assert_eq!(examples(&pool, &pool[1], 2).unwrap(), "a red\n\nc red\n\n");
        assert_eq!(examples(&pool, &item("d", 0), 2).unwrap(), "a red\n\nb blue\n\n");
        assert_eq!(examples(&pool, &pool[0], 0).unwrap(), "");
        assert_eq!(examples(&pool, &pool[0], 3), Err(TooFewExamples { wanted: 3, found: 2 }));
    }

    #[test]
    fn answers_in_the_middle_share_the_text_behind_them() {
        let contexts = vec!["the cup".to_owned(), "the bag".to_owned()];
        let choices = Choices::Contexts { contexts, ending: "was full.".into() };
        let item = ChoiceItem { description: "About: ".into(), choices, gold: 1 };
        let pair = |context: &str| (context.to_owned(), " was full.".to_owned());
        assert_eq!(item.pairs("x\n\n"), [pair("About: x\n\nthe cup"), pair("About: x\n\nthe bag")]);
        assert_eq!(item.example(), "the bag was full.");
    }
}
