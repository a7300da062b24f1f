//! Recipes: steps that are commands, each working on what the ones before it wrote.

mod commands;
pub mod execute;
pub mod journal;

use std::path::{Path, PathBuf};

use clap::Parser;
use serde::Deserialize;
use toml::{Table, Value};

use crate::args::Cli;
use crate::failure::Failure;
use commands::{Known, NAMES, Output, known};

/// Options that are the run's, not a step's.
const NOT_OPTIONS: [&str; 8] = ["json", "threads", "config", "quiet", "dry-run", "resume", "help", "version"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Option<PathBuf>,
    #[serde(default)]
    step: Vec<Table>,
}

/// A recipe with every name resolved.
#[derive(Debug)]
pub struct Recipe {
    pub steps: Vec<Step>,
}

/// One command of a recipe.
#[derive(Debug)]
pub struct Step {
    pub name: String,
    /// What follows `slmc` on the command line.
    pub arguments: Vec<String>,
    /// What it writes for later steps.
    pub output: Option<PathBuf>,
    /// Models it is given, the nearest first: what it works on, and what that is made from.
    pub lineage: Vec<PathBuf>,
    pub resumes: bool,
    pub plans: bool,
}

/// What `{…}` stands for.
struct Names(Vec<(String, PathBuf)>);

impl Names {
    /// A value with the names in it replaced; braces around anything else stay, as regular expressions have them.
    fn resolve(&self, text: &str) -> Result<String, String> {
        let whole = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(name) = whole.filter(|name| !self.0.iter().any(|(known, _)| known == name)) {
            let known: Vec<_> = self.0.iter().map(|(name, _)| format!("{{{name}}}")).collect();
            return Err(format!("no step before this one writes `{name}`; known are {}", known.join(", ")));
        }
        Ok(self.0.iter().fold(text.to_owned(), |text, (name, path)| {
            text.replace(&format!("{{{name}}}"), &path.display().to_string())
        }))
    }
}

impl Recipe {
    /// Reads a recipe and checks every step's options, before anything is run. `model` stands in where the recipe names none.
    pub fn read(path: &Path, work: &Path, model: Option<&Path>) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Failure::failed(format!("{}: {source}", path.display())))?;
        Self::parse(&text, work, model)
            .map_err(|reason| Failure::usage(format!("{}: {reason}", path.display())))
    }

    fn parse(text: &str, work: &Path, model: Option<&Path>) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let original = file.model.or_else(|| model.map(Path::to_path_buf)).ok_or(
            "no model: name it with `model = \"path/to/checkpoint\"` in front of the steps, or in slmc.toml",
        )?;
        if file.step.is_empty() {
            return Err("no steps: a step begins with `[[step]]` and has a `command`".into());
        }
        let mut names = Names(vec![("model".into(), original.clone()), ("work".into(), work.to_path_buf())]);
        // models, each with what it was made from
        let mut made: Vec<(PathBuf, Vec<PathBuf>)> = vec![(original.clone(), vec![original.clone()])];
        let mut steps = Vec::new();
        for (n, options) in file.step.into_iter().enumerate() {
            let step = Step::new(options, &names, &made, (&original, work))
                .map_err(|(name, reason)| format!("step {}{name}: {reason}", n + 1))?;
            let Some((step, known)) = step else { unreachable!("a step is made or refused") };
            if names.0.iter().any(|(name, _)| *name == step.name) {
                let reason = "give each a `name` of its own";
                return Err(format!("step {}: there is a `{}` already; {reason}", n + 1, step.name));
            }
            if let Some(output) = &step.output {
                names.0.push((step.name.clone(), output.clone()));
                if matches!(known.output, Output::Model(_)) {
                    let lineage = [&[output.clone()][..], &step.lineage].concat();
                    made.push((output.clone(), lineage));
                }
            } else {
                // the name is taken, though it stands for nothing
                if steps.iter().any(|other: &Step| other.name == step.name) {
                    return Err(format!(
                        "step {}: there is a `{}` already; give each a `name` of its own",
                        n + 1,
                        step.name
                    ));
                }
            }
            steps.push(step);
        }
        Ok(Self { steps })
    }
}

impl Step {
    /// An error comes with the step's name, as far as it is known.
    #[allow(clippy::type_complexity)] // only here
    fn new(
        mut options: Table,
        names: &Names,
        made: &[(PathBuf, Vec<PathBuf>)],
        (original, work): (&Path, &Path),
    ) -> Result<Option<(Self, Known)>, (String, String)> {
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let command = text(options.remove("command"))
            .ok_or_else(|| (String::new(), format!("no `command`; it can be one of {}", NAMES.join(", "))))?;
        let name = text(options.remove("name")).unwrap_or_else(|| command.clone());
        let failed = |reason: String| (format!(", `{name}`"), reason);
        if name.is_empty() || name.contains(['/', '\\', '{', '}']) || name.starts_with('.') {
            return Err(failed(
                "a name is part of a file name and can have no slashes, braces or dots in front".into(),
            ));
        }
        // as slmc.toml spells them
        let mut options: Table =
            options.into_iter().map(|(key, value)| (key.replace('_', "-"), value)).collect();
        let known = known(&command, &options).ok_or_else(|| {
            failed(format!("`{command}` cannot be a step; it can be one of {}", NAMES.join(", ")))
        })?;
        if let Some(option) = NOT_OPTIONS.iter().find(|option| options.contains_key(**option)) {
            return Err(failed(format!("`{option}` is no option of a step: give it to `slmc run` itself")));
        }
        let given = options.remove(known.model.unwrap_or("model"));
        let model = match given {
            None => made.last().map(|(path, _)| path.clone()).unwrap_or_default(),
            Some(Value::String(text)) => names.resolve(&text).map_err(failed)?.into(),
            Some(other) => return Err(failed(format!("`model` is {other}, expected a path or {{NAME}}"))),
        };
        let lineage = made.iter().find(|(path, _)| *path == model);
        let lineage = lineage.map_or_else(|| vec![model.clone()], |(_, lineage)| lineage.clone());
        let mut arguments = vec![command.clone()];
        let model = model.display().to_string();
        match known.model {
            None => arguments.push(model),
            Some(option) => arguments.extend([format!("--{option}"), model]),
        }
        if let Some(base) = known.base {
            match options.get(base) {
                None => {
                    options.insert(base.into(), Value::String(original.display().to_string()));
                }
                Some(Value::Boolean(false)) => {
                    options.remove(base);
                }
                Some(_) => {}
            }
        }
        let ending = match known.output {
            Output::Model(ending) | Output::Other(ending) => Some(ending),
            Output::Nothing => None,
        };
        let mut output = None;
        if let Some(ending) = ending {
            let path = match text(options.remove("output")) {
                Some(path) => PathBuf::from(names.resolve(&path).map_err(failed)?),
                None => work.join(format!("{name}{ending}")),
            };
            arguments.extend(["--output".into(), path.display().to_string()]);
            output = Some(path);
        }
        for (option, value) in options {
            add(&mut arguments, &option, value, names).map_err(failed)?;
        }
        let typed = std::iter::once("slmc").chain(arguments.iter().map(String::as_str));
        Cli::try_parse_from(typed).map_err(|error| {
            let told = error.to_string();
            let told = told.split("\n\nUsage:").next().unwrap_or_default().trim();
            failed(told.strip_prefix("error: ").unwrap_or(told).to_owned())
        })?;
        let Known { resumes, plans, .. } = known;
        Ok(Some((Self { name, arguments, output, lineage, resumes, plans }, known)))
    }

    /// The command as it would be typed.
    pub fn typed(&self) -> String {
        let quoted = |argument: &String| {
            let plain = |c: char| c.is_alphanumeric() || "-_./:=%,+@".contains(c);
            match !argument.is_empty() && argument.chars().all(plain) {
                true => argument.clone(),
                false => format!("'{}'", argument.replace('\'', r"'\''")),
            }
        };
        let arguments: Vec<_> = self.arguments.iter().map(quoted).collect();
        format!("slmc {}", arguments.join(" "))
    }
}

/// Adds an option as it would be typed. Values stand behind `=`, so that none is taken for a flag.
fn add(arguments: &mut Vec<String>, option: &str, value: Value, names: &Names) -> Result<(), String> {
    match value {
        Value::Boolean(true) => arguments.push(format!("--{option}")),
        Value::Boolean(false) => {}
        Value::String(text) => arguments.push(format!("--{option}={}", names.resolve(&text)?)),
        Value::Integer(_) | Value::Float(_) => arguments.push(format!("--{option}={value}")),
        Value::Array(values) => {
            values.into_iter().try_for_each(|value| add(arguments, option, value, names))?
        }
        Value::Datetime(_) | Value::Table(_) => {
            return Err(format!("`{option}` is {value}, expected a text, a number, true, false or a list"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
model = "m"
[[step]]
command = "prune"
sparsity = 0.5
keep = ["blk.{2}", "ffn_down"]
[[step]]
command = "quantize"
method = "gptq"
bits = 4
act_order = true
[[step]]
name = "dense"
command = "quantize"
model = "{model}"
[[step]]
command = "eval"
model = "{quantize}"
report = "{work}/told"
[[step]]
command = "gate"
base = false
max-kl = 1
"#;

    fn typed(recipe: &str) -> Result<Vec<String>, String> {
        let recipe = Recipe::parse(recipe, Path::new("w"), None)?;
        Ok(recipe.steps.iter().map(Step::typed).collect())
    }

    #[test]
    fn steps_work_on_what_earlier_ones_wrote() {
        assert_eq!(
            typed(RECIPE).unwrap(),
            [
                "slmc prune m --output w/prune '--keep=blk.{2}' --keep=ffn_down --sparsity=0.5",
                "slmc quantize w/prune --output w/quantize.gguf --act-order --bits=4 --method=gptq",
                "slmc quantize m --output w/dense.gguf",
                "slmc eval w/quantize.gguf --base=m --report=w/told",
                "slmc gate w/dense.gguf --max-kl=1",
            ]
        );
        let recipe = Recipe::parse(RECIPE, Path::new("w"), None).unwrap();
        assert_eq!(recipe.steps[3].lineage, ["w/quantize.gguf", "w/prune", "m"].map(PathBuf::from));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_step() {
        let wrong = |recipe: &str, reason: &str| {
            let told = typed(recipe).unwrap_err();
            assert!(told.contains(reason), "{told}");
        };
        wrong("", "no model");
        wrong("model = 'm'", "no steps");
        wrong("model = 'm'\nmodell = 'm'", "modell");
        let step = |step: &str| format!("model = 'm'\n[[step]]\n{step}");
        wrong(&step("sparsity = 1"), "step 1: no `command`");
        wrong(&step("command = 'compare'"), "step 1, `compare`: `compare` cannot be a step");
        wrong(&step("command = 'prune'"), "--sparsity");
        wrong(&step("command = 'prune'\nsparsty = 0.5"), "unexpected argument '--sparsty");
        wrong(&step("command = 'eval'\nmodel = '{prune}'"), "no step before this one writes `prune`");
        wrong(&step("command = 'eval'\njson = true"), "give it to `slmc run` itself");
        wrong(&step("command = 'eval'\nname = '../x'"), "a name is part of a file name");
        wrong(&step("command = 'quantize'\n[[step]]\ncommand = 'quantize'"), "there is a `quantize` already");
        wrong(&step("command = 'eval'\n[[step]]\ncommand = 'eval'"), "there is a `eval` already");
    }
}
