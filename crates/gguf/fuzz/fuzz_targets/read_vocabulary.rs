//! Any metadata: the vocabulary is read or refused; what is read becomes a `tokenizer.json` or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slmc_gguf::container::Header;
use slmc_gguf::vocabulary::Vocabulary;

fuzz_target!(|file: &[u8]| {
    let Ok(header) = Header::parse(file) else { return };
    let Ok(vocabulary) = Vocabulary::from_metadata(&header.metadata) else { return };
    let _ = vocabulary.to_tokenizer_json();
});
