//! Turns as a template of Go's `text/template`, as Ollama fills it in.
//!
//! Ollama gives a template `.Messages`, in which neighbours of one role are joined, and `.System`, the system messages joined. An
//! assistant's message that stands last is one to be continued: nothing follows its content.

use super::turns::{Around, System, Turns};

/// The template. `bos` is the beginning of the text that Ollama puts there by itself, where it does.
///
/// # Errors
/// Why it cannot be said so, for a person to read.
pub(super) fn template(turns: &Turns, bos: Option<&str>) -> Result<String, String> {
    let mut turns = turns.clone();
    if let Some(bos) = bos {
        drop_bos(&mut turns, bos)?;
    }
    let Turns { head, system, user, assistant, prompt } = &turns;
    let mut out = String::new();
    match system {
        System::First(around) => {
            let otherwise =
                if head.is_empty() { String::new() } else { format!("{{{{ else }}}}{}", literal(head)) };
            out += &format!("{{{{ if .System }}}}{}{otherwise}{{{{ end }}}}", wrapped(around, ".System"));
        }
        _ => out += &literal(head),
    }
    let inside = match system {
        System::InFirstUser(around) => conditional("and $.System (le $i 1)", around),
        System::InLastUser(around) => conditional("and $.System $last", around),
        System::First(_) | System::Refused => String::new(),
    };
    out += "{{ range $i, $message := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}";
    out += &format!(
        "{{{{ if eq .Role \"user\" }}}}{}{inside}{{{{ .Content }}}}{}",
        literal(&user.before),
        literal(&user.after)
    );
    out += &format!(
        "{{{{ else if eq .Role \"assistant\" }}}}{}{{{{ .Content }}}}{{{{ if not $last }}}}{}{{{{ end }}}}{{{{ end }}}}",
        literal(&assistant.before),
        literal(&assistant.after)
    );
    if !prompt.is_empty() {
        let prompt = literal(prompt);
        out += &format!("{{{{ if and $last (ne .Role \"assistant\") }}}}{prompt}{{{{ end }}}}");
    }
    out += "{{ end }}";
    // the file has it between three quotes, and lines ended as its own are
    if out.contains("\"\"\"") || out.contains('\r') {
        return Err("the model's template has characters that a Modelfile cannot hold".into());
    }
    Ok(out)
}

/// Takes the beginning of the text out, which would stand there twice.
fn drop_bos(turns: &mut Turns, bos: &str) -> Result<(), String> {
    if let Some(rest) = turns.head.strip_prefix(bos) {
        turns.head = rest.to_owned();
        if let System::First(around) = &mut turns.system {
            match around.before.strip_prefix(bos) {
                Some(rest) => around.before = rest.to_owned(),
                None => return Err(format!("the model's template begins with {bos} at times only")),
            }
        }
    }
    if turns.head.is_empty() && turns.user.before.contains(bos) {
        return Err(format!(
            "the model's template begins every turn with {bos}, which Ollama puts in front by itself"
        ));
    }
    Ok(())
}

fn wrapped(around: &Around, value: &str) -> String {
    format!("{}{{{{ {value} }}}}{}", literal(&around.before), literal(&around.after))
}

fn conditional(condition: &str, around: &Around) -> String {
    format!("{{{{ if {condition} }}}}{}{{{{ end }}}}", wrapped(around, "$.System"))
}

/// Text as a template says it: two opening braces would begin an action, and one would before an action.
fn literal(text: &str) -> String {
    text.replace('{', "{{ \"{\" }}")
}
