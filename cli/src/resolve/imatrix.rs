//! `slmc imatrix`.

use slmc_pipeline::jobs::imatrix::ImatrixSettings;

use super::Resolver;
use super::output::in_working_directory;
use crate::args::imatrix::Imatrix;
use crate::failure::Failure;

impl Resolver {
    pub fn imatrix(&self, args: &Imatrix) -> Result<ImatrixSettings, Failure> {
        let model = self.model(args.model.as_deref())?;
        let output = args.output.clone().unwrap_or_else(|| {
            let named = if model.is_dir() { model.clone() } else { model.with_extension("") };
            in_working_directory(&named, ".imatrix.gguf")
        });
        Ok(ImatrixSettings {
            calibration: self.calibration(&args.calibration),
            batches: self.batches(&args.calibration),
            all: args.all,
            device: self.device(args.device.as_deref())?,
            output,
            model,
        })
    }
}
