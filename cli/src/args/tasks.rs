//! Which questions are asked: the same options wherever some are.

use std::path::PathBuf;

use clap::Args;
use slmc_pipeline::jobs::tasks::{Format, TaskSource};

#[derive(Debug, Args)]
#[command(next_help_heading = "Tasks")]
pub struct TaskArgs {
    /// Files of items, one JSON object a line, or bundled:smoke: questions with right answers
    #[arg(long, value_name = "FILE,…", value_delimiter = ',')]
    pub tasks: Vec<TaskSource>,
    /// Layout of the items: plain, arc, hellaswag, piqa, winogrande, mmlu, boolq, kobest_boolq, kobest_copa, kobest_wic,
    /// kobest_hellaswag, kobest_sentineg or generation [default: told by each file's fields]
    #[arg(long, value_name = "LAYOUT", value_parser = format)]
    pub task_format: Option<AnyFormat>,
    /// Examples with answers in front of each item: the first N others of the file [default: 0]
    #[arg(long, value_name = "N")]
    pub fewshot: Option<u32>,
    /// Take the examples from this file instead
    #[arg(long, value_name = "FILE", requires = "fewshot")]
    pub fewshot_file: Option<PathBuf>,
    /// Ask the first N items of each file only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// A layout, or whichever each file has.
#[derive(Clone, Copy, Debug)]
pub struct AnyFormat(pub Option<Format>);

fn format(name: &str) -> Result<AnyFormat, String> {
    if name == "auto" { Ok(AnyFormat(None)) } else { name.parse().map(|format| AnyFormat(Some(format))) }
}
