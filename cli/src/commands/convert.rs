//! `slmc convert`

use slmc_pipeline::jobs::quantize::Prepared;

use super::quantize::print_modelfile;
use super::{failure, print_json};
use crate::args::convert::Convert;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::format::{bytes, seconds};
use crate::terminal::progress::Terminal;

pub fn run(args: &Convert, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<(), Failure> {
    let prepared = Prepared::new(resolver.convert(args)?).map_err(failure)?;
    let outcome = prepared.run(terminal).map_err(failure)?;
    if json {
        return print_json(&outcome);
    }
    println!("{}  {} in {}", outcome.output.display(), bytes(outcome.bytes), seconds(outcome.seconds));
    print_modelfile(outcome.modelfile.as_deref());
    Ok(())
}
