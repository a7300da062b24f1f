//! The text as sequences of tokens, and whether both models read it alike.

use sha2::{Digest, Sha256};
use slmc_calibration::{MeasuredText, TextSource, Tokenizer, TrainingTokens, tokenize_to_train};
use slmc_distill::{DistillError, Document, Sequence};
use slmc_model::ModelConfig;

use crate::PipelineError;
use crate::jobs::tokenized::Reader;
use crate::model_file::ModelFile;

/// Bytes of the text that both tokenizers are compared on.
const COMPARED: usize = 1 << 16;

/// Sequences that are held out of a text at most, and the share of it.
const HELD_OUT: usize = 32;
const HELD_OUT_SHARE: usize = 16;

/// What is read, and how.
pub struct Reading<'a> {
    /// Text to train on.
    pub texts: &'a [TextSource],
    /// Text to judge by; `None` to hold out a part of the other.
    pub held_out: Option<&'a TextSource>,
    /// Whether all of a conversation is learned.
    pub all_tokens: bool,
    /// Tokens of a sequence.
    pub seq_len: usize,
}

/// Sequences of equal length.
pub struct Sequences {
    /// To train on.
    pub train: Vec<Sequence>,
    /// To judge by.
    pub held_out: Vec<Sequence>,
    /// Of all of them, SHA-256: tokens, what is to be predicted, and where documents begin.
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
        settings: &Reading<'_>,
    ) -> Result<Self, PipelineError> {
        let tokenizer = student.tokenizer(config.vocab_size)?;
        let template = student.chat_template(config.vocab_size)?;
        let all = |texts: &[TextSource]| -> Result<Vec<Sequence>, PipelineError> {
            let mut documents = Vec::new();
            for text in texts {
                documents.extend(match settings.all_tokens {
                    true => text.to_calibrate(template.as_ref())?,
                    false => text.to_train(template.as_ref())?,
                });
            }
            let tokens = tokenize_to_train(&documents, &tokenizer)?.into_iter();
            let documents: Vec<Document> =
                tokens.map(|TrainingTokens { ids, learned }| Document { tokens: ids, learned }).collect();
            Ok(Sequence::pack(&documents, settings.seq_len, tokenizer.bos()))
        };
        let mut train = all(settings.texts)?;
        let held_out = match settings.held_out {
            Some(text) => evenly_spaced(all(std::slice::from_ref(text))?, HELD_OUT),
            None => hold_out(&mut train),
        };
        let hash = hash_of(&train, &held_out, settings.seq_len);
        Ok(Self { train, held_out, hash })
    }
}

/// `count` of the sequences at most, evenly spaced.
fn evenly_spaced(mut sequences: Vec<Sequence>, count: usize) -> Vec<Sequence> {
    let (available, mut n) = (sequences.len(), 0);
    sequences.retain(|_| {
        n += 1;
        available <= count || (n * count) / available > ((n - 1) * count) / available
    });
    sequences
}

/// SHA-256, in hexadecimal, over the line `slmc training 1`, then as little-endian u64 the tokens of a sequence and the numbers of sequences
/// to train on and to judge by; then of each its token ids and its labels as little-endian u32 (2³² − 1 for none), the number of its
/// documents and where they begin as u64.
fn hash_of(train: &[Sequence], held_out: &[Sequence], seq_len: usize) -> String {
    fn add(hash: &mut Sha256, numbers: &[usize]) {
        numbers.iter().for_each(|&n| hash.update((n as u64).to_le_bytes()));
    }
    let mut hash = Sha256::new();
    hash.update("slmc training 1\n");
    add(&mut hash, &[seq_len, train.len(), held_out.len()]);
    for Sequence { tokens, labels, documents } in train.iter().chain(held_out) {
        tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        labels.iter().for_each(|label| hash.update(label.unwrap_or(u32::MAX).to_le_bytes()));
        add(&mut hash, &[documents.len()]);
        add(&mut hash, documents);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
fn hold_out(sequences: &mut Vec<Sequence>) -> Vec<Sequence> {
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

/// SHA-256, in hexadecimal, over every token's id as little-endian u32, the length of its spelling as u32, and the spelling.
pub fn tokenizer_hash(tokenizer: &Tokenizer) -> String {
    let mut hash = Sha256::new();
    for (id, token) in tokenizer.vocabulary() {
        hash.update(id.to_le_bytes());
        hash.update((token.len() as u32).to_le_bytes());
        hash.update(token);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
    let shared = reader.compare(&other, &text, &tokenized)?.unwrap_or(config.vocab_size);
    // Tokens that the text lacks are predicted, too.
    reader.compare_tokens(&other)?;
    Ok(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_held_out_and_nothing_is_lost() {
        for total in 1..700usize {
            let mut train: Vec<Sequence> = (0..total as u32).map(|n| vec![n].into()).collect();
            let held_out = hold_out(&mut train);
            assert_eq!(train.len() + held_out.len(), total);
            assert!(held_out.len() <= HELD_OUT && (total == 1 || !held_out.is_empty()), "{total}");
            let mut all: Vec<_> = train.iter().chain(&held_out).map(|sequence| sequence.tokens[0]).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), total);
            let few = evenly_spaced((0..total as u32).map(|n| vec![n].into()).collect(), HELD_OUT);
            assert_eq!(few.len(), total.min(HELD_OUT));
        }
    }
}
