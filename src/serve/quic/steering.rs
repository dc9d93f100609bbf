//! Has the kernel bring each datagram to the worker that has its connection.
//!
//! `SO_REUSEPORT` spreads datagrams by the client's address, so that those of a client that moved may come to another
//! worker. A classic BPF program on the group of sockets chooses by connection id instead: the kernel cannot decrypt
//! one, but it can hash its first four bytes, and [`super::ids`] takes none whose hash names another worker. The hash is
//! keyed by the fleet's secret; who worked it out from many ids of his own would learn of others' which worker they
//! have, and nothing else.
//!
//! Only short headers are steered. Long ones come before a client may move (RFC 9000 §9), and a client chooses the ids of
//! the first ones itself: it could send all its connections to one worker. They are left to the kernel's spread, as is
//! everything where there is no filter; whatever comes to the wrong worker is handed over in process.

use std::net::UdpSocket;

use nix::libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LEN, BPF_MISC, BPF_MOD, BPF_MUL,
    BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR, sock_filter, sock_fprog,
};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

/// Bytes of an id that are hashed.
pub(super) const HASHED: usize = 4;

/// No socket has this number: the kernel then spreads by address.
const NONE: u32 = u32::MAX;

/// What the hash is made of, from the fleet's secret.
#[derive(Clone, Copy)]
pub(super) struct Mixer {
    add: u32,
    times: [u32; 2],
}

/// The hash for a number of workers.
#[derive(Clone, Copy)]
pub(super) struct Steering {
    mixer: Mixer,
    workers: u32,
}

impl Mixer {
    /// A mixer from secret bytes.
    pub(super) const fn new(secret: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = secret;
        // Odd, so that nothing is lost.
        let times = [u32::from_be_bytes([e, f, g, h]) | 1, u32::from_be_bytes([i, j, k, l]) | 1];
        Self { add: u32::from_be_bytes([a, b, c, d]), times }
    }

    /// For `workers`; none counts as one.
    pub(super) fn over(self, workers: u32) -> Steering {
        Steering { mixer: self, workers: workers.max(1) }
    }
}

impl Steering {
    /// The worker for ids that begin with `first`.
    pub(super) const fn worker(&self, first: [u8; HASHED]) -> u32 {
        let [one, two] = self.mixer.times;
        let mixed = (u32::from_be_bytes(first) ^ self.mixer.add).wrapping_mul(one);
        let mixed = (mixed ^ (mixed >> 16)).wrapping_mul(two);
        // Never zero.
        (mixed ^ (mixed >> 15)) % self.workers
    }

    /// The first beginning of an id from `first` on that leads to `worker`. Within a few times as many steps as there are
    /// workers; without one, which no number of workers has ever shown, the datagrams are handed over in process.
    pub(super) fn towards(&self, worker: u32, first: [u8; HASHED]) -> [u8; HASHED] {
        let start = u32::from_be_bytes(first);
        let near = (0..1 << 16).map(|step| start.wrapping_add(step).to_be_bytes());
        near.into_iter().find(|first| self.worker(*first) == worker).unwrap_or(first)
    }

    /// Has the kernel steer what comes to the group of `socket`, whose members were bound in the order of the workers.
    ///
    /// # Errors
    /// When the kernel takes no such program.
    pub(super) fn attach(&self, socket: &UdpSocket) -> nix::Result<()> {
        let mut program = self.program();
        let length = u16::try_from(program.len()).unwrap_or_default();
        // The kernel copies it.
        setsockopt(socket, AttachReusePortCbpf, &sock_fprog { len: length, filter: program.as_mut_ptr() })
    }

    /// [`Self::worker`] of a short header's id in the kernel's language: the payload of UDP in, a socket's number out.
    fn program(&self) -> [sock_filter; 17] {
        let [one, two] = self.mixer.times;
        let step = |code: u32, k: u32| sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: 0, jf: 0, k };
        let branch = |code: u32, k: u32, jt: u8, jf: u8| sock_filter { jt, jf, ..step(BPF_JMP | code | BPF_K, k) };
        let mix = |operation: u32, k: u32| step(BPF_ALU | operation | BPF_K, k);
        let (keep, fold) = (step(BPF_MISC | BPF_TAX, 0), step(BPF_ALU | BPF_XOR | BPF_X, 0));
        [
            step(BPF_LD | BPF_W | BPF_LEN, 0),
            branch(BPF_JGE, 1 + 4, 0, 14),
            step(BPF_LD | BPF_B | BPF_ABS, 0),
            branch(BPF_JSET, 0x80, 12, 0),
            step(BPF_LD | BPF_W | BPF_ABS, 1),
            mix(BPF_XOR, self.mixer.add),
            mix(BPF_MUL, one),
            keep,
            mix(BPF_RSH, 16),
            fold,
            mix(BPF_MUL, two),
            keep,
            mix(BPF_RSH, 15),
            fold,
            mix(BPF_MOD, self.workers),
            step(BPF_RET | BPF_A, 0),
            step(BPF_RET | BPF_K, NONE),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixer() -> Mixer {
        Mixer::new(*b"twelve bytes")
    }

    #[test]
    fn beginnings_are_found_for_every_worker_of_any_number() {
        for workers in [1, 2, 3, 7, 64, 255] {
            let steering = mixer().over(workers);
            for worker in 0..workers {
                let first = steering.towards(worker, [0xff, 0xff, 0xff, 0xf0]);
                assert_eq!(steering.worker(first), worker, "of {workers}");
            }
        }
    }

    #[test]
    fn beginnings_are_spread_evenly() {
        let steering = mixer().over(5);
        let mut shares = [0_u32; 5];

        for number in 0..10_000_u32 {
            shares[steering.worker(number.to_be_bytes()) as usize] += 1;
        }

        assert!(shares.iter().all(|share| (1_800..2_200).contains(share)), "{shares:?}");
    }

    /// Sockets of `workers` on one address of this machine; none where it has no such address.
    fn group(any: &str, workers: usize) -> Option<Vec<UdpSocket>> {
        let (alone, _) = crate::net::bind::bind_udp(any.parse().unwrap(), 1, 65_536).ok()?;
        let address = alone[0].local_addr().unwrap();
        drop(alone);
        Some(crate::net::bind::bind_udp(address, workers, 65_536).unwrap().0)
    }

    #[test]
    fn kernel_brings_short_headers_to_the_worker_of_their_id_and_spreads_others_by_address() {
        let steering = mixer().over(4);
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Some(group) = group(any, 4) else { continue };
            steering.attach(&group[0]).unwrap();
            let (sender, address) = (UdpSocket::bind(any).unwrap(), group[0].local_addr().unwrap());
            let mut buf = [0; 64];
            let mut came_to = |datagram: &[u8]| {
                sender.send_to(datagram, address).unwrap();
                // Loopback delivers within the call.
                group.iter().position(|socket| socket.recv(&mut buf).is_ok_and(|length| buf[..length] == *datagram))
            };

            for number in 0..200_u32 {
                let id = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
                let short = [&[0x41][..], &id, b"rest of it"].concat();
                assert_eq!(came_to(&short), Some(steering.worker(id) as usize), "{id:x?}");
            }
            let by_address = came_to(&[&[0xc0, 0, 0, 0, 1, 8][..], b"any id"].concat());
            for number in 0..50 {
                let long = [&[0xc3, 0, 0, 0, 1, 8, number][..], b"an id of a client"].concat();
                assert_eq!(came_to(&long), by_address);
            }
            for tiny in [&b""[..], b"\x40", b"\x40abc"] {
                assert_eq!(came_to(tiny), by_address, "{tiny:?}");
            }
        }
    }
}
