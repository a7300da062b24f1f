//! How a chat template writes a conversation, found by rendering some.

use serde_json::{Value, json};
use slmc_calibration::ChatTemplate;

/// A template that writes turns one after the other: each role's words in front of and behind what was said.
///
/// A conversation is `head`, then the turns, then what begins the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turns {
    /// What stands in front of everything where there is no system message: the beginning of the text, words that the template
    /// has for a system message of its own.
    pub head: String,
    pub system: System,
    pub user: Around,
    pub assistant: Around,
    /// What begins the answer.
    pub prompt: String,
}

/// What stands in front of a message's content and behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Around {
    pub before: String,
    pub after: String,
}

/// What becomes of a system message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// It stands in front of everything, in place of the head.
    First(Around),
    /// It stands in the first user's turn, in front of the content.
    InFirstUser(Around),
    /// It stands in the last user's turn.
    InLastUser(Around),
    /// The template refuses it.
    Refused,
}

const SYSTEM: &str = "Qsystem one.\nQsystem two";
const USERS: [&str; 3] = ["Quser one", "Quser: two,\n\nthree", "Quser [4]"];
const ASSISTANTS: [&str; 2] = ["Qanswer one", "Qanswer two\n three"];

/// Why a template is none that writes turns one after the other.
const IRREGULAR: &str = "the model's template does more than to write turns one after the other";

impl Turns {
    /// Finds how a template writes turns, and checks it on conversations of up to seven of them.
    ///
    /// # Errors
    /// Why it cannot be said so, for a person to read.
    pub fn of(template: &ChatTemplate) -> Result<Self, String> {
        let render = |messages: &[Value], prompts: bool| {
            let text = if prompts { template.render_prompt(messages) } else { template.render(messages) };
            text.map_err(|reason| {
                format!("the model's template does not render a plain conversation: {reason}")
            })
        };
        let [first, second, _] = USERS;
        let [answer, _] = ASSISTANTS;
        let open = render(&conversation(false, 1), false)?;
        let asked = render(&conversation(false, 1), true)?;
        let twice = render(&conversation(false, 2), true)?;
        let answered = render(&conversation(false, 2)[..2], false)?;

        let irregular = || IRREGULAR.to_owned();
        // Between contents stands what ends a turn and what begins the next one. Where a template closes a conversation without a
        // prompt as it closes a turn, that tells where one ends; otherwise it does not matter.
        let (front, closed_user) = split(&open, first).ok_or_else(irregular)?;
        let (_, asking) = split(&asked, first).ok_or_else(irregular)?;
        let (_, rest) = split(&twice, first).ok_or_else(irregular)?;
        let (to_answer, rest) = split(rest, answer).ok_or_else(irregular)?;
        let (to_user, _) = split(rest, second).ok_or_else(irregular)?;
        let (_, closed_answer) = split(&answered, answer).ok_or_else(irregular)?;
        let user_after = match asking.starts_with(closed_user) && to_answer.starts_with(closed_user) {
            true => closed_user,
            false => common_prefix(asking, to_answer),
        };
        let (prompt, assistant_before) = (&asking[user_after.len()..], &to_answer[user_after.len()..]);
        let user_before = match to_user.strip_prefix(closed_answer) {
            Some(before) if front.ends_with(before) => before,
            _ => common_marker(front, to_user),
        };
        let head = &front[..front.len() - user_before.len()];
        let assistant_after = &to_user[..to_user.len() - user_before.len()];
        let around = |before: &str, after: &str| Around { before: before.into(), after: after.into() };
        let mut turns = Self {
            head: head.into(),
            system: System::Refused,
            user: around(user_before, user_after),
            assistant: around(assistant_before, assistant_after),
            prompt: prompt.into(),
        };
        if let Ok(text) = template.render_prompt(&conversation(true, 1)) {
            let (before, rest) = split(&text, SYSTEM).ok_or_else(irregular)?;
            let (after, _) = split(rest, first).ok_or_else(irregular)?;
            let inside = before.strip_prefix(head).and_then(|rest| rest.strip_prefix(user_before));
            let candidates = [
                after.strip_suffix(user_before).map(|after| System::First(around(before, after))),
                inside.map(|before| System::InFirstUser(around(before, after))),
                inside.map(|before| System::InLastUser(around(before, after))),
            ];
            let fits = |system: &System| {
                let turns = Self { system: system.clone(), ..turns.clone() };
                turns.writes_as(template, true)
            };
            turns.system = candidates.into_iter().flatten().find(fits).ok_or_else(irregular)?;
        }
        if turns.writes_as(template, false) { Ok(turns) } else { Err(irregular()) }
    }

    /// Whether both give the same of conversations of every length.
    fn writes_as(&self, template: &ChatTemplate, with_system: bool) -> bool {
        (1..=USERS.len()).all(|users| {
            let messages = conversation(with_system, users);
            template.render_prompt(&messages).is_ok_and(|text| text == self.write(&messages))
        })
    }

    /// The text of a conversation that a user has the last word of, with the beginning of the answer.
    pub fn write(&self, messages: &[Value]) -> String {
        let said = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
        let system = messages.iter().find(|message| message["role"] == "system").map(said);
        let users = messages.iter().filter(|message| message["role"] == "user").count();
        let mut text = match (&self.system, &system) {
            (System::First(around), Some(system)) => format!("{}{system}{}", around.before, around.after),
            _ => self.head.clone(),
        };
        let mut seen = 0;
        for message in messages {
            let turn = match message["role"].as_str() {
                Some("user") => &self.user,
                Some("assistant") => &self.assistant,
                _ => continue,
            };
            text.push_str(&turn.before);
            if message["role"] == "user" {
                seen += 1;
                match (&self.system, &system) {
                    (System::InFirstUser(around), Some(system)) if seen == 1 => {
                        text.push_str(&format!("{}{system}{}", around.before, around.after));
                    }
                    (System::InLastUser(around), Some(system)) if seen == users => {
                        text.push_str(&format!("{}{system}{}", around.before, around.after));
                    }
                    _ => {}
                }
            }
            text.push_str(&said(message));
            text.push_str(&turn.after);
        }
        text + &self.prompt
    }
}

/// A conversation in which so many users' turns are answered but for the last.
fn conversation(with_system: bool, users: usize) -> Vec<Value> {
    let mut messages = Vec::new();
    if with_system {
        messages.push(json!({"role": "system", "content": SYSTEM}));
    }
    for (n, user) in USERS.iter().take(users).enumerate() {
        if n > 0 {
            messages.push(json!({"role": "assistant", "content": ASSISTANTS[n - 1]}));
        }
        messages.push(json!({"role": "user", "content": user}));
    }
    messages
}

/// What stands in front of the only `needle` in a text, and behind it.
fn split<'a>(text: &'a str, needle: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(needle).filter(|(_, rest)| !rest.contains(needle))
}

/// The longest beginning of both.
fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let differs = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    &a[..differs]
}

/// The longest end of both that begins with a bracket, as tokens that mark turns do; else the longest of all.
fn common_marker<'a>(a: &'a str, b: &str) -> &'a str {
    let ends = |at: &usize| b.ends_with(&a[*at..]);
    let all = || a.char_indices().map(|(at, _)| at).filter(ends);
    let marked = all().find(|at| a[*at..].starts_with(['<', '[']));
    &a[marked.or_else(|| all().next()).unwrap_or(a.len())..]
}
