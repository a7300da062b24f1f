//! The process's memory: what it has and what a run will need, and what the allocator does with blocks as large as a tensor.

mod budget;
mod size;

pub use budget::{BudgetError, Demands, Footing, Workload};
pub use size::{ByteSize, ByteSizeError};

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

/// Resident set in bytes as it is now; where the system does not tell, its peak.
///
/// Source: `proc_pid_statm(5)`, whose second field counts pages.
pub fn resident_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    if let Ok(text) = std::fs::read_to_string("/proc/self/statm")
        && let Some(pages) = text.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok())
    {
        return Some(pages * page_bytes()?);
    }
    peak_resident_bytes()
}

/// The machine's memory in bytes; `None` where the system does not tell.
///
/// Source: `sysconf(3)`, `_SC_PHYS_PAGES`.
pub fn installed_bytes() -> Option<u64> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        // SAFETY: the call takes a number and gives one.
        let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
        u64::try_from(pages).ok().and_then(|pages| Some(pages * page_bytes()?))
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    None
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
fn page_bytes() -> Option<u64> {
    // SAFETY: as above.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()
}

/// Has the C library give freed blocks of `bytes` and more back to the system at once, where [`keep_freed_blocks`] had it
/// keep them: for work that holds a few such blocks at a time, of many sizes, so that few fit where another was.
///
/// Source: `mallopt(3)`, `M_MMAP_THRESHOLD`.
pub fn give_back_blocks_of(bytes: u32) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as below.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX));
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = bytes;
}

/// What a process holds before it is worth giving any of it back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MUCH: u64 = 512 << 20;

/// Has the C library give back what it holds free between blocks in use, where the process holds much. The system clears every
/// page again that is taken anew, so this is for seldom.
///
/// Source: `malloc_trim(3)`.
pub fn give_back_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if resident_bytes().is_some_and(|bytes| bytes > MUCH) {
        // SAFETY: only memory that nobody holds goes back.
        unsafe {
            libc::malloc_trim(0);
        }
    }
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
