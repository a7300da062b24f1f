//! `slmc run`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};
use slmc_pipeline::progress::Reporter;
use slmc_pipeline::work::Fingerprint;

use super::print_json;
use crate::args::Global;
use crate::args::run::Run;
use crate::failure::Failure;
use crate::recipe::execute::execute;
use crate::recipe::journal::Journal;
use crate::recipe::{Recipe, Step};
use crate::resolve::Resolver;
use crate::settings::FILE_NAME;
use crate::terminal::format::seconds;
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

pub fn run(
    args: &Run,
    global: &Global,
    resolver: &Resolver,
    terminal: &Terminal,
) -> Result<ExitCode, Failure> {
    let work = args.work.clone().unwrap_or_else(|| default_work(&args.recipe));
    let recipe = Recipe::read(&args.recipe, &work, resolver.model(None).ok().as_deref())?;
    if args.dry_run {
        return plan(&recipe, global, terminal);
    }
    let settings = settings(global)?;
    let mut journal = Journal::open(&work)?;
    let mut told = Vec::new();
    let mut skips = !args.again;
    for (n, step) in recipe.steps.iter().enumerate() {
        let finished = if skips { journal.finished(n, step, &settings) } else { None };
        if let Some(done) = finished {
            terminal.note(&format!("{}: finished before", headline(&recipe, n, step)));
            told.push(Told {
                step,
                seconds: done.seconds,
                skipped: true,
                code: 0,
                result: done.result.clone(),
            });
            continue;
        }
        skips = false;
        let resumes = journal.begin(n, step, &settings, !args.again)?;
        terminal.note(&format!("{}: {}", headline(&recipe, n, step), step.typed()));
        let mut arguments = with_globals(&step.arguments, global);
        arguments.extend(resumes.then(|| "--resume".to_owned()));
        let started = Instant::now();
        let ended = execute(&arguments, global.json, terminal)?;
        let (elapsed, result) = (started.elapsed().as_secs_f64(), serde_json::from_str(&ended.printed).ok());
        if ended.code != 0 {
            told.push(Told { step, seconds: elapsed, skipped: false, code: ended.code, result });
            if global.json {
                print_json(&outcome(args, &work, &told))?;
            }
            let code = if terminal.is_cancelled() { super::INTERRUPTED } else { ended.code };
            return Err(stopped(args, step, code));
        }
        journal.finish(step, &settings, elapsed, result.clone())?;
        told.push(Told { step, seconds: elapsed, skipped: false, code: 0, result });
        if terminal.is_cancelled() {
            return Err(stopped(args, step, super::INTERRUPTED));
        }
    }
    if global.json {
        print_json(&outcome(args, &work, &told))?;
    } else {
        print(&told);
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of a step.
struct Told<'a> {
    step: &'a Step,
    seconds: f64,
    skipped: bool,
    code: u8,
    result: Option<Value>,
}

fn headline(recipe: &Recipe, n: usize, step: &Step) -> String {
    format!("step {} of {}, {}", n + 1, recipe.steps.len(), step.name)
}

fn stopped(args: &Run, step: &Step, code: u8) -> Failure {
    let why = match code {
        super::INTERRUPTED => "was interrupted".to_owned(),
        3 if step.arguments[0] == "gate" => "found a regression".to_owned(),
        4 if step.arguments[0] == "gate" => "cannot decide".to_owned(),
        code => format!("failed with exit code {code}"),
    };
    let recipe = args.recipe.display();
    Failure::ended(code, format!("step `{}` {why}", step.name)).help(format!(
        "What is finished is kept: `slmc run {recipe}` goes on with this step, or from the first one whose options or inputs you change."
    ))
}

fn outcome(args: &Run, work: &Path, told: &[Told<'_>]) -> Value {
    let steps = told.iter().map(|told| {
        json!({
            "name": told.step.name,
            "arguments": told.step.arguments,
            "output": told.step.output,
            "finished_before": told.skipped,
            "exit_code": told.code,
            "seconds": told.seconds,
            "result": told.result,
        })
    });
    json!({ "recipe": args.recipe, "work": work, "steps": steps.collect::<Vec<_>>() })
}

fn print(told: &[Told<'_>]) {
    let rows = told.iter().map(|told| {
        let output = told.step.output.as_ref().map_or_else(String::new, |path| path.display().to_string());
        let when = if told.skipped { "finished before".to_owned() } else { seconds(told.seconds) };
        [told.step.name.clone(), output, when]
    });
    println!("{}", table(["step", "output", "time"], rows));
}

/// The steps and their plans; where a step's model is not there yet, on what it will be made from.
fn plan(recipe: &Recipe, global: &Global, terminal: &Terminal) -> Result<ExitCode, Failure> {
    let mut plans = Vec::new();
    for (n, step) in recipe.steps.iter().enumerate() {
        if !global.json {
            println!("{}: {}", headline(recipe, n, step), step.typed());
        }
        let mut result = None;
        if step.plans {
            let there = step.lineage.iter().find(|path| path.is_dir());
            let mut arguments = with_globals(&step.arguments, global);
            if let (Some(model), Some(there)) = (step.lineage.first(), there)
                && model != there
            {
                let name = model.display().to_string();
                arguments.iter_mut().filter(|a| **a == name).for_each(|a| *a = there.display().to_string());
                if !global.json {
                    println!("({} is not there yet: the plan is for {})", model.display(), there.display());
                }
            }
            arguments.push("--dry-run".into());
            let ended = execute(&arguments, global.json, terminal)?;
            if ended.code != 0 {
                return Err(Failure::ended(ended.code, format!("step `{}` cannot be planned", step.name)));
            }
            result = serde_json::from_str::<Value>(&ended.printed).ok();
        }
        if !global.json {
            println!();
        }
        plans.push(
            json!({ "name": step.name, "arguments": step.arguments, "output": step.output, "plan": result }),
        );
    }
    if global.json {
        print_json(&json!({ "steps": plans }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn default_work(recipe: &Path) -> PathBuf {
    let name = recipe.file_stem().map_or_else(|| "recipe".into(), |name| name.to_string_lossy());
    PathBuf::from(format!("{name}.run"))
}

/// A step's arguments with the run's own options in front.
fn with_globals(arguments: &[String], global: &Global) -> Vec<String> {
    let mut all = arguments.to_vec();
    if let Some(config) = &global.config {
        all.push(format!("--config={}", config.display()));
    }
    all.extend(global.threads.map(|n| format!("--threads={n}")));
    all.extend(global.json.then(|| "--json".to_owned()));
    all.extend(global.quiet.then(|| "--quiet".to_owned()));
    all
}

/// What all steps depend on: this version, and the settings file.
fn settings(global: &Global) -> Result<Fingerprint, Failure> {
    let mut settings = Fingerprint::default();
    settings.value("slmc's version", env!("CARGO_PKG_VERSION"));
    let path = global.config.clone().unwrap_or_else(|| FILE_NAME.into());
    if path.is_file() {
        settings.path(&path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    }
    Ok(settings)
}
