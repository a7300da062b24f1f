//! Writing at any offset, in whole pages, past the page cache.
//!
//! Bytes that fill whole pages go to a thread that writes them while the callers compute on. Pages that a write fills only
//! in part wait in memory for the rest. So the disk sees aligned writes only, which direct I/O asks for: the data is
//! on its way at once, no page-cache memory is taken for it, and the closing sync has little left to do. Where direct
//! I/O is not to be had, the same thread writes through the page cache and asks for early write-back.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Unit of all writes to disk: covers the logical block size of every usual disk.
const PAGE: usize = 4096;

/// Pages of one write; 2 MiB keeps a disk busy.
const CHUNK_PAGES: usize = 512;

/// Chunks in flight at most: bounds the memory and how far the callers run ahead of the disk.
const CHUNKS: usize = 8;

/// One page, aligned as direct I/O needs its memory to be.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Whole pages on their way to `offset`.
struct Job {
    pages: Vec<Page>,
    used: usize,
    offset: u64,
}

/// A page filled in part, with the number of bytes there.
struct Edge {
    page: Page,
    filled: usize,
}

/// What the callers and the writing thread share.
#[derive(Default)]
struct Shared {
    free: Mutex<Vec<Vec<Page>>>,
    returned: Condvar,
    failure: Mutex<Option<io::Error>>,
}

/// Sends bytes to a file from any thread, every byte once. Dropping it stops the writing thread.
pub(super) struct PagedOutput {
    jobs: Option<SyncSender<Job>>,
    worker: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    edges: Mutex<HashMap<u64, Box<Edge>>>,
}

impl PagedOutput {
    /// Starts the writing thread on `file`, whose position and flags are its own from here on.
    pub(super) fn start(file: File) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(CHUNKS);
        let shared = Arc::new(Shared::default());
        *lock(&shared.free) = (0..CHUNKS).map(|_| vec![Page([0; PAGE]); CHUNK_PAGES]).collect();
        let worker = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("gguf-writer".into())
                .spawn(move || drain(&queue, &Destination::new(file), &shared))?
        };
        Ok(Self { jobs: Some(jobs), worker: Some(worker), shared, edges: Mutex::default() })
    }

    /// Size of a file of `bytes` bytes in whole pages; the bytes between are to be written too.
    pub(super) fn whole_pages(bytes: u64) -> u64 {
        bytes.next_multiple_of(PAGE as u64)
    }

    /// Takes `bytes` for `offset`. No byte of the file may be given twice.
    ///
    /// # Errors
    /// The first error of the writing thread, reported here or by [`PagedOutput::finish`].
    pub(super) fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let in_page = (offset % PAGE as u64) as usize;
            let taken = if in_page == 0 && bytes.len() >= PAGE {
                let whole = (bytes.len() / PAGE).min(CHUNK_PAGES);
                let mut pages = self.free_chunk()?;
                for (page, source) in pages.iter_mut().zip(bytes[..whole * PAGE].as_chunks().0) {
                    page.0 = *source;
                }
                self.send(Job { pages, used: whole, offset })?;
                whole * PAGE
            } else {
                let part = bytes.len().min(PAGE - in_page);
                self.fill_edge(offset - in_page as u64, in_page, &bytes[..part])?;
                part
            };
            offset += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// The first error of the writing thread, or pages that were never filled.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.stop();
        self.check()?;
        match lock(&self.edges).len() {
            0 => Ok(()),
            n => Err(io::Error::other(format!("{n} pages were not filled"))),
        }
    }

    fn fill_edge(&self, start: u64, at: usize, bytes: &[u8]) -> io::Result<()> {
        let mut edges = lock(&self.edges);
        let edge = edges.entry(start).or_insert_with(|| Box::new(Edge { page: Page([0; PAGE]), filled: 0 }));
        edge.page.0[at..at + bytes.len()].copy_from_slice(bytes);
        edge.filled += bytes.len();
        if edge.filled < PAGE {
            return Ok(());
        }
        let page = edge.page;
        edges.remove(&start);
        drop(edges);
        self.send(Job { pages: vec![page], used: 1, offset: start })
    }

    /// Waits for a chunk that is not in flight.
    fn free_chunk(&self) -> io::Result<Vec<Page>> {
        let mut free = lock(&self.shared.free);
        loop {
            match free.pop() {
                Some(chunk) => return Ok(chunk),
                None => free = self.shared.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn send(&self, job: Job) -> io::Result<()> {
        self.check()?;
        match self.jobs.as_ref().map(|jobs| jobs.send(job)) {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::other("the writing thread has ended")),
        }
    }

    fn check(&self) -> io::Result<()> {
        lock(&self.shared.failure).as_ref().map_or(Ok(()), |e| Err(same_error(e)))
    }

    fn stop(&mut self) {
        drop(self.jobs.take());
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            *lock(&self.shared.failure) = Some(io::Error::other("the writing thread panicked"));
        }
    }
}

impl Drop for PagedOutput {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The writing thread. After a failure it only takes chunks back, so that no caller waits for one forever.
fn drain(queue: &Receiver<Job>, destination: &Destination, shared: &Shared) {
    let mut failed = false;
    for job in queue {
        if !failed && let Err(error) = destination.write(&job) {
            *lock(&shared.failure) = Some(error);
            failed = true;
        }
        if job.pages.len() == CHUNK_PAGES {
            lock(&shared.free).push(job.pages);
            shared.returned.notify_one();
        }
    }
}

/// Guarded data is whole after every statement, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn same_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// The file, with direct I/O on where the system can do it.
struct Destination {
    file: File,
}

impl Destination {
    fn new(file: File) -> Self {
        #[cfg(target_os = "linux")]
        let _ = direct_io(&file, true);
        Self { file }
    }

    fn write(&self, job: &Job) -> io::Result<()> {
        let bytes = as_bytes(&job.pages[..job.used]);
        match self.write_all_at(job.offset, bytes) {
            // A disk whose blocks are larger than a page: go through the page cache from here on.
            #[cfg(target_os = "linux")]
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                direct_io(&self.file, false)?;
                self.write_all_at(job.offset, bytes)?;
            }
            other => other?,
        }
        #[cfg(target_os = "linux")]
        start_write_back(&self.file, job.offset, bytes.len());
        Ok(())
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }
}

fn as_bytes(pages: &[Page]) -> &[u8] {
    // SAFETY: `Page` is 4096 initialized bytes without padding, so the slice covers exactly `pages`.
    unsafe { std::slice::from_raw_parts(pages.as_ptr().cast(), std::mem::size_of_val(pages)) }
}

#[cfg(target_os = "linux")]
fn direct_io(file: &File, on: bool) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, on);
    fcntl_setfl(file, flags)?;
    Ok(())
}

/// For data in the page cache, `POSIX_FADV_DONTNEED` starts write-back without waiting; under direct I/O there is none.
#[cfg(target_os = "linux")]
fn start_write_back(file: &File, offset: u64, length: usize) {
    let _ = rustix::fs::fadvise(
        file,
        offset,
        std::num::NonZeroU64::new(length as u64),
        rustix::fs::Advice::DontNeed,
    );
}
