//! The hidden states of all calibration sequences in front of a block: in memory, or in a file where they would take too much.

mod spill;

use std::path::PathBuf;

use slmc_model::{BurnDevice, Tensor, host};

use crate::PipelineError;
use spill::SpillFile;

/// Where hidden states are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory.
    Memory,
    /// In an unnamed file of this directory, which is gone with the process.
    File(PathBuf),
}

/// Batches of hidden states, `[sequences, seq_len, hidden_size]` each, the sequences in calibration order. What is read is
/// bit for bit what was written, wherever it was kept.
pub struct HiddenStates {
    storage: Storage,
    device: BurnDevice,
    place: Place,
}

enum Place {
    Memory(Vec<Tensor<3>>),
    File { file: SpillFile, batches: Vec<Batch> },
}

/// Where a batch lies in the file.
#[derive(Clone, Copy)]
struct Batch {
    shape: [usize; 3],
    first: u64,
}

impl HiddenStates {
    /// No batches yet.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(storage: &Storage, device: &BurnDevice) -> Result<Self, PipelineError> {
        let place = match storage {
            Storage::Memory => Place::Memory(Vec::new()),
            Storage::File(directory) => {
                Place::File { file: SpillFile::create(directory)?, batches: Vec::new() }
            }
        };
        Ok(Self { storage: storage.clone(), device: device.clone(), place })
    }

    /// Adds a batch behind the others.
    ///
    /// # Errors
    /// The file cannot be written; the disk is full.
    pub fn push(&mut self, states: Tensor<3>) -> Result<(), PipelineError> {
        match &mut self.place {
            Place::Memory(batches) => batches.push(states),
            Place::File { file, batches } => {
                let first = batches.last().map_or(0, |last| last.first + last.values());
                let batch = Batch { shape: states.dims(), first };
                file.write(first, &host::into_vec(states))?;
                batches.push(batch);
            }
        }
        Ok(())
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        match &self.place {
            Place::Memory(batches) => batches.len(),
            Place::File { batches, .. } => batches.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Batch `index`.
    ///
    /// # Errors
    /// The file cannot be read.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn get(&self, index: usize) -> Result<Tensor<3>, PipelineError> {
        match &self.place {
            Place::Memory(batches) => Ok(batches[index].clone()),
            Place::File { file, batches } => {
                let batch = batches[index];
                let values = file.read(batch.first, batch.values() as usize)?;
                Ok(host::tensor(values, batch.shape, &self.device))
            }
        }
    }

    /// Puts what `step` makes of batch `index` in its place; it is handed over, so that a block can add onto it in place.
    ///
    /// # Errors
    /// The file cannot be read or written; `step` fails. The states are lost then.
    ///
    /// # Panics
    /// If there are fewer, or the shape becomes another.
    pub fn update(
        &mut self,
        index: usize,
        step: impl FnOnce(Tensor<3>) -> Result<Tensor<3>, PipelineError>,
    ) -> Result<(), PipelineError> {
        const SHAPE: &str = "hidden states keep their shape";
        match &mut self.place {
            Place::Memory(batches) => {
                let states = batches.remove(index);
                let shape = states.dims();
                batches.insert(index, step(states)?);
                assert_eq!(batches[index].dims(), shape, "{SHAPE}");
            }
            Place::File { batches, .. } => {
                let Batch { shape, first } = batches[index];
                let states = step(self.get(index)?)?;
                assert_eq!(states.dims(), shape, "{SHAPE}");
                let Place::File { file, .. } = &self.place else { unreachable!("it is in a file") };
                file.write(first, &host::into_vec(states))?;
            }
        }
        Ok(())
    }

    /// Shows every batch in turn.
    ///
    /// # Errors
    /// The file cannot be read; `look` fails.
    pub fn each(
        &self,
        mut look: impl FnMut(Tensor<3>) -> Result<(), PipelineError>,
    ) -> Result<(), PipelineError> {
        (0..self.len()).try_for_each(|index| look(self.get(index)?))
    }

    /// Tokens of all batches.
    pub fn tokens(&self) -> usize {
        let tokens = |[sequences, seq_len, _]: [usize; 3]| sequences * seq_len;
        match &self.place {
            Place::Memory(batches) => batches.iter().map(|states| tokens(states.dims())).sum(),
            Place::File { batches, .. } => batches.iter().map(|batch| tokens(batch.shape)).sum(),
        }
    }

    /// Values a token; 0 where there are no batches.
    pub fn width(&self) -> usize {
        match &self.place {
            Place::Memory(batches) => batches.first().map_or(0, |states| states.dims()[2]),
            Place::File { batches, .. } => batches.first().map_or(0, |batch| batch.shape[2]),
        }
    }

    /// Replaces every batch in turn by what `step` makes of it.
    ///
    /// # Errors
    /// As [`HiddenStates::update`].
    pub fn replace(
        &mut self,
        mut step: impl FnMut(Tensor<3>) -> Result<Tensor<3>, PipelineError>,
    ) -> Result<(), PipelineError> {
        (0..self.len()).try_for_each(|index| self.update(index, &mut step))
    }

    /// Every `step`-th batch once more, from the first on, kept in the same manner.
    ///
    /// # Errors
    /// The file cannot be read, or another not be written.
    pub fn every(&self, step: usize) -> Result<Self, PipelineError> {
        let mut copy = Self::new(&self.storage, &self.device)?;
        for index in (0..self.len()).step_by(step) {
            copy.push(self.get(index)?)?;
        }
        Ok(copy)
    }
}

impl Batch {
    fn values(&self) -> u64 {
        self.shape.iter().map(|&extent| extent as u64).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: f32, sequences: usize) -> Tensor<3> {
        let values = (0..sequences * 6).map(|i| first + i as f32 / 7.0).collect();
        host::tensor(values, [sequences, 2, 3], &BurnDevice::flex())
    }

    fn bits(states: &HiddenStates) -> Vec<Vec<u32>> {
        let values = |index| host::into_vec(states.get(index).unwrap());
        (0..states.len()).map(|index| values(index).into_iter().map(f32::to_bits).collect()).collect()
    }

    #[test]
    fn a_file_keeps_what_memory_keeps() {
        let directory = tempfile::tempdir().unwrap();
        let kept = [Storage::Memory, Storage::File(directory.path().to_owned())].map(|storage| {
            let mut states = HiddenStates::new(&storage, &BurnDevice::flex()).unwrap();
            assert!(states.is_empty());
            states.push(batch(-1.0, 2)).unwrap();
            states.push(batch(f32::MIN_POSITIVE / 2.0, 2)).unwrap();
            states.push(batch(3.0, 1)).unwrap();
            let copy = states.every(2).unwrap();
            assert_eq!(copy.len(), 2);
            states.replace(|states| Ok(states * 3.0)).unwrap();
            assert_eq!((states.len(), states.width(), states.tokens()), (3, 3, 10));
            states.update(1, |_| Ok(batch(f32::MAX, 2))).unwrap();
            (bits(&states), bits(&copy))
        });
        assert_eq!(kept[0], kept[1]);
        assert_ne!(kept[0].0, kept[0].1);
        // nothing with a name
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let storage = Storage::File("/nowhere/at/all".into());
        let error = HiddenStates::new(&storage, &BurnDevice::flex()).err().unwrap().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }
}
