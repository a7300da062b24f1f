//! KoBEST (Jang et al. 2022), five Korean sets. The harness's prompts, to the space: that of BoolQ ends in one, and the delimiter
//! adds another.

use super::fields::{Fields, choice, index, text};
use super::item::{ChoiceItem, Choices};

/// `paragraph`, `question`, `label`: is it so?
pub(super) fn boolq(fields: &Fields) -> Result<ChoiceItem, String> {
    let context = format!("{} 질문: {} 답변: ", text(fields, "paragraph")?, text(fields, "question")?);
    labelled(fields, context, ["아니오", "예"])
}

/// `premise`, `question` (원인 or 결과), `alternative_1`, `alternative_2`, `label`: cause or effect.
pub(super) fn copa(fields: &Fields) -> Result<ChoiceItem, String> {
    let connector = match super::python::strip(text(fields, "question")?) {
        "원인" => "왜냐하면",
        "결과" => "그래서",
        other => return Err(format!("field `question` is \"{other}\", expected 원인 or 결과")),
    };
    let context = format!("{}  {connector}", text(fields, "premise")?);
    let choices = [choice(fields, "alternative_1")?, choice(fields, "alternative_2")?];
    labelled(fields, context, choices)
}

/// `word`, `context_1`, `context_2`, `label`: does the word mean the same in both?
pub(super) fn wic(fields: &Fields) -> Result<ChoiceItem, String> {
    let (first, second) = (text(fields, "context_1")?, text(fields, "context_2")?);
    let word = text(fields, "word")?;
    let context = format!("문장1: {first} 문장2: {second} 두 문장에서 {word}가 같은 뜻으로 쓰였나?");
    labelled(fields, context, ["아니오", "예"])
}

/// `context`, `ending_1` to `ending_4`, `label`: how it goes on.
pub(super) fn hellaswag(fields: &Fields) -> Result<ChoiceItem, String> {
    let context = format!("문장: {}", text(fields, "context")?);
    let mut endings = Vec::with_capacity(4);
    for name in ["ending_1", "ending_2", "ending_3", "ending_4"] {
        endings.push(choice(fields, name)?);
    }
    labelled(fields, context, endings)
}

/// `sentence`, `label`: negative or positive.
pub(super) fn sentineg(fields: &Fields) -> Result<ChoiceItem, String> {
    labelled(fields, format!("문장: {} 긍부정:", text(fields, "sentence")?), ["부정", "긍정"])
}

fn labelled<T: Into<String>>(
    fields: &Fields,
    context: String,
    endings: impl IntoIterator<Item = T>,
) -> Result<ChoiceItem, String> {
    let endings: Vec<String> = endings.into_iter().map(Into::into).collect();
    let gold = index(fields, "label", endings.len())?;
    Ok(ChoiceItem { description: String::new(), choices: Choices::Endings { context, endings }, gold })
}
