use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use margay_bgp_core::ConnectionId;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::outbox::Outbox;

/// Size of a read.
const READ_BYTES: usize = 64 * 1024;
/// Reads that may wait for the core, per connection.
const READS_IN_FLIGHT: usize = 2;
/// Reads that fill less than this are copied, so that a keepalive doesn't hold a whole buffer.
const COPY_BELOW: usize = READ_BYTES / 4;
/// How long closing waits for the last bytes to go and for the peer's end of stream.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection's tasks tell the task of the core.
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    Connected(TcpStream),
    ConnectFailed(String),
    /// When the turn is dropped the reader may read on.
    Received(Bytes, Turn),
    Drained,
    Closed(String),
}

/// A connection's turn to have bytes on their way to the core.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    waiting: Arc<AtomicUsize>,
}

impl Turn {
    fn new(permit: OwnedSemaphorePermit, waiting: &Arc<AtomicUsize>) -> Turn {
        waiting.fetch_add(1, Ordering::Relaxed);
        Turn { _permit: permit, waiting: waiting.clone() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) type EventSender = mpsc::Sender<(ConnectionId, ConnectionEvent)>;

/// An open connection and its two tasks; dropping it closes the stream at once.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Arc<TcpStream>,
    outbox: Arc<Outbox>,
    batch: VecDeque<Bytes>,
    /// Reads that wait for the core.
    waiting: Arc<AtomicUsize>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Connection {
    pub(crate) fn open(id: ConnectionId, stream: TcpStream, events: &EventSender) -> Connection {
        let (stream, outbox) = (Arc::new(stream), Arc::new(Outbox::default()));
        let waiting = Arc::new(AtomicUsize::new(0));
        let reader = tokio::spawn(read(id, stream.clone(), waiting.clone(), events.clone()));
        let writer = tokio::spawn(write(id, stream.clone(), outbox.clone(), events.clone()));
        Connection { stream, outbox, batch: VecDeque::new(), waiting, reader, writer }
    }

    /// Appends to what [`Connection::flush`] will send; tells whether it is the first.
    pub(crate) fn append(&mut self, bytes: Bytes) -> bool {
        self.batch.push_back(bytes);
        self.batch.len() == 1
    }

    /// Sends what was appended; tells whether all of it is in the kernel.
    pub(crate) fn flush(&mut self) -> bool {
        self.outbox.send(&self.stream, &mut self.batch)
    }

    /// Whether bytes have arrived that the core hasn't seen.
    pub(crate) fn is_heard(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.batch.is_empty() && self.outbox.is_drained()
    }

    /// Sends what is queued, ends the stream and waits a moment for the peer's end, since a socket closed with unread
    /// bytes resets the connection and the peer may lose the NOTIFICATION before it.
    pub(crate) async fn close(mut self) {
        self.flush();
        self.reader.abort();
        self.outbox.close();
        let _ = tokio::time::timeout(LINGER, async {
            let _ = (&mut self.writer).await;
            SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write)?;
            let mut discarded = BytesMut::with_capacity(READ_BYTES);
            while read_some(&self.stream, &mut discarded).await? > 0 {
                discarded.clear();
            }
            io::Result::Ok(())
        })
        .await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

async fn read(id: ConnectionId, stream: Arc<TcpStream>, waiting: Arc<AtomicUsize>, events: EventSender) {
    let turns = Arc::new(Semaphore::new(READS_IN_FLIGHT));
    let reason = loop {
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        // An idle session holds no buffer.
        if let Err(error) = stream.readable().await {
            break error.to_string();
        }
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let bytes = match stream.try_read_buf(&mut buffer) {
            Ok(0) => break "closed by the peer".to_owned(),
            Ok(read) if read < COPY_BELOW => Bytes::copy_from_slice(&buffer),
            Ok(_) => buffer.freeze(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => break error.to_string(),
        };
        let turn = Turn::new(turn, &waiting);
        if events.send((id, ConnectionEvent::Received(bytes, turn))).await.is_err() {
            return;
        }
    };
    let _ = events.send((id, ConnectionEvent::Closed(reason))).await;
}

async fn read_some(stream: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

async fn write(id: ConnectionId, stream: Arc<TcpStream>, outbox: Arc<Outbox>, events: EventSender) {
    loop {
        let event = match outbox.write(&stream).await {
            Ok(true) => ConnectionEvent::Drained,
            Ok(false) => return,
            Err(error) => ConnectionEvent::Closed(error.to_string()),
        };
        let ended = matches!(event, ConnectionEvent::Closed(_));
        if events.send((id, event)).await.is_err() || ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const ID: ConnectionId = ConnectionId(1);

    async fn open() -> (Connection, mpsc::Receiver<(ConnectionId, ConnectionEvent)>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (events, events_rx) = mpsc::channel(16);
        let near = listener.accept().await.unwrap().0;
        (Connection::open(ID, near, &events), events_rx, far)
    }

    #[tokio::test]
    async fn a_connection_has_two_buffers_on_their_way_and_reads_on_when_one_is_handled() {
        let (connection, mut events, mut far) = open().await;
        assert!(!connection.is_heard());
        tokio::spawn(async move {
            far.write_all(&vec![7; 4 << 20]).await.unwrap();
            far
        });
        let mut turns = Vec::new();
        while let Ok(event) = timeout(Duration::from_millis(200), events.recv()).await {
            let (ID, ConnectionEvent::Received(bytes, turn)) = event.unwrap() else { panic!("bytes") };
            assert!(bytes.len() <= READ_BYTES);
            turns.push(turn);
        }
        assert_eq!(turns.len(), READS_IN_FLIGHT);
        assert!(connection.is_heard());
        turns.pop();
        assert!(matches!(events.recv().await, Some((ID, ConnectionEvent::Received(..)))));
    }

    #[tokio::test]
    async fn closing_sends_what_is_queued_before_the_end_even_with_unread_bytes() {
        let (mut connection, _events, mut far) = open().await;
        far.write_all(&[1; 1000]).await.unwrap();
        assert!(connection.append(Bytes::from(vec![5; 100_000])));
        assert!(!connection.append(Bytes::from_static(b"end")));
        let closing = tokio::spawn(connection.close());
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 100_003);
        assert!(received.ends_with(b"end"));
        drop(far);
        closing.await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_closed_all_the_same() {
        let (mut connection, _events, far) = open().await;
        connection.append(Bytes::from(vec![5; 16 << 20]));
        assert!(!connection.flush());
        assert!(!connection.is_drained());
        timeout(LINGER * 5, connection.close()).await.unwrap();
        drop(far);
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_reported_after_its_last_bytes() {
        let (_connection, mut events, mut far) = open().await;
        far.write_all(b"last").await.unwrap();
        drop(far);
        let Some((ID, ConnectionEvent::Received(bytes, _turn))) = events.recv().await else { panic!("bytes") };
        assert_eq!(&bytes[..], b"last");
        assert!(matches!(events.recv().await, Some((ID, ConnectionEvent::Closed(_)))));
    }
}
