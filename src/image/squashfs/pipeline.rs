//! Blocks go in one by one, are compressed on all cores, and come out in the same order.
//!
//! Owns the threads, the buffers and the bound on both: however large an image is, only so many
//! blocks are in memory. Refuses to know what the blocks are for (a tag of the caller's travels
//! with each) and never writes one: that is left to the thread that takes them out, which also is
//! the only one to fail, so that nothing here can wait for a thread that has given up.

use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// A block's bytes, at the start of a buffer that is made once and used again and again.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
}

impl Buffer {
    pub(super) fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into_boxed_slice(), length: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends as much as there is, up to the capacity: less only at the reader's end.
    pub(super) fn fill(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        while self.length < self.bytes.len() {
            match reader.read(&mut self.bytes[self.length..]) {
                Ok(0) => break,
                Ok(read) => self.length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends all of `bytes`, or nothing if there is no room for them.
    pub(super) fn append(&mut self, bytes: &[u8]) -> bool {
        let end = self.length + bytes.len();
        let Some(room) = self.bytes.get_mut(self.length..end) else { return false };
        room.copy_from_slice(bytes);
        self.length = end;
        true
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A block that came out.
pub(super) struct Finished<T> {
    pub(super) tag: T,
    job: Job,
    compressed: bool,
}

impl<T> Finished<T> {
    /// What to write, and whether it is compressed.
    pub(super) fn bytes(&self) -> (&[u8], bool) {
        let buffer = if self.compressed { &self.job.packed } else { &self.job.block };
        (buffer, self.compressed)
    }
}

struct Job {
    number: u64,
    block: Buffer,
    packed: Buffer,
}

/// What one thread compresses with.
pub(super) trait Compressor:
    FnMut(&[u8], &mut [u8]) -> io::Result<Option<usize>> + Send + 'static
{
}

impl<F> Compressor for F where
    F: FnMut(&[u8], &mut [u8]) -> io::Result<Option<usize>> + Send + 'static
{
}

/// So many bytes of blocks are read ahead, so that a thread finds the next one while the thread
/// that reads and writes waits for a disk or its turn on a core. Large blocks take long enough
/// for two to each thread, and two that are being read and written, to do. In tests it is so
/// little that blocks are written while their file is being read.
const AHEAD: usize = if cfg!(test) { 16 << 10 } else { 4 << 20 };

/// What a thread hands back: always something for each job it took.
type Answer = (u64, io::Result<(Job, bool)>);

struct Slot<T> {
    tag: T,
    answer: Option<io::Result<(Job, bool)>>,
}

/// The blocks under way.
pub(super) struct Pipeline<T> {
    queue: Arc<Queue>,
    answers: Receiver<Answer>,
    threads: Vec<JoinHandle<()>>,
    slots: VecDeque<Slot<T>>,
    /// The number of the first slot's job.
    first: u64,
    limit: usize,
    capacity: (usize, usize),
    blocks: Vec<Buffer>,
    packed: Vec<Buffer>,
}

impl<T> Pipeline<T> {
    /// Starts the threads. `capacity` is the size of a block, and of the room to compress it into;
    /// `compressor` makes for each thread what compresses a block into that room and tells how much
    /// of it that took, or `None` if it was of no use.
    pub(super) fn new<C: Compressor>(
        threads: usize,
        capacity: (usize, usize),
        compressor: impl Fn() -> io::Result<C>,
    ) -> io::Result<Self> {
        let threads = threads.max(1);
        let (answer, answers) = channel();
        let mut pipeline = Self {
            queue: Arc::default(),
            answers,
            threads: Vec::with_capacity(threads),
            slots: VecDeque::new(),
            first: 0,
            limit: (2 * threads + 2).max(AHEAD / capacity.0),
            capacity,
            blocks: Vec::new(),
            packed: Vec::new(),
        };
        for _ in 0..threads {
            let (queue, answer) = (Arc::clone(&pipeline.queue), answer.clone());
            let compressor = compressor()?;
            let thread = Builder::new().name("squashfs".to_owned());
            pipeline.threads.push(thread.spawn(move || work(&queue, compressor, &answer))?);
        }
        Ok(pipeline)
    }

    /// An empty buffer for a block.
    pub(super) fn buffer(&mut self) -> Buffer {
        self.blocks.pop().unwrap_or_else(|| Buffer::new(self.capacity.0))
    }

    /// Gives a buffer back.
    pub(super) fn recycle(&mut self, mut buffer: Buffer) {
        buffer.clear();
        self.blocks.push(buffer);
    }

    /// Gives a block's buffers back.
    pub(super) fn done(&mut self, finished: Finished<T>) {
        self.recycle(finished.job.block);
        self.packed.push(finished.job.packed);
    }

    /// True if a block must come out before another may go in.
    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= self.limit
    }

    /// Sends a block on its way.
    pub(super) fn submit(&mut self, tag: T, block: Buffer) {
        let number = self.first + self.slots.len() as u64;
        let packed = self.packed.pop().unwrap_or_else(|| Buffer::new(self.capacity.1));
        self.slots.push_back(Slot { tag, answer: None });
        self.queue.push(Job { number, block, packed });
    }

    /// The tags of all blocks under way, the last first.
    pub(super) fn tags(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().rev().map(|slot| &mut slot.tag)
    }

    /// Waits for the block that went in first. `None` if there is none.
    pub(super) fn next(&mut self) -> io::Result<Option<Finished<T>>> {
        let Some(Slot { tag, mut answer }) = self.slots.pop_front() else { return Ok(None) };
        let number = self.first;
        self.first += 1;
        let answer = loop {
            if let Some(answer) = answer.take() {
                break answer;
            }
            let (at, answer) =
                self.answers.recv().map_err(|_| io::Error::other("all threads ended"))?;
            if at == number {
                break answer;
            }
            let later = usize::try_from(at - self.first).ok();
            let later = later.and_then(|at| self.slots.get_mut(at));
            later.expect("only what is under way is answered").answer = Some(answer);
        };
        let (job, compressed) = answer?;
        Ok(Some(Finished { tag, job, compressed }))
    }
}

impl<T> Drop for Pipeline<T> {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A panic of a thread was told as the answer to its block.
            let _ = thread.join();
        }
    }
}

/// A thread's life.
fn work(queue: &Queue, mut compressor: impl Compressor, answer: &Sender<Answer>) {
    while let Some(mut job) = queue.pop() {
        let number = job.number;
        // A block without an answer would be waited for for ever.
        let result = catch_unwind(AssertUnwindSafe(|| {
            compressor(&job.block, &mut job.packed.bytes).map(|length| {
                job.packed.length = length.unwrap_or(0);
                (job, length.is_some())
            })
        }))
        .unwrap_or_else(|_| Err(io::Error::other("the compressor panicked")));
        if answer.send((number, result)).is_err() {
            break;
        }
    }
}

/// Jobs that no thread has taken yet.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Waits for a job. `None` when there will be no more.
    fn pop(&self) -> Option<Job> {
        let state = self
            .changed
            .wait_while(self.lock(), |state| state.jobs.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        { state }.jobs.pop_front()
    }

    /// Ends the threads as soon as they are done with what they have.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.jobs.clear();
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn block(pipeline: &mut Pipeline<u8>, bytes: &[u8]) -> Buffer {
        let mut block = pipeline.buffer();
        assert!(block.append(bytes));
        block
    }

    #[test]
    fn blocks_come_out_in_order_however_long_each_takes() {
        let slow = || {
            Ok(|block: &[u8], into: &mut [u8]| {
                std::thread::sleep(Duration::from_millis(u64::from(block[0] % 3)));
                into[0] = block[0] + 1;
                Ok(Some(1).filter(|_| block[0].is_multiple_of(2)))
            })
        };
        let mut pipeline = Pipeline::new(4, (1 << 20, 1), slow).unwrap();
        let mut expected = 0;
        for tag in 0..100 {
            if pipeline.is_full() {
                let finished = pipeline.next().unwrap().unwrap();
                assert_eq!(finished.tag, expected);
                let even = expected % 2 == 0;
                assert_eq!(finished.bytes(), (&[expected + u8::from(even)][..], even));
                pipeline.done(finished);
                expected += 1;
            }
            let block = block(&mut pipeline, &[tag]);
            pipeline.submit(tag, block);
        }
        assert_eq!(expected, 90);
        assert!(pipeline.blocks.len() + pipeline.slots.len() <= 11);
    }

    #[test]
    fn a_compressor_that_fails_or_panics_is_an_error_and_the_others_go_on() {
        let bad = || {
            Ok(|block: &[u8], _: &mut [u8]| match block {
                b"panic" => panic!("as asked"),
                b"error" => Err(io::Error::other("as asked")),
                _ => Ok(None),
            })
        };
        let mut pipeline = Pipeline::new(1, (8, 8), bad).unwrap();
        for bytes in [&b"panic"[..], b"error", b"good"] {
            let block = block(&mut pipeline, bytes);
            pipeline.submit(0, block);
        }
        assert!(pipeline.next().is_err());
        assert!(pipeline.next().is_err());
        assert_eq!(pipeline.next().unwrap().unwrap().bytes(), (&b"good"[..], false));
        assert!(pipeline.next().unwrap().is_none());
    }
}
