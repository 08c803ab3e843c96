//! What has come for one client and has not been taken by it yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use atomic_waker::AtomicWaker;
use bytes::BytesMut;
use parking_lot::Mutex;

use crate::error::{Refusal, SqlState};

/// A `NotificationResponse` as it goes over the wire, shared by all who get it.
pub(super) type Notification = Arc<[u8]>;

/// One client's notifications, bounded.
#[derive(Debug)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    /// There is something to look at.
    is_stirred: AtomicBool,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct Inner {
    queue: VecDeque<Notification>,
    bytes: usize,
    bytes_max: usize,
    /// The number of the last marker that has been passed.
    passed: u64,
    /// Why nothing will come any more.
    end: Option<Refusal>,
}

impl Mailbox {
    pub(super) fn new(bytes_max: usize) -> Self {
        let inner = Inner {
            queue: VecDeque::new(),
            bytes: 0,
            bytes_max,
            passed: 0,
            end: None,
        };
        Self {
            inner: Mutex::new(inner),
            is_stirred: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// Puts a notification in; one too many ends the client.
    pub(super) fn put(&self, notification: &Notification) {
        let mut inner = self.inner.lock();
        if inner.end.is_some() {
            return;
        }
        inner.bytes += notification.len();
        inner.queue.push_back(notification.clone());
        if inner.bytes > inner.bytes_max {
            let refusal = flooded(inner.bytes_max);
            inner.finish(refusal);
        }
        drop(inner);
        self.stir();
    }

    /// Nothing will come any more; what is in it is lost.
    pub(super) fn end(&self, refusal: Refusal) {
        self.inner.lock().finish(refusal);
        self.stir();
    }

    pub(super) fn pass(&self, number: u64) {
        self.inner.lock().passed = number;
        self.stir();
    }

    pub(super) fn passed(&self) -> u64 {
        self.inner.lock().passed
    }

    /// Gets the client to look.
    pub(super) fn stir(&self) {
        self.is_stirred.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether there is something to look at since it was last asked. Registers `cx` to be woken.
    pub(super) fn is_stirred(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_stirred.load(Ordering::Acquire) && self.is_stirred.swap(false, Ordering::AcqRel)
    }

    /// Appends what there is to `output`, up to `room` bytes and one notification. Tells whether that was all.
    pub(super) fn take(&self, output: &mut BytesMut, room: usize) -> Result<bool, Refusal> {
        let mut inner = self.inner.lock();
        if let Some(end) = &inner.end {
            return Err(end.clone());
        }
        let full = output.len() + room;
        while output.len() < full
            && let Some(notification) = inner.queue.pop_front()
        {
            inner.bytes -= notification.len();
            output.extend_from_slice(&notification);
        }
        let is_all = inner.queue.is_empty();
        if is_all {
            // Idle clients hold no memory.
            inner.queue = VecDeque::new();
        }
        Ok(is_all)
    }

    /// How much is in it, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }
}

impl Inner {
    fn finish(&mut self, refusal: Refusal) {
        self.end.get_or_insert(refusal);
        self.queue = VecDeque::new();
        self.bytes = 0;
    }
}

fn flooded(bytes_max: usize) -> Refusal {
    Refusal::new(
        SqlState::PROGRAM_LIMIT,
        "terminating connection because it does not read its notifications",
    )
    .detail(format!("max_client_notification_bytes is {bytes_max}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Mailbox {
        let mailbox = Mailbox::new(30);
        for text in ["one", "two", "three"] {
            mailbox.put(&text.as_bytes().into());
        }
        mailbox
    }

    #[test]
    fn notifications_are_taken_in_order_as_far_as_there_is_room() {
        let mailbox = three();
        let mut output = BytesMut::from(&b"<"[..]);
        assert_eq!(mailbox.take(&mut output, 4), Ok(false));
        assert_eq!(output[..], b"<onetwo"[..]);
        assert_eq!(mailbox.take(&mut output, 100), Ok(true));
        assert_eq!(output[..], b"<onetwothree"[..]);
        assert_eq!(mailbox.bytes(), 0);
    }

    #[test]
    fn a_client_that_takes_nothing_is_told_and_holds_no_memory() {
        let mailbox = three();
        mailbox.put(&[b'x'; 30][..].into());
        assert_eq!(mailbox.bytes(), 0);
        mailbox.put(&[b'x'; 3][..].into());
        mailbox.end(Refusal::new(
            SqlState::ADMIN_SHUTDOWN,
            "another reason comes too late",
        ));
        let refusal = mailbox.take(&mut BytesMut::new(), 100).unwrap_err();
        assert_eq!(refusal.code, SqlState::PROGRAM_LIMIT);
    }
}
