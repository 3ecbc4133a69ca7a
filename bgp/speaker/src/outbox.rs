use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Most buffers of one `writev`.
const WRITE_BUFFERS: usize = 64;
/// Most bytes that a writer takes from the queue at once.
const WRITE_BYTES: usize = 256 * 1024;
/// Most bytes that are written without the writer.
const INLINE_BYTES: usize = 16 * 1024;

/// Bytes on their way to a peer, shared by the task of the core and the connection's writer.
///
/// The core bounds what it hands out until it is told that all of it is in the kernel, and so bounds the queue.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    shared: Mutex<Shared>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Shared {
    queue: VecDeque<Bytes>,
    /// Whether the writer holds bytes or will look for some; the queue is then its alone to write.
    writing: bool,
    closing: bool,
}

impl Outbox {
    /// Writes `batch` at once if that is possible and little, leaves the rest to the writer, and tells whether all of
    /// it is in the kernel. `batch` is left empty.
    pub(crate) fn send(&self, stream: &TcpStream, batch: &mut VecDeque<Bytes>) -> bool {
        let mut shared = self.shared();
        if !shared.writing && batch.iter().map(Bytes::len).sum::<usize>() <= INLINE_BYTES {
            while !batch.is_empty() {
                // The writer meets an error again, and reports it.
                match try_write(stream, batch) {
                    Ok(written) => advance(batch, written),
                    Err(_) => break,
                }
            }
        }
        if batch.is_empty() {
            return !shared.writing;
        }
        shared.queue.append(batch);
        shared.writing = true;
        self.wake.notify_one();
        false
    }

    /// Whether everything handed to [`Outbox::send`] is in the kernel.
    pub(crate) fn is_drained(&self) -> bool {
        !self.shared().writing
    }

    /// Lets [`Outbox::write`] end once the queue is empty.
    pub(crate) fn close(&self) {
        self.shared().closing = true;
        self.wake.notify_one();
    }

    /// Writes what is queued until the queue is empty after some was written (`Ok(true)`) or the outbox is closed and
    /// empty (`Ok(false)`).
    pub(crate) async fn write(&self, stream: &TcpStream) -> io::Result<bool> {
        let mut taken = VecDeque::new();
        let mut wrote = false;
        loop {
            if !self.take(&mut taken) {
                if wrote {
                    return Ok(true);
                }
                if self.shared().closing {
                    return Ok(false);
                }
                self.wake.notified().await;
                continue;
            }
            wrote = true;
            while !taken.is_empty() {
                match try_write(stream, &taken) {
                    Ok(written) => advance(&mut taken, written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Moves a bite of the queue to `taken`; tells whether there was any.
    fn take(&self, taken: &mut VecDeque<Bytes>) -> bool {
        let mut shared = self.shared();
        let mut bytes = 0;
        while bytes < WRITE_BYTES {
            let Some(buffer) = shared.queue.pop_front() else { break };
            bytes += buffer.len();
            taken.push_back(buffer);
        }
        shared.writing = !taken.is_empty();
        shared.writing
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // No code that could panic runs under the lock.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn try_write(stream: &TcpStream, buffers: &VecDeque<Bytes>) -> io::Result<usize> {
    // Most of what goes out is one buffer for many peers, and a plain write is what costs the kernel the least.
    if buffers.len() == 1 {
        return match stream.try_write(&buffers[0])? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        };
    }
    let mut slices = [IoSlice::new(&[]); WRITE_BUFFERS];
    let mut count = 0;
    for (slice, buffer) in slices.iter_mut().zip(buffers) {
        *slice = IoSlice::new(buffer);
        count += 1;
    }
    match stream.try_write_vectored(&slices[..count])? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}

fn advance(buffers: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = buffers.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        buffers.pop_front();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let out = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (out, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_small_message_is_in_the_kernel_without_a_writer() {
        let (out, mut back) = pair().await;
        out.writable().await.unwrap();
        let outbox = Outbox::default();
        let mut batch = VecDeque::from([Bytes::from_static(b"keep"), Bytes::from_static(b"alive")]);
        assert!(outbox.send(&out, &mut batch));
        assert!(outbox.is_drained());
        let mut text = [0; 9];
        back.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"keepalive");
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_arrives_in_order_by_the_writer() {
        let (out, mut back) = pair().await;
        let out = Arc::new(out);
        let outbox = Arc::new(Outbox::default());
        let expected: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut batch: VecDeque<Bytes> = expected.chunks(4096).map(Bytes::copy_from_slice).collect();
        assert!(!outbox.send(&out, &mut batch));
        assert!(batch.is_empty());
        assert!(!outbox.send(&out, &mut VecDeque::from([Bytes::from_static(b"end")])));
        let writer = tokio::spawn({
            let (out, outbox) = (out.clone(), outbox.clone());
            async move {
                let drained = outbox.write(&out).await.unwrap();
                (drained, outbox.write(&out).await.unwrap())
            }
        });
        let mut received = vec![0; expected.len() + 3];
        back.read_exact(&mut received).await.unwrap();
        assert_eq!(&received[..expected.len()], &expected);
        assert_eq!(&received[expected.len()..], b"end");
        outbox.close();
        assert_eq!(writer.await.unwrap(), (true, false));
        assert!(outbox.is_drained());
    }
}
