//! Any bytes: the header parses or is refused; what parses can be planned again with the same shapes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slmc_gguf::container::{Header, Layout};

fuzz_target!(|file: &[u8]| {
    let Ok(header) = Header::parse(file) else { return };
    for tensor in &header.tensors {
        let start = header.data_offset + tensor.offset;
        assert!(start + tensor.byte_len() as u64 <= file.len() as u64);
        assert_eq!(tensor.rows() * tensor.row_bytes(), tensor.byte_len());
    }
    let tensors = header.tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), t.ty));
    let layout = Layout::new(header.metadata.clone(), tensors).expect("what was read can be written");
    assert_eq!(layout.tensors().len(), header.tensors.len());
});
