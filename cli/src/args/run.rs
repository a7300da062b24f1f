//! `slmc run`

use std::path::PathBuf;

use clap::Args;

/// Run the steps of a recipe, one after the other: prune, quantize, measure, hold against limits
///
/// What a step writes goes to the work directory, and the next step takes it from there. Finished steps are noted: after a failure, a
/// kill or Ctrl-C the same command goes on where it stopped, and a step whose options or inputs have changed is done again with all
/// behind it. A step that fails ends the run with its exit code.
#[derive(Debug, Args)]
#[command(after_help = "\
A recipe (TOML) names the original model and its steps. Options are spelled as the flags are and mean what they mean on the command
line, paths in the working directory; `true` stands for a flag without a value, a list for a flag given several times:

  model = \"models/tiny\"

  [[step]]
  command = \"prune\"
  sparsity = 0.5
  calibration = [\"bundled:english\"]

  [[step]]
  command = \"quantize\"
  method = \"gptq\"
  type = \"q4_0\"

  [[step]]
  command = \"gate\"
  max-kl = 0.5

A step's model is what the last step before it wrote, at first the recipe's model; eval, gate and bench compare with the recipe's model
(base = false: with nothing). `{NAME}` stands for what the step of that name wrote, `{model}` for the recipe's model, `{work}` for the
work directory; a step's name is its command unless it has a `name`.

Examples:
  slmc run recipe.toml
  slmc run recipe.toml --dry-run                the steps, and the plans of those that have one
  slmc run recipe.toml --work out --json        one object with the results of all steps")]
pub struct Run {
    /// The recipe
    pub recipe: PathBuf,
    /// Directory for what the steps write, and for what is finished [default: RECIPE.run in the working directory]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Do all steps again, finished or not
    #[arg(long, conflicts_with = "dry_run")]
    pub again: bool,
    /// Print the steps and their plans, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}
