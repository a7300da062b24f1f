//! Memory for results.

/// Bytes from which the pages of a buffer are worth a word to the system.
const LARGE: usize = 4 << 20;

/// A vector of `len` values for a kernel that writes every one of them.
///
/// Zeroing first would cost as much as the fastest kernels here. Large buffers are asked for in huge pages where
/// the system leaves that to programs: taking fresh memory page by page costs more than filling it.
///
/// # Safety
/// The caller writes all `len` values before reading any.
#[allow(clippy::uninit_vec)] // the point of it: see above
pub unsafe fn uninitialized(len: usize) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    ask_for_huge_pages(&values);
    // SAFETY: the capacity is there; the caller writes before it reads.
    unsafe { values.set_len(len) };
    values
}

#[cfg(target_os = "linux")]
fn ask_for_huge_pages(values: &Vec<f32>) {
    const PAGE: usize = 4096;
    let (start, bytes) = (values.as_ptr() as usize, values.capacity() * size_of::<f32>());
    if bytes < LARGE {
        return;
    }
    let (first, end) = (start.next_multiple_of(PAGE), (start + bytes) / PAGE * PAGE);
    // SAFETY: the range lies within the vector's own allocation, and the advice changes no content. A system that
    // does not take it is as good as before.
    unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: &Vec<f32>) {}

/// A pointer that tasks writing disjoint parts may share.
#[derive(Clone, Copy)]
pub struct Shared(pub *mut f32);

// SAFETY: users write disjoint elements only; each says why where it does.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The pointer, through the whole struct, so that closures capture that.
    pub fn get(self) -> *mut f32 {
        self.0
    }
}
