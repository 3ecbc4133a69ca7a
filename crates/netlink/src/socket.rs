//! Socket options of BGP sessions that the usual libraries don't have.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use margay_net::{Cidr, Family};
use socket2::SockAddr;

/// The longest key of TCP-MD5 (`TCP_MD5SIG_MAXKEYLEN`).
pub const TCP_MD5_MAX_KEY: usize = 80;
/// `TCP_MD5SIG_FLAG_PREFIX`.
const FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of `linux/tcp.h`.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    interface: i32,
    key: [u8; TCP_MD5_MAX_KEY],
}

/// Has every segment to and from `peer` signed with `key` (RFC 2385); an empty key takes a signature away.
///
/// On a listening socket it holds for the connections that it accepts from that address. Fails with `InvalidInput` for a
/// key of more than [`TCP_MD5_MAX_KEY`] bytes. Taking away a key that isn't there is no error.
pub fn set_tcp_md5(socket: &impl AsFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    set_tcp_md5_prefix(socket, Cidr::host(peer), key)
}

/// As [`set_tcp_md5`] for every peer inside a prefix.
pub fn set_tcp_md5_prefix(socket: &impl AsFd, peers: Cidr, key: &[u8]) -> io::Result<()> {
    if key.len() > TCP_MD5_MAX_KEY {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a TCP-MD5 key has at most {TCP_MD5_MAX_KEY} bytes, this one has {}", key.len()),
        ));
    }
    let address = SockAddr::from(SocketAddr::new(peers.addr(), 0));
    let mut option = TcpMd5Sig {
        address: address.as_storage_bytes(),
        flags: 0,
        prefix_len: 0,
        key_len: key.len() as u16,
        interface: 0,
        key: [0; TCP_MD5_MAX_KEY],
    };
    option.key[..key.len()].copy_from_slice(key);
    let result = if peers.is_host() {
        set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_MD5SIG, &option)
    } else {
        option.flags = FLAG_PREFIX;
        option.prefix_len = peers.len();
        set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &option)
    };
    match result {
        Err(error) if key.is_empty() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// Has packets dropped that arrive with a lower TTL or hop limit (GTSM, RFC 5082), for the socket's own family.
pub fn set_min_ttl(socket: &impl AsFd, min_ttl: u8) -> io::Result<()> {
    let value = i32::from(min_ttl);
    match family(socket.as_fd())? {
        Family::V4 => set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MINTTL, &value),
        Family::V6 => set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &value),
    }
}

pub(crate) fn family(fd: BorrowedFd<'_>) -> io::Result<Family> {
    let mut domain = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: both pointers are to live values, and `len` is the size of the first.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN, (&raw mut domain).cast(), &raw mut len)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    match domain {
        libc::AF_INET => Ok(Family::V4),
        libc::AF_INET6 => Ok(Family::V6),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket is neither IPv4 nor IPv6")),
    }
}

pub(crate) fn set_option<T>(fd: BorrowedFd<'_>, level: i32, option: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length describe a value that lives across the call; the kernel only reads it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the bytes of an address in the shape that `struct tcp_md5sig` has.
trait StorageBytes {
    fn as_storage_bytes(&self) -> libc::sockaddr_storage;
}

impl StorageBytes for SockAddr {
    fn as_storage_bytes(&self) -> libc::sockaddr_storage {
        // SAFETY: all zeros is a valid sockaddr_storage.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let len = (self.len() as usize).min(size_of::<libc::sockaddr_storage>());
        // SAFETY: a SockAddr holds at least `len` bytes, and `storage` has room for them; they don't overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.as_ptr().cast::<u8>(), (&raw mut storage).cast::<u8>(), len) };
        storage
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn the_key_structure_has_the_kernels_size() {
        assert_eq!(size_of::<TcpMd5Sig>(), 216);
    }

    #[test]
    fn a_key_is_set_and_taken_away_on_both_families() {
        for peer in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let domain = socket2::Domain::for_address(SocketAddr::new(peer, 0));
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
            set_tcp_md5(&socket, peer, b"").unwrap();
            set_tcp_md5(&socket, peer, b"secret").unwrap();
            set_tcp_md5(&socket, peer, b"").unwrap();
            set_tcp_md5(&socket, peer, &[b'x'; TCP_MD5_MAX_KEY]).unwrap();
            assert_eq!(set_tcp_md5(&socket, peer, &[0; 81]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            set_tcp_md5_prefix(&socket, Cidr::truncated(peer, 8).unwrap(), b"secret").unwrap();
            set_min_ttl(&socket, 255).unwrap();
        }
    }
}
