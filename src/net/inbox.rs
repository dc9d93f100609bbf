//! Room for what a connection says.
//!
//! Floor 3.

use bytes::BytesMut;

/// Makes room behind `received` for a read of `wanted` bytes: in the buffer that it has if nobody holds what was in it, or
/// in what is left of that if it is a quarter of them or more; else in a new one. Whoever holds pieces of a slow sender
/// holds little more than their bytes then.
pub fn make_room(received: &mut BytesMut, wanted: usize) {
    let left = received.capacity().saturating_sub(received.len());
    if !received.try_reclaim(wanted) && left < wanted / 4 {
        received.reserve(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: usize = 64 * 1024;

    #[test]
    fn pieces_that_are_held_share_a_buffer() {
        let mut received = BytesMut::new();
        let mut buffers = 0;

        let held: Vec<_> = (0..100)
            .map(|_| {
                let before = received.as_ptr();
                make_room(&mut received, WANTED);
                buffers += usize::from(received.as_ptr() != before);
                assert!(received.capacity() >= WANTED / 4);
                received.extend_from_slice(&[b'x'; 5_000]);
                received.split().freeze()
            })
            .collect();

        assert_eq!(held.concat().len(), 500_000);
        assert!(buffers <= 10, "{buffers} buffers");
    }

    #[test]
    fn buffer_of_which_nobody_holds_anything_is_used_again_from_its_beginning() {
        let mut received = BytesMut::new();
        make_room(&mut received, WANTED);
        let first = received.as_ptr();

        for _ in 0..10 {
            received.extend_from_slice(&[b'x'; 60_000]);
            drop(received.split().freeze());
            make_room(&mut received, WANTED);
            assert_eq!((received.as_ptr(), received.capacity() >= WANTED), (first, true));
        }
    }
}
