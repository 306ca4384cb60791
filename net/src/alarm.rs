//! Rings the bell at the machine's deadline.
//!
//! A deadline changes with nearly every turn, and most never come: so the timer is touched only when the deadline moves
//! ahead of what it is set to. One that moved back finds the timer firing early, once, and set again.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::bell::Bell;

#[derive(Debug, Default)]
pub(crate) struct Alarm {
    due: Cell<Option<Instant>>,
    /// What the timer is set to; never later than `due`.
    armed: Cell<Option<Instant>>,
    task: RefCell<Option<Waker>>,
}

impl Alarm {
    /// Rings at `due`, and no more at what was set before.
    pub(crate) fn set(&self, due: Option<Instant>) {
        self.due.set(due);
        if self.must_rearm()
            && let Some(task) = self.task.take()
        {
            task.wake();
        }
    }

    fn must_rearm(&self) -> bool {
        self.due.get().is_some_and(|due| self.armed.get().is_none_or(|armed| due < armed))
    }

    /// The task that waits; it never ends.
    pub(crate) async fn run(self: Rc<Self>, bell: Arc<Bell>) {
        let mut timer = pin!(tokio::time::sleep_until(Instant::now().into()));
        loop {
            self.armed.set(self.due.get());
            if let Some(due) = self.armed.get() {
                timer.as_mut().reset(due.into());
            }
            poll_fn(|cx| self.poll_moved_or_due(cx, timer.as_mut())).await;
            if self.due.get().is_some_and(|due| due <= Instant::now()) {
                self.due.set(None);
                bell.ring_here();
            }
        }
    }

    fn poll_moved_or_due(
        &self,
        cx: &mut Context<'_>,
        timer: std::pin::Pin<&mut tokio::time::Sleep>,
    ) -> Poll<()> {
        if self.must_rearm() {
            return Poll::Ready(());
        }
        *self.task.borrow_mut() = Some(cx.waker().clone());
        if self.armed.get().is_some() { timer.poll(cx) } else { Poll::Pending }
    }
}
