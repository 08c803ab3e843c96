//! Buffers that idle connections give back, so that ten thousand of them hold none.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes that one read asks for, and the size of a buffer at rest.
pub const CHUNK: usize = 16 * 1024;
/// Buffers that a worker keeps for later; the rest is freed.
const KEPT_MAX: usize = 64;

thread_local! {
    static STORE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Gives a buffer memory if it has none at all. Whatever fills a buffer that is going to be given back begins with this,
/// so that filling it allocates nothing.
#[inline]
pub fn open(buffer: &mut BytesMut) {
    if buffer.capacity() == 0 {
        *buffer = STORE
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| BytesMut::with_capacity(CHUNK));
    }
}

/// Makes sure that a buffer has room for a read.
pub fn make_room(buffer: &mut BytesMut) {
    open(buffer);
    let spare = buffer.capacity() - buffer.len();
    if spare < CHUNK / 4 {
        // Moves what is there to the front, or doubles: growth follows what has arrived, never what a header claims.
        buffer.reserve(if buffer.is_empty() {
            CHUNK
        } else {
            buffer.len().max(CHUNK / 4)
        });
    }
}

/// Gives an empty buffer's memory back to the worker's store.
#[inline]
pub fn give_back(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > 0 {
        keep(buffer);
    }
}

fn keep(buffer: &mut BytesMut) {
    let mut spent = std::mem::take(buffer);
    // Finds back the front of its memory. One that is smaller than those of the store came from elsewhere.
    if spent.try_reclaim(CHUNK / 2) && spent.capacity() <= 2 * CHUNK {
        STORE.with_borrow_mut(|store| {
            if store.len() < KEPT_MAX {
                store.push(spent);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;

    #[test]
    fn memory_is_used_again() {
        let mut buffer = BytesMut::new();
        make_room(&mut buffer);
        let first = buffer.as_ptr();
        buffer.extend_from_slice(&[7; 9000]);
        buffer.advance(9000);
        give_back(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        make_room(&mut buffer);
        assert_eq!(buffer.as_ptr(), first);
        assert!(buffer.capacity() >= CHUNK);
    }

    #[test]
    fn a_buffer_in_use_is_not_given_away() {
        let mut buffer = BytesMut::from(&b"kept"[..]);
        give_back(&mut buffer);
        assert_eq!(&buffer[..], b"kept");
    }
}
