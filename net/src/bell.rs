//! How the turn task of a service is woken: a bell that any thread may ring, and a box for what the host asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Wakes the turn task. A ring is kept until it is heard; further rings until then are free.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    notify: Notify,
}

impl Bell {
    /// From any thread. What it announces must have been made visible before.
    pub(crate) fn ring(&self) {
        // A swap even when it is rung already: it hands over what was written before to the swap in `heard`.
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// From the thread that hears: the second and later packets of a turn stay off the bus lock.
    pub(crate) fn ring_here(&self) {
        if !self.rung.load(Ordering::Relaxed) {
            self.ring();
        }
    }

    /// Returns once rung. Whatever was announced by a ring before the return must be looked for after it.
    pub(crate) async fn heard(&self) {
        self.notify.notified().await;
        self.rung.swap(false, Ordering::AcqRel);
    }
}

/// Where the host puts commands for a machine that runs on another thread. Survives the machine's restarts.
#[derive(Debug)]
pub struct Mailbox<C> {
    inner: Arc<Inner<C>>,
}

#[derive(Debug)]
struct Inner<C> {
    bell: Arc<Bell>,
    full: AtomicBool,
    stopping: AtomicBool,
    commands: Mutex<VecDeque<C>>,
}

impl<C> Clone for Mailbox<C> {
    fn clone(&self) -> Self {
        Mailbox { inner: Arc::clone(&self.inner) }
    }
}

impl<C> Default for Mailbox<C> {
    fn default() -> Self {
        Mailbox::new()
    }
}

impl<C> Mailbox<C> {
    /// An empty box.
    pub fn new() -> Mailbox<C> {
        let inner = Inner {
            bell: Arc::default(),
            full: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            commands: Mutex::new(VecDeque::new()),
        };
        Mailbox { inner: Arc::new(inner) }
    }

    /// Puts a command in; the machine takes it in its next turn.
    pub fn post(&self, command: C) {
        self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        self.inner.full.store(true, Ordering::Release);
        self.inner.bell.ring();
    }

    /// Puts in the command to stop, after which a machine that fails is not started again.
    pub fn stop(&self, command: C) {
        self.inner.stopping.store(true, Ordering::Release);
        self.post(command);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::Acquire)
    }

    /// Takes everything out, in the order posted.
    pub(crate) fn take(&self, mut each: impl FnMut(C)) {
        // A command that this look misses has its ring still to come.
        if self.inner.full.load(Ordering::Acquire) {
            self.inner.full.store(false, Ordering::Release);
            let commands =
                std::mem::take(&mut *self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner));
            commands.into_iter().for_each(&mut each);
        }
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.inner.bell
    }
}
