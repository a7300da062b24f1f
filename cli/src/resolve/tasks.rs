//! Tasks of any command.

use slmc_pipeline::jobs::tasks::{TaskSource, Tasks};

use crate::args::tasks::TaskArgs;
use crate::failure::Failure;

/// The questions that were named, or those of the settings file; `None` where neither names any.
pub(super) fn tasks(args: &TaskArgs, written: &[TaskSource]) -> Result<Option<Tasks>, Failure> {
    let sources = if args.tasks.is_empty() { written.to_vec() } else { args.tasks.clone() };
    if sources.is_empty() {
        if args.task_format.is_some() || args.fewshot.is_some() || args.limit.is_some() {
            return Err(Failure::usage("options of tasks, but no tasks").help(
                "Name the files of items with --tasks FILE, or the bundled ones with --tasks bundled:smoke.",
            ));
        }
        return Ok(None);
    }
    Ok(Some(Tasks {
        sources,
        format: args.task_format.and_then(|format| format.0),
        fewshot: args.fewshot.unwrap_or(0) as usize,
        fewshot_file: args.fewshot_file.clone(),
        limit: args.limit.map(|n| n as usize),
    }))
}
