//! Datagrams with what the kernel knows of their way: TTL, destination, interface.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{SockAddr, SockAddrStorage};

use crate::socket::{family, set_option};
use margay_net::Family;

/// A datagram that was received, its payload apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes in the buffer; a longer payload was cut off.
    pub len: usize,
    pub remote: SocketAddr,
    /// TTL or hop limit as it arrived.
    pub ttl: Option<u8>,
    /// The address that it was sent to.
    pub local: Option<IpAddr>,
    /// The index of the interface that it came in by; 0 where unknown.
    pub interface: u32,
    /// How many datagrams the kernel has dropped for want of room in this socket, ever (`SO_RXQ_OVFL`); absent as long
    /// as it dropped none.
    pub dropped: Option<u32>,
}

/// Has [`receive`] know TTL, destination, interface and drops, for the socket's own family.
pub fn set_receive_info(socket: &impl AsFd) -> io::Result<()> {
    let (fd, on) = (socket.as_fd(), 1i32);
    set_option(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &on)?;
    match family(fd)? {
        Family::V4 => {
            set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTTL, &on)?;
            set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, &on)
        }
        Family::V6 => {
            set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &on)?;
            set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &on)
        }
    }
}

/// Gives a socket room for so many bytes that wait, beyond the system's limit where the process may (CAP_NET_ADMIN).
pub fn set_receive_buffer(socket: &impl AsFd, bytes: i32) -> io::Result<()> {
    let fd = socket.as_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes))
}

/// Room for the control messages of one datagram, aligned as the kernel's headers are.
#[repr(C, align(8))]
struct Control([u8; 256]);

/// Takes a datagram that waits; `WouldBlock` where none does, whether or not the socket blocks.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut storage = SockAddrStorage::zeroed();
    let mut control = MaybeUninit::<Control>::uninit();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid msghdr: no name, no parts, no control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut storage).cast();
    header.msg_namelen = storage.size_of();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the header's pointers and lengths describe values that live across the call.
    let len = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    if len < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel wrote an address of this length.
    let remote = unsafe { SockAddr::new(storage, header.msg_namelen) };
    let remote = remote.as_socket().ok_or_else(|| io::Error::other("a datagram from no IP address"))?;
    let mut datagram =
        Datagram { len: len.unsigned_abs(), remote, ttl: None, local: None, interface: 0, dropped: None };
    // SAFETY: the header is as the kernel left it, its control buffer is alive.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header inside the control buffer.
        unsafe { note(&mut datagram, message) };
        // SAFETY: as before.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok(datagram)
}

/// Reads one control message.
///
/// # Safety
///
/// The pointer is to a control message that the kernel wrote, with its data behind it.
unsafe fn note(datagram: &mut Datagram, message: *const libc::cmsghdr) {
    // SAFETY: the caller vouches for the header; the kernel's data has the size of the type that goes with level and
    // type, and may be unaligned.
    unsafe {
        let data = libc::CMSG_DATA(message);
        match ((*message).cmsg_level, (*message).cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                datagram.ttl = u8::try_from(data.cast::<i32>().read_unaligned()).ok();
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                datagram.local = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                datagram.interface = info.ipi_ifindex.unsigned_abs();
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                datagram.local = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                datagram.interface = info.ipi6_ifindex;
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => datagram.dropped = Some(data.cast::<u32>().read_unaligned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    fn wait(socket: &UdpSocket, buffer: &mut [u8]) -> Datagram {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match receive(socket, buffer) {
                Ok(datagram) => return datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_datagram_tells_its_ttl_and_where_it_went() {
        for (any, own) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
            let socket = UdpSocket::bind(any).unwrap();
            set_receive_info(&socket).unwrap();
            set_receive_buffer(&socket, 1 << 20).unwrap();
            let own: IpAddr = own.parse().unwrap();
            let sender = UdpSocket::bind((own, 0)).unwrap();
            let options = socket2::SockRef::from(&sender);
            match own {
                IpAddr::V4(_) => options.set_ttl_v4(254).unwrap(),
                IpAddr::V6(_) => options.set_unicast_hops_v6(254).unwrap(),
            }
            let mut buffer = [0; 16];
            assert_eq!(receive(&socket, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            sender.send_to(b"hello", (own, socket.local_addr().unwrap().port())).unwrap();
            let datagram = wait(&socket, &mut buffer);
            assert_eq!(&buffer[..datagram.len], b"hello");
            assert_eq!((datagram.ttl, datagram.local), (Some(254), Some(own)));
            assert_eq!(datagram.remote, sender.local_addr().unwrap());
            assert_ne!(datagram.interface, 0);
            assert_eq!(datagram.dropped, None);
        }
    }

    #[test]
    fn what_the_kernel_had_no_room_for_is_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        set_receive_info(&socket).unwrap();
        set_receive_buffer(&socket, 1).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 100], socket.local_addr().unwrap()).unwrap();
        }
        let mut buffer = [0; 100];
        while receive(&socket, &mut buffer).is_ok() {}
        sender.send_to(&[0; 100], socket.local_addr().unwrap()).unwrap();
        assert!(wait(&socket, &mut buffer).dropped.is_some_and(|dropped| dropped > 0));
    }
}
