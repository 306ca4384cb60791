//! The boundary between the machines and the world, on one page.
//!
//! Events go in ([`Input`]), effects come out ([`Effect`]), and the disk is a trait ([`Disk`]) with the meaning of a page
//! cache: what is written is readable at once and durable only when [`Input::Synced`] says so. Production
//! (`gantry-net` over `gantry-disk`'s mapped files) and the simulator (`gantry-sim` over `gantry-disk`'s in-memory disk)
//! both drive a machine through [`crate::node::Node::turn`], and through nothing else.
//!
//! Absent on purpose: periodic ticks (deadlines are computed from state), blocking calls, and any way for an effect to
//! fail at once (a dead peer is [`Input::Closed`], a failed sync is [`Input::Synced`] with an error).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use bytes::Bytes;

use crate::rng::Rng;
use crate::time::{Instant, WallMs};
use crate::wire::Packet;

/// The time of a turn: read once by the driver, then passed as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Drives deadlines; never goes back.
    pub mono: Instant,
    /// Goes into stored records; may jump.
    pub wall: WallMs,
}

/// Where a turn's [`Now`] comes from.
pub trait Clock {
    /// The present time.
    fn now(&mut self) -> Now;
}

/// Performs effects on connections and hands events to whoever hosts the machine.
///
/// It never blocks and never fails: what goes wrong comes back as an [`Input`].
pub trait Network {
    /// What the machine tells its host (see [`Machine::Event`]).
    type Event;

    /// Starts a dial: [`Input::Opened`] or [`Input::Closed`] with the same `conn` follows.
    fn dial(&mut self, conn: ConnId, peer: &Peer);
    /// Queues a packet on a connection. Packets of one connection arrive in the order sent; a packet for a connection that
    /// is gone is dropped.
    fn send(&mut self, conn: ConnId, packet: Packet);
    /// Sends what is queued, then closes. [`Input::Closed`] follows for it too.
    fn close(&mut self, conn: ConnId);
    /// Hands an event to the host.
    fn emit(&mut self, event: Self::Event);
}

/// A connection, as named by whoever opened it. The top bit is set when this side dialled.
///
/// A name is never used twice within the life of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    const DIALLED: u64 = 1 << 63;

    /// The `n`-th connection that this side dialled.
    pub const fn dialled(n: u64) -> ConnId {
        ConnId(n | ConnId::DIALLED)
    }

    /// The `n`-th connection that this side accepted.
    pub const fn accepted(n: u64) -> ConnId {
        ConnId(n & !ConnId::DIALLED)
    }

    /// Whether this side dialled it.
    pub const fn is_dialled(self) -> bool {
        self.0 & ConnId::DIALLED != 0
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_dialled() { "d" } else { "a" }, self.0 & !ConnId::DIALLED)
    }
}

/// What is spoken on a connection; decides which [`crate::wire::Link`] decodes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Protocol {
    /// RocketMQ remoting commands, both directions.
    Remoting,
    /// RocketMQ's replication stream, seen from the slave: it dials, sends reports and receives blocks.
    HaSlave,
    /// RocketMQ's replication stream, seen from the master: it accepts, receives reports and sends blocks.
    HaMaster,
}

/// A peer to dial.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Peer {
    /// `host:port`; the host may be a name, which the shell resolves.
    pub address: Arc<str>,
    /// What will be spoken.
    pub protocol: Protocol,
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The dial did not succeed (refused, unreachable, timed out, no such host).
    DialFailed,
    /// The peer closed or reset it, or it broke.
    Peer,
    /// This side asked for it.
    Local,
    /// Nothing was read or written for the idle limit.
    Idle,
    /// The peer sent bytes that are not the protocol.
    Protocol,
}

/// Names a sync or an atomic replacement until its [`Input::Synced`] arrives. Chosen by the machine, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SyncId(pub u64);

/// Names a fetch until its [`Input::Fetched`] arrives. Chosen by the machine, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct FetchId(pub u64);

/// An open file of a [`Disk`]. Valid until closed, deleted or the machine is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct FileId(pub u32);

/// `len` bytes of a file from `offset` on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Extent {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub offset: u64,
    /// Bytes; more than the file holds is an error of [`Disk::read`].
    pub len: u32,
}

/// What becomes durable by a sync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyncTarget {
    /// Every write, truncation and zeroing of the file made before the request.
    File(FileId),
    /// Every creation, rename and deletion of an entry of this directory made before the request, and the creation of the
    /// directory itself and of those above it (so that who creates `a/b/c` need not know which of `a` and `a/b` were there).
    Dir(String),
}

/// What goes wrong with a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// No such file or directory.
    NotFound,
    /// The path to create is taken.
    Exists,
    /// No room (or no quota) for it.
    Full,
    /// The range does not lie in the file.
    OutOfRange,
    /// The device or file system failed.
    Io,
    /// Not permitted, or a read-only file system.
    Denied,
    /// This process, or the system, has as many files open as it may. Nothing was done, and nothing written is in doubt.
    NoDescriptors,
}

impl DiskError {
    /// Whether it is for want of something that may be there again later: the same may succeed then.
    pub fn is_shortage(self) -> bool {
        match self {
            DiskError::Full | DiskError::NoDescriptors => true,
            DiskError::NotFound
            | DiskError::Exists
            | DiskError::OutOfRange
            | DiskError::Io
            | DiskError::Denied => false,
        }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskError::NotFound => "no such file",
            DiskError::Exists => "file exists",
            DiskError::Full => "no space left on the disk",
            DiskError::OutOfRange => "range outside the file",
            DiskError::Io => "input/output error",
            DiskError::Denied => "permission denied or read-only file system",
            DiskError::NoDescriptors => {
                "no file descriptor is left: raise the limit of open files (LimitNOFILE of systemd, or ulimit -n)"
            }
        })
    }
}

impl core::error::Error for DiskError {}

/// Whether a read found its bytes in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Residency {
    /// The bytes were appended to the caller's buffer.
    Resident,
    /// They are not in memory and nothing was appended: emit [`Effect::Fetch`], park, and read again at
    /// [`Input::Fetched`].
    NotResident,
}

/// An entry of [`Disk::list`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirEntry {
    /// Name within its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes (0 for a directory).
    pub len: u64,
    /// Last modification.
    pub modified: WallMs,
}

/// Room on the disk that holds the store, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    /// Size of the file system, without what is kept from this process.
    pub total: u64,
    /// Free for this process.
    pub free: u64,
}

/// How a file will be written, a hint by which an implementation chooses its means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A preallocated file written mostly in order, many times a second (a commit-log segment).
    Log,
    /// A file of fixed length written in chunks here and there (consume queue, index). Thousands of them are mostly empty,
    /// so room is allocated as they are written, and a write may give [`DiskError::Full`].
    Table,
    /// A file that grows by appending (a journal); starts empty whatever length is asked for.
    Journal,
}

/// Files with the meaning of a page cache, below one root directory.
///
/// Whatever has to open a file or a directory may give [`DiskError::NoDescriptors`], also as the result of a replacement or of the
/// sync of a directory; what is open stays open.
///
/// Paths are relative, `/`-separated, without `.` or `..`. Nothing here blocks for the device, except that
/// opening, creating, deleting and renaming touch directories. What is written is readable at once; after the death of the
/// *process* everything written is still there; after *power loss* each page of a file holds some state it had since the
/// last completed sync of it (a page may be torn at 512-byte sectors), and directory entries changed since the last
/// completed sync of their directory may be as before. A file whose creation, extension or truncation was not synced may
/// have its old length, its new one or, for room allocated by a creation, any between. After a failed sync no later one
/// makes up for it: the bytes count as written out, and a restart may find them as they were before.
pub trait Disk {
    /// Creates a file of `len` zero bytes; its parent directories are created as needed. For [`FileKind::Log`] the room for
    /// all of them is allocated, so that no later write can run out of space.
    ///
    /// # Errors
    /// [`DiskError::Exists`], [`DiskError::Full`], [`DiskError::Denied`], [`DiskError::Io`].
    fn create(&mut self, path: &str, len: u64, kind: FileKind) -> Result<FileId, DiskError>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], [`DiskError::Denied`], [`DiskError::Io`].
    fn open(&mut self, path: &str, kind: FileKind) -> Result<FileId, DiskError>;

    /// Forgets an open file. Unknown names are ignored.
    fn close(&mut self, file: FileId);

    /// The length of an open file, in bytes.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] when it is not open, [`DiskError::Io`].
    fn len(&self, file: FileId) -> Result<u64, DiskError>;

    /// Writes at a position. A write may extend only a [`FileKind::Journal`], and only from its end.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`], [`DiskError::Full`], [`DiskError::Io`]. After an error any part of the range may have
    /// been written.
    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Cuts or extends (with zeros) a file to `len` bytes; the room for what a [`FileKind::Log`] gains is allocated. Cutting
    /// and extending again is how stale bytes behind a position are zeroed.
    ///
    /// # Errors
    /// [`DiskError::Full`], [`DiskError::Io`].
    fn truncate(&mut self, file: FileId, len: u64) -> Result<(), DiskError>;

    /// Appends the bytes of `at` to `out` when they are resident; else leaves `out` as it was.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`], [`DiskError::Io`].
    fn read(&mut self, at: Extent, out: &mut Vec<u8>) -> Result<Residency, DiskError>;

    /// Renames a file; an existing target is closed, then replaced atomically. Open files keep their [`FileId`]. The
    /// directory of the target must exist.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], [`DiskError::Denied`], [`DiskError::Io`].
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Deletes a file, or a directory that is empty. A file that is open is closed first.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], [`DiskError::Denied`], [`DiskError::Io`] (also for a directory that is not empty).
    fn delete(&mut self, path: &str) -> Result<(), DiskError>;

    /// The entries of a directory, sorted by name; a directory that does not exist is empty.
    ///
    /// # Errors
    /// [`DiskError::Denied`], [`DiskError::Io`].
    fn list(&mut self, dir: &str) -> Result<Vec<DirEntry>, DiskError>;

    /// What `path` is, if it is there.
    ///
    /// # Errors
    /// [`DiskError::Denied`], [`DiskError::Io`].
    fn stat(&mut self, path: &str) -> Result<Option<DirEntry>, DiskError>;

    /// Room on the disk.
    ///
    /// # Errors
    /// [`DiskError::Io`].
    fn space(&mut self) -> Result<Space, DiskError>;

    /// The whole of a small file, read at once even if that waits for the device: for configuration at start only.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], [`DiskError::OutOfRange`] when it is longer than `len_max`, [`DiskError::Io`].
    fn read_small(&mut self, path: &str, len_max: u64) -> Result<Vec<u8>, DiskError>;

    /// Begins a sync; only [`crate::node::Node`] calls this. Completes as [`Done::Synced`] from [`Disk::reap`].
    fn sync(&mut self, id: SyncId, target: SyncTarget);

    /// Begins the atomic replacement of a small file: at every crash the file is wholly the old or wholly the new one, and
    /// it is the new one for good once [`Done::Synced`] came. Replacements of one path take effect in the order begun, each
    /// at some time before its completion; a [`FileId`] of the old file ends with it.
    /// Only [`crate::node::Node`] calls this.
    fn replace(&mut self, id: SyncId, path: &str, bytes: Bytes);

    /// Begins to bring an extent into memory; only [`crate::node::Node`] calls this. Completes as [`Done::Fetched`]; from
    /// then until [`Disk::release`] the extent is resident.
    fn fetch(&mut self, id: FetchId, at: Extent);

    /// Ends the residency that a fetch guaranteed; only [`crate::node::Node`] calls this.
    fn release(&mut self, id: FetchId);

    /// Hands over what completed since the last call, in order of completion.
    fn reap(&mut self, done: &mut Vec<Done>);
}

/// A completion of [`Disk::reap`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// Of [`Disk::sync`] or [`Disk::replace`].
    Synced(SyncId, Result<(), DiskError>),
    /// Of [`Disk::fetch`].
    Fetched(FetchId, Result<(), DiskError>),
}

/// What happens to a machine.
#[derive(Clone, PartialEq, Debug)]
pub enum Input<C> {
    /// The first input of every life: read the disk, begin to work.
    Start,
    /// A connection is ready: one that a peer opened, or the success of an [`Effect::Dial`].
    Opened {
        /// Its name.
        conn: ConnId,
        /// The other end.
        peer: SocketAddr,
        /// What is spoken on it.
        protocol: Protocol,
    },
    /// A packet arrived.
    Received {
        /// Where.
        conn: ConnId,
        /// What.
        packet: Packet,
    },
    /// Everything sent on `conn` has left, after at least [`CREDIT_BYTES`] had been sent since the last `Drained`
    /// (or since it opened), counted by [`Packet::cost`]. Whoever pushes a stream stops at the credit until this comes.
    Drained {
        /// Where.
        conn: ConnId,
    },
    /// A connection ended or a dial failed. Exactly one for each [`Input::Opened`] and each failed dial.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        why: CloseReason,
    },
    /// A sync or replacement completed. After an error nothing written since the last success may be trusted.
    Synced {
        /// Which.
        id: SyncId,
        /// How.
        result: Result<(), DiskError>,
    },
    /// A fetch completed: on success the extent is resident until the end of the turn that takes this input.
    Fetched {
        /// Which.
        id: FetchId,
        /// How.
        result: Result<(), DiskError>,
    },
    /// The deadline passed that the machine had at the end of the last turn, whatever this one's inputs have made of it.
    /// [`crate::node::Node`] makes this; no driver does.
    Wake,
    /// The host asks for something (stop, an administrator's wish, an application's send).
    Command(C),
}

/// What a machine wants done. Effects of one turn are performed in the order pushed, after its last write.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect<E> {
    /// Open a connection under the name `conn` (which [`ConnId::is_dialled`]).
    Dial {
        /// Its future name.
        conn: ConnId,
        /// Whom.
        peer: Peer,
    },
    /// Send a packet.
    Send {
        /// Where.
        conn: ConnId,
        /// What.
        packet: Packet,
    },
    /// Close a connection after what was sent before.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// See [`Disk::sync`].
    Sync {
        /// Its name.
        id: SyncId,
        /// What.
        target: SyncTarget,
    },
    /// See [`Disk::replace`].
    Replace {
        /// Its name.
        id: SyncId,
        /// Which file.
        path: String,
        /// Its new content.
        bytes: Bytes,
    },
    /// See [`Disk::fetch`].
    Fetch {
        /// Its name.
        id: FetchId,
        /// What.
        at: Extent,
    },
    /// Tell the host.
    Emit(E),
    /// The machine cannot go on as it is (a sync failed, the store is damaged). The host drops it, and starts a new one
    /// from the disk when `restart`; nothing more is sent for it.
    Fail {
        /// What happened and what to do about it.
        reason: String,
        /// Whether a new life from the same disk may go better.
        restart: bool,
    },
}

/// Bytes (by [`Packet::cost`]) that may be sent on a connection before its next [`Input::Drained`].
pub const CREDIT_BYTES: u64 = 256 * 1024;

/// What a machine works with during a turn.
pub struct Env<'a, D, E> {
    /// Its disk.
    pub disk: &'a mut D,
    /// Where its effects go.
    pub out: &'a mut Vec<Effect<E>>,
    /// Its chance.
    pub rng: &'a mut Rng,
}

impl<D, E> Env<'_, D, E> {
    /// Pushes [`Effect::Send`].
    pub fn send(&mut self, conn: ConnId, packet: impl Into<Packet>) {
        self.out.push(Effect::Send { conn, packet: packet.into() });
    }
}

/// A role of the cluster as a deterministic machine.
///
/// The same machine with the same disk, inputs, times and random stream does the same, byte for byte.
pub trait Machine<D: Disk> {
    /// What its host may ask of it.
    type Command;
    /// What it tells its host.
    type Event;

    /// Takes one input. Total: any input in any state.
    fn step(&mut self, now: Now, input: Input<Self::Command>, env: &mut Env<'_, D, Self::Event>);

    /// Ends a turn, after all its inputs: writes the log once, asks for syncs, wakes what waits.
    fn settle(&mut self, now: Now, env: &mut Env<'_, D, Self::Event>);

    /// When to be woken at the latest, and for what.
    fn deadline(&self) -> Option<(Instant, &'static str)>;

    /// Asserts what must always hold; O(state), called by the simulator.
    fn check_invariants(&self) {}
}
