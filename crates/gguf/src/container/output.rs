//! Writing at any offset, in whole pages, past the page cache.
//!
//! Bytes that fill whole pages go to a thread that writes them while the callers compute on. Pages that a write fills only
//! in part wait in memory for the rest, and what has gathered while the disk was busy goes out as one write. So the disk sees aligned writes only, which direct I/O asks for: the data is
//! on its way at once, no page-cache memory is taken for it, and the closing sync has little left to do. Where direct
//! I/O is not to be had, the same thread writes through the page cache and asks for early write-back.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Unit of all writes to disk: covers the logical block size of every usual disk.
const PAGE: usize = 4096;

/// Pages that travel together at most.
const CHUNK_PAGES: usize = 128;

/// Chunks in flight at most: bounds the memory and how far the callers run ahead of the disk.
const CHUNKS: usize = 32;

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

impl Job {
    fn bytes(&self) -> &[u8] {
        let pages = &self.pages[..self.used];
        // SAFETY: `Page` is 4096 initialized bytes without padding, so the slice covers exactly `pages`.
        unsafe { std::slice::from_raw_parts(pages.as_ptr().cast(), size_of_val(pages)) }
    }

    fn end(&self) -> u64 {
        self.offset + (self.used * PAGE) as u64
    }
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
    while let Ok(first) = queue.recv() {
        // What came while the last write ran goes together: a disk is slow with many small writes.
        let mut jobs: Vec<Job> = std::iter::once(first).chain(queue.try_iter().take(CHUNKS)).collect();
        jobs.sort_by_key(|job| job.offset);
        for run in jobs.chunk_by(|a, b| a.end() == b.offset) {
            if !failed && let Err(error) = destination.write(run) {
                *lock(&shared.failure) = Some(error);
                failed = true;
            }
        }
        lock(&shared.free).extend(jobs.into_iter().map(|job| job.pages).filter(|p| p.len() == CHUNK_PAGES));
        shared.returned.notify_all();
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

    /// Writes jobs that follow each other without a gap.
    fn write(&self, run: &[Job]) -> io::Result<()> {
        match self.write_all_at(run) {
            // A disk whose blocks are larger than a page: go through the page cache from here on.
            #[cfg(target_os = "linux")]
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                direct_io(&self.file, false)?;
                self.write_all_at(run)?;
            }
            other => other?,
        }
        #[cfg(target_os = "linux")]
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            start_write_back(&self.file, first.offset, last.end() - first.offset);
        }
        Ok(())
    }

    fn write_all_at(&self, run: &[Job]) -> io::Result<()> {
        let mut file = &self.file;
        let mut slices: Vec<IoSlice<'_>> = run.iter().map(|job| IoSlice::new(job.bytes())).collect();
        let mut slices = slices.as_mut_slice();
        file.seek(SeekFrom::Start(run.first().map_or(0, |job| job.offset)))?;
        while !slices.is_empty() {
            match file.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
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
fn start_write_back(file: &File, offset: u64, length: u64) {
    let _ =
        rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(length), rustix::fs::Advice::DontNeed);
}
