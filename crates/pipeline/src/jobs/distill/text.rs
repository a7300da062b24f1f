//! The text as sequences of tokens, and whether both models read it alike.

use slmc_calibration::{BatchOptions, Calibration, MeasuredText, Packing, TextSource};
use slmc_distill::DistillError;
use slmc_model::ModelConfig;

use super::DistillSettings;
use crate::PipelineError;
use crate::jobs::tokenized::Reader;
use crate::model_file::ModelFile;

/// Bytes of the text that both tokenizers are compared on.
const COMPARED: usize = 1 << 16;

/// Sequences that are held out of a text at most, and the share of it.
const HELD_OUT: usize = 32;
const HELD_OUT_SHARE: usize = 16;

/// Sequences of equal length.
pub struct Sequences {
    /// To train on.
    pub train: Vec<Vec<u32>>,
    /// To judge by.
    pub held_out: Vec<Vec<u32>>,
    /// Of all of them, SHA-256.
    pub hash: String,
}

impl Sequences {
    /// Tokenizes the texts with the student's tokenizer. Without a text to judge by, every so many of the sequences is held out.
    ///
    /// # Errors
    /// The text or the tokenizer cannot be read; too little text.
    pub fn new(
        student: &ModelFile,
        config: &ModelConfig,
        settings: &DistillSettings,
    ) -> Result<Self, PipelineError> {
        let all = |texts: &[TextSource]| -> Result<(Vec<Vec<u32>>, String), PipelineError> {
            let tokenizer = student.tokenizer(config.vocab_size)?;
            let template = student.chat_template(config.vocab_size)?;
            let mut documents = Vec::new();
            for text in texts {
                documents.extend(text.to_calibrate(template.as_ref())?);
            }
            let options = BatchOptions {
                samples: usize::MAX,
                seq_len: settings.seq_len,
                seed: settings.train.seed,
                packing: Packing::Packed,
                bos: tokenizer.bos(),
            };
            let batches = Calibration::build(&documents, &tokenizer, &options)?;
            Ok((batches.tokens, batches.hash))
        };
        let (mut train, mut hash) = all(&settings.texts)?;
        let held_out = match &settings.held_out {
            Some(text) => {
                let (mut sequences, other) = all(std::slice::from_ref(text))?;
                sequences.truncate(HELD_OUT);
                hash.push_str(&other);
                sequences
            }
            None => hold_out(&mut train),
        };
        Ok(Self { train, held_out, hash })
    }
}

impl Sequences {
    /// Whether there are enough for a step.
    ///
    /// # Errors
    /// There are not.
    pub fn check(&self, needed: usize, seq_len: usize) -> Result<(), DistillError> {
        if self.train.len() >= needed && !self.held_out.is_empty() {
            return Ok(());
        }
        let found = self.train.len() + self.held_out.len();
        Err(DistillError::TooLittleText { found, needed: needed + 1, seq_len })
    }
}

/// Takes evenly spaced sequences out.
fn hold_out(sequences: &mut Vec<Vec<u32>>) -> Vec<Vec<u32>> {
    let count = (sequences.len() / HELD_OUT_SHARE).clamp(usize::from(sequences.len() > 1), HELD_OUT);
    let every = sequences.len() / count.max(1);
    let (mut kept, mut out) = (Vec::new(), Vec::new());
    for (n, sequence) in std::mem::take(sequences).into_iter().enumerate() {
        let taken = out.len() < count && n % every == every / 2;
        if taken { &mut out } else { &mut kept }.push(sequence);
    }
    *sequences = kept;
    out
}

/// The number of entries of the vocabulary, from the first on, that mean the same tokens in both models.
///
/// # Errors
/// The tokenizers differ; entries that only one model has stand for tokens.
pub fn shared_vocabulary(
    student: &ModelFile,
    config: &ModelConfig,
    teacher: &ModelFile,
    teacher_config: &ModelConfig,
    texts: &[TextSource],
) -> Result<usize, PipelineError> {
    let [reader, other] = [(student, config), (teacher, teacher_config)]
        .map(|(file, config)| Reader::new(file, config.vocab_size));
    let (reader, other) = (reader?, other?);
    let mut text = texts.first().map(TextSource::to_measure).transpose()?.unwrap_or_default().text;
    text.truncate(text.floor_char_boundary(COMPARED));
    let whole = 0..text.len();
    let text = MeasuredText { text, documents: vec![whole] };
    let tokenized = reader.tokenize(&text)?;
    Ok(reader.compare(&other, &text, &tokenized)?.unwrap_or(config.vocab_size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_held_out_and_nothing_is_lost() {
        for total in 1..700usize {
            let mut train: Vec<Vec<u32>> = (0..total as u32).map(|n| vec![n]).collect();
            let held_out = hold_out(&mut train);
            assert_eq!(train.len() + held_out.len(), total);
            assert!(held_out.len() <= HELD_OUT && (total == 1 || !held_out.is_empty()), "{total}");
            let mut all: Vec<_> = train.iter().chain(&held_out).collect();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), total);
        }
    }
}
