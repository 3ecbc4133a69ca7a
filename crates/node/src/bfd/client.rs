//! The daemon's side of `bfd.sock`.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use margay_local_api::{BFD_VERSION, BfdMessage, BfdRefusal, BfdRequest, BfdSessionConfig, BfdSessionStatus};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

/// What is told of an owner's BFD sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BfdStatus {
    /// All sessions as they are: after each connect, and after each change of the set, with what was refused of it.
    Sessions { sessions: Vec<BfdSessionStatus>, refused: Vec<BfdRefusal> },
    /// One of them changed.
    Session(Box<BfdSessionStatus>),
    /// `margayd bfd` can't be talked to: why, and what to do. Told once for each reason. The sessions may well go on:
    /// this says nothing about the peers.
    Unreachable(String),
}

/// Keeps `margayd bfd` told of the sessions that are wanted, over restarts of both.
#[derive(Debug)]
pub(crate) struct BfdClient {
    pub(crate) socket: PathBuf,
    pub(crate) owner: String,
    /// The whole set; the newest is what counts. `None` as long as it isn't known: sessions that an earlier run of the
    /// daemon asked for go on.
    pub(crate) wanted: watch::Receiver<Option<Arc<Vec<BfdSessionConfig>>>>,
    pub(crate) status: mpsc::Sender<BfdStatus>,
}

const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a conversation ended.
#[derive(Debug)]
enum End {
    /// The daemon's own ends are gone.
    NotNeeded,
    Lost(String),
}

impl BfdClient {
    /// Runs until nobody sends a set or listens any more.
    pub(crate) async fn run(mut self) {
        let mut wait = SHORTEST_WAIT;
        let mut told = String::new();
        loop {
            let lost = match self.connect().await {
                Ok(stream) => {
                    (wait, told) = (SHORTEST_WAIT, String::new());
                    match self.converse(stream).await {
                        End::NotNeeded => return,
                        End::Lost(reason) => reason,
                    }
                }
                Err(reason) => reason,
            };
            if told != lost {
                told.clone_from(&lost);
                if self.status.send(BfdStatus::Unreachable(lost)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.status.closed() => return,
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn connect(&self) -> Result<UnixStream, String> {
        let path = self.socket.display();
        UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
                "margayd bfd is not running (nobody serves {path}): BFD sessions are neither begun nor watched; start \
                 it with `systemctl start margayd-bfd`, or `margayd bfd`"
            ),
            _ => format!("cannot connect to margayd bfd at {path}: {error}"),
        })
    }

    async fn converse(&mut self, stream: UnixStream) -> End {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let hello = BfdRequest::Hello { version: BFD_VERSION, owner: self.owner.clone() };
        if let Err(error) = say(&mut writer, &hello).await {
            return lost(&error);
        }
        let first = tokio::time::timeout(PATIENCE, hear(&self.status, &mut lines)).await;
        match first {
            Ok(Ok(())) => {}
            Ok(Err(end)) => return end,
            Err(_) => return End::Lost(format!("margayd bfd does not answer within {} s", PATIENCE.as_secs())),
        }
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            if let Some(wanted) = wanted {
                let request = BfdRequest::Sessions { owner: self.owner.clone(), sessions: wanted.to_vec() };
                if let Err(error) = say(&mut writer, &request).await {
                    return lost(&error);
                }
            }
            loop {
                tokio::select! {
                    changed = self.wanted.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return End::NotNeeded,
                    },
                    heard = hear(&self.status, &mut lines) => if let Err(end) = heard {
                        return end;
                    },
                    () = self.status.closed() => return End::NotNeeded,
                }
            }
        }
    }
}

/// Takes one message and passes it on. May be dropped before it is done: a line is taken whole or not at all.
async fn hear(status: &mpsc::Sender<BfdStatus>, lines: &mut Lines<BufReader<OwnedReadHalf>>) -> Result<(), End> {
    // Room first, so that no message is lost between the two.
    let room = status.reserve().await.map_err(|_| End::NotNeeded)?;
    let line = lines.next_line().await.map_err(|error| lost(&error))?;
    let line = line.ok_or_else(|| End::Lost("margayd bfd closed the connection".to_owned()))?;
    match serde_json::from_str(&line) {
        Ok(BfdMessage::Snapshot { sessions, .. }) => {
            room.send(BfdStatus::Sessions { sessions, refused: Vec::new() });
        }
        Ok(BfdMessage::Applied { sessions, refused }) => room.send(BfdStatus::Sessions { sessions, refused }),
        Ok(BfdMessage::Session(session)) => room.send(BfdStatus::Session(session)),
        Ok(BfdMessage::Status(_)) => {}
        Ok(BfdMessage::Error { message }) => return Err(End::Lost(format!("margayd bfd refuses: {message}"))),
        Err(error) => return Err(End::Lost(format!("margayd bfd is not understood: {error}"))),
    }
    Ok(())
}

fn lost(error: &io::Error) -> End {
    End::Lost(format!("the connection to margayd bfd broke: {error}"))
}

async fn say(writer: &mut OwnedWriteHalf, request: &BfdRequest) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, writer.write_all(&line)).await.map_err(|_| io::Error::from(ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::IpAddr;

    use tokio::net::UnixListener;

    use super::*;

    fn config(id: &str) -> BfdSessionConfig {
        BfdSessionConfig {
            id: id.to_owned(),
            remote: IpAddr::from([192, 0, 2, 1]),
            local: None,
            interface: None,
            multihop: false,
            min_tx_ms: 100,
            min_rx_ms: 100,
            multiplier: 3,
            min_ttl: None,
            passive: false,
        }
    }

    struct Server {
        listener: UnixListener,
    }

    impl Server {
        async fn accept(&self) -> (Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf) {
            let (stream, _) = self.listener.accept().await.unwrap();
            let (reader, writer) = stream.into_split();
            (BufReader::new(reader).lines(), writer)
        }
    }

    async fn request(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> BfdRequest {
        serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    async fn message(writer: &mut OwnedWriteHalf, message: &BfdMessage) {
        let mut line = serde_json::to_vec(message).unwrap();
        line.push(b'\n');
        writer.write_all(&line).await.unwrap();
    }

    fn snapshot() -> BfdMessage {
        BfdMessage::Snapshot { version: BFD_VERSION, sessions: Vec::new() }
    }

    #[tokio::test]
    async fn the_set_is_told_after_each_connect_and_each_change_and_the_reason_of_silence_once() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("bfd.sock");
        let (set, wanted) = watch::channel(None);
        let (status, mut heard) = mpsc::channel(16);
        let client = BfdClient { socket: socket.clone(), owner: "node".to_owned(), wanted, status };
        let running = tokio::spawn(client.run());
        let Some(BfdStatus::Unreachable(reason)) = heard.recv().await else { panic!() };
        assert!(reason.contains("not running") && reason.contains("systemctl start margayd-bfd"), "{reason}");

        let server = Server { listener: UnixListener::bind(&socket).unwrap() };
        let (mut lines, mut writer) = server.accept().await;
        assert_eq!(request(&mut lines).await, BfdRequest::Hello { version: 1, owner: "node".to_owned() });
        message(&mut writer, &snapshot()).await;
        assert_eq!(heard.recv().await, Some(BfdStatus::Sessions { sessions: Vec::new(), refused: Vec::new() }));
        // Until the daemon knows what it wants, what runs is left alone: the first set is the first that is told.
        set.send_replace(Some(Arc::new(vec![config("a")])));
        let sessions = |ids: &[&str]| BfdRequest::Sessions {
            owner: "node".to_owned(),
            sessions: ids.iter().map(|id| config(id)).collect(),
        };
        assert_eq!(request(&mut lines).await, sessions(&["a"]));
        set.send_replace(Some(Arc::new(vec![config("a"), config("b")])));
        assert_eq!(request(&mut lines).await, sessions(&["a", "b"]));
        let refused = vec![BfdRefusal { id: "b".to_owned(), reason: "no".to_owned() }];
        message(&mut writer, &BfdMessage::Applied { sessions: Vec::new(), refused: refused.clone() }).await;
        assert_eq!(heard.recv().await, Some(BfdStatus::Sessions { sessions: Vec::new(), refused }));

        // The process is restarted.
        drop((lines, writer));
        let Some(BfdStatus::Unreachable(reason)) = heard.recv().await else { panic!() };
        assert!(reason.contains("closed the connection"), "{reason}");
        let (mut lines, mut writer) = server.accept().await;
        request(&mut lines).await;
        message(&mut writer, &snapshot()).await;
        assert_eq!(request(&mut lines).await, sessions(&["a", "b"]));

        // Nobody wants anything any more.
        drop(set);
        tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    }
}
