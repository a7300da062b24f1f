//! The process's memory: its peak, and what the allocator does with blocks as large as a tensor.

/// Peak resident set in bytes (mapped file pages included); `None` where the system does not tell.
///
/// Source: `getrusage(2)`, `ru_maxrss`, which is in KiB on Linux and in bytes on macOS.
pub fn peak_resident_bytes() -> Option<u64> {
    #[cfg(unix)]
    {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is valid for writes of one `rusage`, which is all the call does with it.
        let usage = unsafe {
            if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
                return None;
            }
            usage.assume_init()
        };
        let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
        u64::try_from(usage.ru_maxrss).ok().map(|n| n * unit)
    }
    #[cfg(not(unix))]
    None
}

/// Has the C library keep large freed blocks for the next tensor instead of giving them back to the system, which would
/// have to clear every page again: on models of gigabytes that costs more than reading them. Call it once, first of all;
/// it does nothing but on Linux with glibc.
///
/// Source: `mallopt(3)`, `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD`.
pub fn keep_freed_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the calls set two numbers of the allocator; it refuses those it does not take.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn peak_grows_with_touched_memory() {
        let before = super::peak_resident_bytes().unwrap();
        let block = vec![1u8; 64 << 20];
        std::hint::black_box(&block);
        assert!(super::peak_resident_bytes().unwrap() >= before.max(64 << 20));
    }
}
