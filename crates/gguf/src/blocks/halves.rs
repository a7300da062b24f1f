//! How the formats with blocks of 32 store 4- and 5-bit codes.

/// Sixteen bytes: byte l holds the low four bits of code l, then those of code l + 16.
#[inline(always)]
pub(super) fn pack_low(codes: &[u8; 32], out: &mut [u8]) {
    for l in 0..16 {
        out[l] = codes[l] & 15 | (codes[l + 16] & 15) << 4;
    }
}

/// The inverse of [`pack_low`].
#[inline(always)]
pub(super) fn unpack_low(bytes: &[u8], codes: &mut [u8; 32]) {
    for l in 0..16 {
        codes[l] = bytes[l] & 15;
        codes[l + 16] = bytes[l] >> 4;
    }
}

/// Four bytes, little-endian: bit l is the fifth bit of code l.
#[inline(always)]
pub(super) fn pack_fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let mut bits = 0;
    for (l, code) in codes.iter().enumerate() {
        bits |= u32::from(code >> 4) << l;
    }
    bits.to_le_bytes()
}

/// The inverse of [`pack_fifth_bits`]: adds the bits to codes that hold their low four.
#[inline(always)]
pub(super) fn unpack_fifth_bits(bytes: [u8; 4], codes: &mut [u8; 32]) {
    let bits = u32::from_le_bytes(bytes);
    for (l, code) in codes.iter_mut().enumerate() {
        *code |= ((bits >> l & 1) << 4) as u8;
    }
}
