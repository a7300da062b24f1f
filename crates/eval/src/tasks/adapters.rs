//! Layouts of English sets, and slmc's own.

use serde_json::Value;

use super::fields::{Fields, check, choice, choices, field, index, text};
use super::item::{ChoiceItem, Choices, GenerationItem};
use super::python::strip;

/// Most tokens of a free answer that does not say: the harness's default.
const MAX_TOKENS: u64 = 256;

/// slmc's own: `context`, `choices`, `answer` (an index). A space is put between context and choice.
pub(super) fn plain(fields: &Fields) -> Result<ChoiceItem, String> {
    let endings = choices(field(fields, "choices")?, "choices")?;
    let gold = index(fields, "answer", endings.len())?;
    Ok(endings_of(text(fields, "context")?.to_owned(), endings, gold))
}

/// slmc's own for free answers: `prompt`, `answer` (a text or a list of them), `until` (likewise; a blank line if it is not
/// there), `max_tokens`.
pub(super) fn generation(fields: &Fields) -> Result<GenerationItem, String> {
    let texts = |name: &str| match field(fields, name)? {
        Value::String(text) => Ok(vec![text.clone()]),
        list => choices(list, name),
    };
    let until = if fields.contains_key("until") { texts("until")? } else { vec!["\n\n".into()] };
    let max_tokens = match fields.get("max_tokens") {
        None => MAX_TOKENS,
        Some(value) => value
            .as_u64()
            .filter(|&n| n > 0)
            .ok_or("field `max_tokens` is not a number of at least 1".to_owned())?,
    };
    Ok(GenerationItem {
        prompt: text(fields, "prompt")?.to_owned(),
        answers: texts("answer")?,
        until,
        max_tokens: max_tokens as usize,
    })
}

/// ARC (Clark et al. 2018): `question`, `choices` (`text` and `label`, lists), `answerKey` (a label).
pub(super) fn arc(fields: &Fields) -> Result<ChoiceItem, String> {
    let listed = field(fields, "choices")?.as_object().ok_or("field `choices` is no object of lists")?;
    let endings = choices(field(listed, "text")?, "choices.text")?;
    let labels = choices(field(listed, "label")?, "choices.label")?;
    let key = text(fields, "answerKey")?;
    let gold = labels
        .iter()
        .take(endings.len())
        .position(|label| label == key)
        .ok_or_else(|| format!("field `answerKey` is \"{key}\", which is none of `choices.label`"))?;
    Ok(endings_of(format!("Question: {}\nAnswer:", text(fields, "question")?), endings, gold))
}

/// PIQA (Bisk et al. 2020): `goal`, `sol1`, `sol2`, `label`.
pub(super) fn piqa(fields: &Fields) -> Result<ChoiceItem, String> {
    let endings = vec![choice(fields, "sol1")?, choice(fields, "sol2")?];
    let gold = index(fields, "label", 2)?;
    Ok(endings_of(format!("Question: {}\nAnswer:", text(fields, "goal")?), endings, gold))
}

/// WinoGrande (Sakaguchi et al. 2020): `sentence` with a `_`, `option1`, `option2`, `answer` (1 or 2).
pub(super) fn winogrande(fields: &Fields) -> Result<ChoiceItem, String> {
    let (before, after) =
        text(fields, "sentence")?.split_once('_').ok_or("field `sentence` has no `_` to fill in")?;
    let contexts =
        ["option1", "option2"].map(|name| choice(fields, name).map(|option| format!("{before}{option}")));
    let contexts = contexts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let gold = match index(fields, "answer", 3)? {
        0 => return Err("field `answer` is 0, expected 1 or 2".into()),
        answer => answer - 1,
    };
    let ending = strip(after).to_owned();
    Ok(ChoiceItem { description: String::new(), choices: Choices::Contexts { contexts, ending }, gold })
}

/// MMLU (Hendrycks et al. 2021): `question`, four `choices`, `answer` (0 to 3, or A to D), and `subject`, which the description
/// names if it is there. What is scored are the letters.
pub(super) fn mmlu(fields: &Fields) -> Result<ChoiceItem, String> {
    const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
    let listed = choices(field(fields, "choices")?, "choices")?;
    if listed.len() != LETTERS.len() {
        return Err(format!("field `choices` holds {} answers, expected 4", listed.len()));
    }
    let letter = field(fields, "answer")?.as_str();
    let gold = match letter.and_then(|letter| LETTERS.iter().position(|known| *known == letter)) {
        Some(gold) => gold,
        None => index(fields, "answer", LETTERS.len())?,
    };
    let mut context = strip(text(fields, "question")?).to_owned();
    for (letter, choice) in LETTERS.iter().zip(&listed) {
        context.push_str(&format!("\n{letter}. {choice}"));
    }
    context.push_str("\nAnswer:");
    let description = match fields.get("subject") {
        None => String::new(),
        Some(_) => format!(
            "The following are multiple choice questions (with answers) about {}.\n\n",
            text(fields, "subject")?.replace('_', " ")
        ),
    };
    let endings = LETTERS.map(str::to_owned).to_vec();
    Ok(ChoiceItem { description, ..endings_of(context, endings, gold) })
}

/// BoolQ (Clark et al. 2019): `passage`, `question`, and `label` (SuperGLUE's) or `answer` (the original's true or false).
pub(super) fn boolq(fields: &Fields) -> Result<ChoiceItem, String> {
    let (name, value) = match fields.get("label") {
        Some(value) => ("label", value),
        None => ("answer", field(fields, "answer")?),
    };
    let gold = match value {
        Value::Bool(yes) => usize::from(*yes),
        number => {
            check(number.as_u64().ok_or(format!("field `{name}` is {number}, expected 0 or 1"))?, name, 2)?
        }
    };
    let context = format!("{}\nQuestion: {}?\nAnswer:", text(fields, "passage")?, text(fields, "question")?);
    Ok(endings_of(context, vec!["no".into(), "yes".into()], gold))
}

fn endings_of(context: String, endings: Vec<String>, gold: usize) -> ChoiceItem {
    ChoiceItem { description: String::new(), choices: Choices::Endings { context, endings }, gold }
}
