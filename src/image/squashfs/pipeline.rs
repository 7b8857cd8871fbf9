//! Blocks go in one by one, are compressed on all cores, and come out in the same order.
//!
//! Owns the threads, the buffers and the bound on both: however large an image is, only so many
//! blocks are in memory, and however many images are written at once, they share the threads. Refuses to know what the blocks are for (a tag of the caller's travels
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
pub(in crate::image) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
}

impl Buffer {
    pub(in crate::image) fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into_boxed_slice(), length: 0 }
    }

    pub(in crate::image) fn clear(&mut self) {
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
    buffers: Buffers,
    compressed: bool,
}

impl<T> Finished<T> {
    /// What to write, and whether it is compressed.
    pub(super) fn bytes(&self) -> (&[u8], bool) {
        let buffer = if self.compressed { &self.buffers.packed } else { &self.buffers.block };
        (buffer, self.compressed)
    }
}

/// What one thread compresses with: a block, into the room behind it, how much of that it took.
/// `None` if it was of no use.
pub(super) type Compress = Box<dyn FnMut(&[u8], &mut [u8]) -> io::Result<Option<usize>>>;

struct Job<K> {
    /// Whose it is, and which of its blocks.
    pipeline: u64,
    number: u64,
    kind: K,
    buffers: Buffers,
    answer: Sender<Answer>,
}

struct Buffers {
    block: Buffer,
    packed: Buffer,
}

/// What a thread hands back: always something for each job it took.
type Answer = (u64, io::Result<(Buffers, bool)>);

/// So many bytes of blocks are read ahead, so that a thread finds the next one while the thread
/// that reads and writes waits for a disk or its turn on a core. Large blocks take long enough
/// for two to each thread, and two that are being read and written, to do. In tests it is so
/// little that blocks are written while their file is being read.
const AHEAD: usize = if cfg!(test) { 16 << 10 } else { 2 << 20 };

/// A thread keeps what it needs for so many kinds of blocks: images that are written at the same
/// time seldom have more, and each costs megabytes.
const KINDS: usize = 2;

/// The threads that compress, for all images that are written at the same time. `K` is what two
/// blocks have in common that are compressed alike.
pub(super) struct Pool<K> {
    queue: Arc<Queue<K>>,
    threads: Vec<JoinHandle<()>>,
}

impl<K: PartialEq + Send + 'static> Pool<K> {
    /// Starts the threads. `make` is called in one when it first meets a kind of block.
    pub(super) fn new(threads: usize, make: fn(&K) -> io::Result<Compress>) -> io::Result<Self> {
        let mut pool = Self { queue: Arc::default(), threads: Vec::new() };
        for _ in 0..threads.max(1) {
            let queue = Arc::clone(&pool.queue);
            let thread = Builder::new().name("compress".to_owned());
            pool.threads.push(thread.spawn(move || work(&queue, make))?);
        }
        Ok(pool)
    }
}

impl<K> Drop for Pool<K> {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A panic of a thread was told as the answer to its block.
            let _ = thread.join();
        }
    }
}

struct Slot<T> {
    tag: T,
    answer: Option<io::Result<(Buffers, bool)>>,
}

/// The blocks of one image that are under way.
pub(super) struct Pipeline<T, K> {
    pool: Arc<Pool<K>>,
    id: u64,
    kind: K,
    answer: Sender<Answer>,
    answers: Receiver<Answer>,
    slots: VecDeque<Slot<T>>,
    /// The number of the first slot's job.
    first: u64,
    limit: usize,
    capacity: (usize, usize),
    blocks: Vec<Buffer>,
    packed: Vec<Buffer>,
}

impl<T, K: Clone + PartialEq + Send + 'static> Pipeline<T, K> {
    /// `kind` is that of all its blocks; `capacity` is the size of a block, and of the room to
    /// compress it into.
    pub(super) fn new(pool: Arc<Pool<K>>, kind: K, capacity: (usize, usize)) -> Self {
        let (answer, answers) = channel();
        Self {
            id: pool.queue.next_id(),
            limit: (2 * pool.threads.len() + 2).max(AHEAD / capacity.0),
            pool,
            kind,
            answer,
            answers,
            slots: VecDeque::new(),
            first: 0,
            capacity,
            blocks: Vec::new(),
            packed: Vec::new(),
        }
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
        self.recycle(finished.buffers.block);
        self.packed.push(finished.buffers.packed);
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
        self.pool.queue.push(Job {
            pipeline: self.id,
            number,
            kind: self.kind.clone(),
            buffers: Buffers { block, packed },
            answer: self.answer.clone(),
        });
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
            // Our own sender keeps the channel open, so this fails never; the pool lives as long as
            // we do, and each job is answered.
            let (at, answer) =
                self.answers.recv().map_err(|_| io::Error::other("all threads ended"))?;
            if at == number {
                break answer;
            }
            let later = usize::try_from(at - self.first).ok();
            let later = later.and_then(|at| self.slots.get_mut(at));
            later.expect("only what is under way is answered").answer = Some(answer);
        };
        let (buffers, compressed) = answer?;
        Ok(Some(Finished { tag, buffers, compressed }))
    }
}

impl<T, K> Drop for Pipeline<T, K> {
    fn drop(&mut self) {
        // An image that was given up must not keep the cores from others.
        self.pool.queue.lock().jobs.retain(|job| job.pipeline != self.id);
    }
}

/// A thread's life.
fn work<K: PartialEq>(queue: &Queue<K>, make: fn(&K) -> io::Result<Compress>) {
    let mut known: Vec<(K, Compress)> = Vec::new();
    while let Some(Job { number, kind, mut buffers, answer, .. }) = queue.pop() {
        // A block without an answer would be waited for for ever.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let at = if let Some(at) = known.iter().position(|(known, _)| *known == kind) {
                at
            } else {
                let compress = make(&kind)?;
                known.truncate(KINDS - 1);
                known.insert(0, (kind, compress));
                0
            };
            let length = known[at].1(&buffers.block, &mut buffers.packed.bytes)?;
            buffers.packed.length = length.unwrap_or(0);
            Ok((buffers, length.is_some()))
        }))
        .unwrap_or_else(|_| Err(io::Error::other("the compressor panicked")));
        // Nobody waits for it any more if its image was given up.
        let _ = answer.send((number, result));
    }
}

/// Jobs that no thread has taken yet.
struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Condvar,
}

struct State<K> {
    jobs: VecDeque<Job<K>>,
    pipelines: u64,
    closed: bool,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let state = State { jobs: VecDeque::new(), pipelines: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<K> Queue<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Nobody panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> u64 {
        let mut state = self.lock();
        state.pipelines += 1;
        state.pipelines
    }

    fn push(&self, job: Job<K>) {
        self.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Waits for a job. `None` when there will be no more.
    fn pop(&self) -> Option<Job<K>> {
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

    fn pipeline(
        threads: usize,
        capacity: (usize, usize),
        make: fn(&()) -> io::Result<Compress>,
    ) -> Pipeline<u8, ()> {
        Pipeline::new(Arc::new(Pool::new(threads, make).unwrap()), (), capacity)
    }

    fn block(pipeline: &mut Pipeline<u8, ()>, bytes: &[u8]) -> Buffer {
        let mut block = pipeline.buffer();
        assert!(block.append(bytes));
        block
    }

    #[test]
    fn blocks_come_out_in_order_however_long_each_takes() {
        let slow = |(): &()| {
            let slow: Compress = Box::new(|block, into| {
                std::thread::sleep(Duration::from_millis(u64::from(block[0] % 3)));
                into[0] = block[0] + 1;
                Ok(Some(1).filter(|_| block[0].is_multiple_of(2)))
            });
            Ok(slow)
        };
        let mut pipeline = pipeline(4, (1 << 20, 1), slow);
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
        let bad = |(): &()| {
            let bad: Compress = Box::new(|block, _| match block {
                b"panic" => panic!("as asked"),
                b"error" => Err(io::Error::other("as asked")),
                _ => Ok(None),
            });
            Ok(bad)
        };
        let mut pipeline = pipeline(1, (8, 8), bad);
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
