//! Room for what a connection says.
//!
//! Floor 3. In: a buffer, of which others may hold pieces, and how much is to be read. Out: the buffer with room for about
//! as much. Called before content is read; heads are read through the stack.

use bytes::BytesMut;

/// Makes room behind `received` for a read of `wanted` bytes or little less, in a buffer of that size: the one that it has, from
/// its beginning, if nobody holds what was in it; what is left of it, if that is a quarter of them, so that who holds pieces of
/// a slow sender holds little more than their bytes; else a new one.
pub fn make_room(received: &mut BytesMut, wanted: usize) {
    let fits = received.try_reclaim(wanted) || received.try_reclaim(wanted / 4 * 3);
    if fits || received.capacity().saturating_sub(received.len()) >= wanted / 4 {
        return;
    }
    // `reserve` would add to a buffer that nobody else holds, and copy what is spent.
    let mut next = BytesMut::with_capacity(received.len().saturating_add(wanted));
    next.extend_from_slice(received);
    *received = next;
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
    fn buffer_grows_to_what_is_wanted_and_not_beyond() {
        for left_over in [0, 1] {
            let mut received = BytesMut::new();
            for wanted in [16, 32, 64, 64, 64].map(|kibibytes| kibibytes * 1024) {
                make_room(&mut received, wanted);
                let room = received.capacity() - received.len();
                assert!((wanted / 4 * 3..=wanted).contains(&room), "{room} for {wanted}");
                // Filled, and all of it read but for the beginning of a chunk's line.
                received.resize(received.capacity(), b'x');
                drop(received.split_to(received.len() - left_over).freeze());
            }
            assert_eq!(received.len(), left_over);
        }
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
            assert_eq!((received.as_ptr(), received.capacity()), (first, WANTED));
        }
    }
}
