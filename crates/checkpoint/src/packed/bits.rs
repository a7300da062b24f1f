//! Codes in 32-bit words without a gap: code i begins at bit i · bits, counted from the lowest bit of the first word. In a
//! little-endian file that is one run of bits.

/// Bytes of a word.
pub const WORD_BYTES: usize = 4;

/// Words that `count` codes take.
pub fn words(count: usize, bits: u32) -> usize {
    // by 32 codes, which are `bits` whole words: no product that could overflow
    count / 32 * bits as usize + (count % 32 * bits as usize).div_ceil(32)
}

/// Packs codes below 2^bits; what is left of the last word is zero.
///
/// # Panics
/// If `out` has not the bytes of [`words`], or `bits` is not 1 to 8.
pub fn pack(codes: &[u8], bits: u32, out: &mut [u8]) {
    assert!((1..=8).contains(&bits) && out.len() == words(codes.len(), bits) * WORD_BYTES);
    out.fill(0);
    // eight codes are `bits` whole bytes
    for (codes, out) in codes.chunks(8).zip(out.chunks_mut(bits as usize)) {
        let run = codes.iter().rev().fold(0u64, |run, code| run << bits | u64::from(*code));
        out.copy_from_slice(&run.to_le_bytes()[..out.len()]);
    }
}

/// The inverse of [`pack`].
///
/// # Panics
/// If `bytes` has not the bytes of [`words`], or `bits` is not 1 to 8.
pub fn unpack(bytes: &[u8], bits: u32, codes: &mut [u8]) {
    assert!((1..=8).contains(&bits) && bytes.len() == words(codes.len(), bits) * WORD_BYTES);
    let mask = (1u64 << bits) - 1;
    for (bytes, codes) in bytes.chunks(bits as usize).zip(codes.chunks_mut(8)) {
        let mut run = [0; 8];
        run[..bytes.len()].copy_from_slice(bytes);
        let run = u64::from_le_bytes(run);
        for (i, code) in codes.iter_mut().enumerate() {
            *code = (run >> (i as u32 * bits) & mask) as u8;
        }
    }
}

/// The code at `index` of a run whose words `word` gives.
pub fn code_at(index: usize, bits: u32, word: impl Fn(usize) -> u32) -> u8 {
    let (first, shift) =
        ((index / 32 * bits as usize) + index % 32 * bits as usize / 32, index % 32 * bits as usize % 32);
    let mut run = u64::from(word(first));
    if shift + bits as usize > 32 {
        run |= u64::from(word(first + 1)) << 32;
    }
    (run >> shift & ((1 << bits) - 1)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_unpacking_is_the_identity() {
        for bits in 1..=8 {
            for count in [1, 7, 8, 31, 32, 33, 576] {
                let codes: Vec<u8> = (0..count).map(|i| (i * 37 % (1 << bits)) as u8).collect();
                let mut packed = vec![0xff; words(count, bits) * WORD_BYTES];
                pack(&codes, bits, &mut packed);
                let mut unpacked = vec![0xff; count];
                unpack(&packed, bits, &mut unpacked);
                assert_eq!(codes, unpacked, "{count} codes of {bits} bits");
                let word = |n: usize| u32::from_le_bytes(packed.as_chunks().0[n]);
                let single: Vec<u8> = (0..count).map(|i| code_at(i, bits, word)).collect();
                assert_eq!(codes, single, "{count} codes of {bits} bits");
            }
        }
    }
}
