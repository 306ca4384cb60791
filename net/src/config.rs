//! The bounds of the shell, each with its name, and RocketMQ's property name where there is one.

use std::time::Duration;

/// Room offered to a read on a fresh or quiet connection, in bytes. A send of RocketMQ's benchmark is about 500 bytes.
pub const READ_BYTES_MIN: usize = 4 * 1024;

/// Room offered to a read on a connection whose reads keep filling what they get, in bytes.
pub const READ_BYTES_MAX: usize = 256 * 1024;

/// Packets of one connection enqueued before the machine gets a turn: what a peer that pipelines without reading can
/// have the machine answer at most before the shell sees its output grow.
pub const PACKETS_PER_READ_MAX: usize = 256;

/// A connection with more unsent output than this is not read from until it falls, in bytes
/// (the high mark of `serverSocketSndBufSize`'s channel, which RocketMQ leaves at Netty's default).
pub const OUTPUT_PAUSE_BYTES: usize = 4 * 1024 * 1024;

/// A connection with more unsent output than this is closed, in bytes. Reached only by a peer that has asked for much
/// more than it reads: what was in hand when its reading was paused has been answered on top.
pub const OUTPUT_CLOSE_BYTES: usize = 256 * 1024 * 1024;

/// An output buffer of more than this is given back to the allocator once it is empty, in bytes.
pub const OUTPUT_KEEP_BYTES: usize = 64 * 1024;

/// Empty output buffers kept for the next turn.
pub const OUTPUT_SPARES_MAX: usize = 128;

/// Silent sweeps (see [`Limits::idle`]) after which a connection is closed.
pub const IDLE_SWEEPS: u32 = 12;

/// Sweeps a connection may take to send what was queued before its close.
pub const CLOSING_SWEEPS: u32 = 2;

/// Pause of a listener that the system refused a connection (no file descriptors left).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a stopping service waits for its last replies to leave.
pub const LINGER: Duration = Duration::from_secs(1);

/// How long a stop may take before the process gives up on it. RocketMQ's scripts wait without end.
pub const STOP_LIMIT: Duration = Duration::from_secs(30);

/// First pause before a failed machine is started again; doubles up to [`RESTART_DELAY_MAX`].
pub const RESTART_DELAY_MIN: Duration = Duration::from_secs(1);

/// Longest pause before a failed machine is started again.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(30);

/// A life longer than this counts as a success: the next failure starts again from [`RESTART_DELAY_MIN`].
pub const RESTART_FORGIVEN: Duration = Duration::from_secs(300);

/// What a service grants its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A connection on which nothing was read or written for this long is closed
    /// (`serverChannelMaxIdleTimeSeconds`); noticed at most a twelfth later.
    pub idle: Duration,
    /// Connections open at once, over all listeners; more are closed at once.
    pub connections_max: usize,
    /// How long a dial may take (`connectTimeoutMillis`).
    pub dial: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { idle: Duration::from_secs(120), connections_max: 16_384, dial: Duration::from_secs(3) }
    }
}
