//! The threads beside a mapped disk: what would wait for the device is done here.
//!
//! - two sync lanes, each in order: logs and directories, which acknowledgements wait for, in one; everything else, which
//!   may be fifty thousand queue files, in the other;
//! - a pool of fetchers, apart from the lanes so that cold reads never delay a sync; what they read is bounded;
//! - one that makes the windows of logs ready.
//!
//! A lane takes all waiting syncs of a file together: one `fdatasync` covers what was written before any of them.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

use bytes::Bytes;
use gantry_core::io::{DiskError, FetchId, SyncId};

use super::system::{self, OrDiskError};
use super::table::Remains;
use super::window::Stretch;

/// Helpers read and sync; none recurses.
const STACK_BYTES: usize = 256 * 1024;

/// A lane waits this long for a descriptor, so often, before it says that there is none.
const DESCRIPTOR_WAIT: Duration = Duration::from_millis(10);
const DESCRIPTOR_WAITS_MAX: usize = 100;

/// A descriptor kept for what a lane has to open, so that it need not wait for connections to end when there is no other. The
/// failed sync of a directory is a new start of the broker, and one that never began is no reason for that.
struct Spare(Option<File>);

impl Spare {
    fn new() -> Spare {
        let mut spare = Spare(None);
        spare.refill();
        spare
    }

    fn open<T>(&mut self, mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        for _ in 0..DESCRIPTOR_WAITS_MAX {
            match open() {
                Err(error) if system::is_exhausted(&error) => {
                    if self.0.take().is_none() {
                        sleep(DESCRIPTOR_WAIT);
                    }
                }
                result => return result,
            }
        }
        open()
    }

    /// After each job, once what it opened is closed.
    fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }
}

/// What a helper finished.
#[derive(Debug)]
pub(super) enum Finished {
    Synced(SyncId, Result<(), DiskError>),
    Replaced(SyncId, String, Result<(), DiskError>),
    Fetched(FetchId, Result<Vec<u8>, DiskError>),
}

/// Where helpers put what they finished.
pub(super) struct Outbox {
    finished: Mutex<Vec<Finished>>,
    any: AtomicBool,
    waker: Arc<dyn Fn() + Send + Sync>,
}

impl Outbox {
    pub(super) fn new(waker: Arc<dyn Fn() + Send + Sync>) -> Outbox {
        Outbox { finished: Mutex::default(), any: AtomicBool::new(false), waker }
    }

    pub(super) fn push(&self, finished: impl IntoIterator<Item = Finished>) {
        let mut list = locked(&self.finished);
        list.extend(finished);
        self.any.store(!list.is_empty(), Ordering::Release);
        drop(list);
        (self.waker)();
    }

    /// Takes all, in order of completion.
    pub(super) fn take(&self) -> Vec<Finished> {
        if !self.any.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *locked(&self.finished))
    }
}

/// Work of a sync lane.
pub(super) enum SyncJob {
    File {
        id: SyncId,
        serial: u64,
        file: Arc<File>,
    },
    /// The directories to sync, in order.
    Dirs {
        id: SyncId,
        dirs: Vec<PathBuf>,
    },
    Replace(Replace),
    /// Something whose end takes long: the pages of a big file, the tables of a big mapping.
    Drop(Remains),
}

/// An atomic replacement.
pub(super) struct Replace {
    pub(super) id: SyncId,
    /// As the machine names it.
    pub(super) path: String,
    pub(super) target: PathBuf,
    pub(super) temporary: PathBuf,
    /// The directories to sync after the rename, its own first.
    pub(super) dirs: Vec<PathBuf>,
    pub(super) bytes: Bytes,
}

/// Work of a fetcher.
pub(super) struct FetchJob {
    pub(super) id: FetchId,
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// A queue that threads wait at, with a budget that its jobs take from until it is given back.
struct Queue<J> {
    state: Mutex<QueueState<J>>,
    changed: Condvar,
    budget: u64,
}

struct QueueState<J> {
    jobs: VecDeque<J>,
    spent: u64,
    stopped: bool,
}

impl<J> Queue<J> {
    fn new(budget: u64) -> Arc<Queue<J>> {
        let state = QueueState { jobs: VecDeque::new(), spent: 0, stopped: false };
        Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new(), budget })
    }

    fn push(&self, job: J) {
        locked(&self.state).jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Waits for a job and spends its cost. A job dearer than the budget runs alone. `None`: stop.
    fn pop(&self, cost: impl Fn(&J) -> u64) -> Option<J> {
        let mut state = locked(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            if let Some(cost) = state.jobs.front().map(&cost)
                && (state.spent == 0 || state.spent + cost <= self.budget)
            {
                state.spent += cost;
                return state.jobs.pop_front();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes every waiting job that `is_wanted`.
    fn take(&self, is_wanted: impl Fn(&J) -> bool) -> Vec<J> {
        let mut state = locked(&self.state);
        if !state.jobs.iter().any(&is_wanted) {
            return Vec::new();
        }
        let (taken, left) = std::mem::take(&mut state.jobs).into_iter().partition::<Vec<J>, _>(is_wanted);
        state.jobs = left.into();
        taken
    }

    fn give_back(&self, cost: u64) {
        let mut state = locked(&self.state);
        state.spent = state.spent.saturating_sub(cost);
        self.changed.notify_all();
    }

    fn stop(&self) {
        locked(&self.state).stopped = true;
        self.changed.notify_all();
    }
}

/// All helpers of a disk. Dropping them ends each after the job it is at.
pub(super) struct Helpers {
    urgent: Arc<Queue<SyncJob>>,
    patient: Arc<Queue<SyncJob>>,
    fetches: Arc<Queue<FetchJob>>,
    windows: Arc<Queue<Stretch>>,
    threads: Vec<JoinHandle<()>>,
}

impl Helpers {
    pub(super) fn start(
        outbox: &Arc<Outbox>,
        fetchers: usize,
        fetched_bytes_max: u64,
    ) -> io::Result<Helpers> {
        let mut helpers = Helpers {
            urgent: Queue::new(0),
            patient: Queue::new(0),
            fetches: Queue::new(fetched_bytes_max),
            windows: Queue::new(0),
            threads: Vec::new(),
        };
        for (name, lane) in [("disk-sync", &helpers.urgent), ("disk-sync-queues", &helpers.patient)] {
            let (lane, outbox) = (Arc::clone(lane), Arc::clone(outbox));
            // Taken before anybody else can take it.
            let spare = Spare::new();
            helpers.threads.push(spawn(name, move || run_lane(&lane, &outbox, spare))?);
        }
        for _ in 0..fetchers.max(1) {
            let (queue, outbox) = (Arc::clone(&helpers.fetches), Arc::clone(outbox));
            helpers.threads.push(spawn("disk-fetch", move || run_fetcher(&queue, &outbox))?);
        }
        let queue = Arc::clone(&helpers.windows);
        helpers.threads.push(spawn("disk-window", move || run_windows(&queue))?);
        Ok(helpers)
    }

    /// Work that acknowledgements wait for.
    pub(super) fn sync_urgently(&self, job: SyncJob) {
        self.urgent.push(job);
    }

    /// Work that may take a while.
    pub(super) fn sync_patiently(&self, job: SyncJob) {
        self.patient.push(job);
    }

    pub(super) fn fetch(&self, job: FetchJob) {
        self.fetches.push(job);
    }

    /// Fetched bytes are no longer held.
    pub(super) fn released(&self, len: u32) {
        self.fetches.give_back(u64::from(len));
    }

    pub(super) fn prepare(&self, stretch: Stretch) {
        self.windows.push(stretch);
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.urgent.stop();
        self.patient.stop();
        self.fetches.stop();
        self.windows.stop();
        for thread in self.threads.drain(..) {
            // A helper that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_lane(lane: &Queue<SyncJob>, outbox: &Outbox, mut spare: Spare) {
    while let Some(job) = lane.pop(|_| 0) {
        match job {
            SyncJob::File { id, serial, file } => {
                let same =
                    lane.take(|job| matches!(job, SyncJob::File { serial: other, .. } if *other == serial));
                let result = file.sync_data().or_disk_error();
                // Descriptors end before the machine hears: what it deletes next is then really gone.
                drop(file);
                let ids = same.into_iter().filter_map(|job| match job {
                    SyncJob::File { id, .. } => Some(id),
                    SyncJob::Dirs { .. } | SyncJob::Replace(_) | SyncJob::Drop(_) => None,
                });
                let ids: Vec<SyncId> = std::iter::once(id).chain(ids).collect();
                outbox.push(ids.into_iter().map(|id| Finished::Synced(id, result)));
            }
            SyncJob::Dirs { id, dirs } => {
                let result = sync_dirs(&dirs, &mut spare);
                spare.refill();
                outbox.push([Finished::Synced(id, result)]);
            }
            SyncJob::Replace(replace) => {
                let result = run_replace(&replace, &mut spare);
                spare.refill();
                outbox.push([Finished::Replaced(replace.id, replace.path, result)]);
            }
            SyncJob::Drop(remains) => drop(remains),
        }
    }
}

fn sync_dirs(dirs: &[PathBuf], spare: &mut Spare) -> Result<(), DiskError> {
    dirs.iter().try_for_each(|dir| spare.open(|| system::sync_dir(dir))).or_disk_error()
}

fn run_replace(replace: &Replace, spare: &mut Spare) -> Result<(), DiskError> {
    make_parents(&replace.target)?;
    if replace.target.is_dir() {
        return Err(DiskError::Io);
    }
    let written = spare
        .open(|| File::create(&replace.temporary))
        .and_then(|file| write_all(file, &replace.bytes))
        .and_then(|()| fs::rename(&replace.temporary, &replace.target));
    if let Err(error) = written {
        let _ = fs::remove_file(&replace.temporary);
        return Err(system::disk_error(&error));
    }
    sync_dirs(&replace.dirs, spare)
}

fn write_all(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Creates the directories that a file at `path` needs.
pub(super) fn make_parents(path: &Path) -> Result<(), DiskError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).or_disk_error().map_err(|error| match error {
        // A file is in the way.
        DiskError::Exists | DiskError::NotFound => DiskError::Io,
        DiskError::Full
        | DiskError::OutOfRange
        | DiskError::Io
        | DiskError::Denied
        | DiskError::NoDescriptors => error,
    })
}

fn run_fetcher(queue: &Queue<FetchJob>, outbox: &Outbox) {
    while let Some(job) = queue.pop(|job| u64::from(job.len)) {
        let mut bytes = vec![0; job.len as usize];
        let result = system::read_cold(&job.file, &mut bytes, job.offset).map(|()| bytes);
        drop(job.file);
        if result.is_err() {
            queue.give_back(u64::from(job.len));
        }
        outbox.push([Finished::Fetched(job.id, result)]);
    }
}

fn run_windows(queue: &Queue<Stretch>) {
    let mut has_told = false;
    while let Some(stretch) = queue.pop(|_| 0) {
        if let Err(error) = stretch.prepare()
            && !std::mem::replace(&mut has_told, true)
        {
            tracing::warn!(%error, "cannot prepare a mapped log: it is written by system calls from here on");
        }
    }
}
