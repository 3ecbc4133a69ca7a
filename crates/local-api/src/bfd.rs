use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The name of the socket of `margayd bfd` in the runtime directory.
///
/// A stream of lines, each one JSON value: [`BfdRequest`] in, [`BfdMessage`] out. Only root may connect.
pub const BFD_SOCKET: &str = "bfd.sock";

/// The version of this protocol.
pub const BFD_VERSION: u32 = 1;

/// What a client of `margayd bfd` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BfdRequest {
    /// Attaches to the sessions of an owner: answered with [`BfdMessage::Snapshot`], and from then on each change of
    /// them is told. Sessions outlive the connection.
    Hello { version: u32, owner: String },
    /// The whole set that the owner wants, applied by difference; answered with [`BfdMessage::Applied`].
    Sessions { owner: String, sessions: Vec<BfdSessionConfig> },
    /// Asks for [`BfdMessage::Status`].
    Status {},
}

/// A session that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdSessionConfig {
    /// What its owner calls it; unique in the set.
    pub id: String,
    pub remote: IpAddr,
    /// The session's own address; the kernel's choice where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The interface of a single-hop session; needed for a link-local `remote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// RFC 5883 (UDP port 4784); else RFC 5881 (UDP port 3784).
    #[serde(default)]
    pub multihop: bool,
    pub min_tx_ms: u32,
    pub min_rx_ms: u32,
    pub multiplier: u8,
    /// The least TTL that packets of a multihop session may arrive with; any where absent. Over a single hop it is 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ttl: Option<u8>,
    /// Whether this end waits for the peer's first packet.
    #[serde(default)]
    pub passive: bool,
}

/// What `margayd bfd` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BfdMessage {
    /// All sessions of the owner that said hello.
    Snapshot {
        version: u32,
        sessions: Vec<BfdSessionStatus>,
    },
    /// The set was applied, but for what was refused.
    Applied {
        sessions: Vec<BfdSessionStatus>,
        refused: Vec<BfdRefusal>,
    },
    /// A session changed.
    Session(Box<BfdSessionStatus>),
    Status(Box<BfdProcessStatus>),
    /// A line could not be understood or answered.
    Error {
        message: String,
    },
}

/// A session that can't be had as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdRefusal {
    pub id: String,
    pub reason: String,
}

/// The state of a session or of its peer (RFC 5880 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BfdSessionState {
    AdminDown,
    Down,
    Init,
    Up,
}

/// A session as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdSessionStatus {
    pub owner: String,
    pub id: String,
    pub remote: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    pub multihop: bool,
    pub state: BfdSessionState,
    /// When this state began, in milliseconds since 1970.
    pub since_ms: u64,
    /// Why it is in this state, in words; after a failure, how late this process itself was.
    pub reason: String,
    /// How late `margayd bfd` was at its own timers in the time in which the session failed; absent where it did not
    /// fail by silence. Above the interval it means a starved machine rather than a dead peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<u64>,
    /// This end's diagnostic: its number (RFC 5880 section 4.1) and words.
    pub diagnostic: BfdDiagnostic,
    pub remote_state: BfdSessionState,
    pub remote_diagnostic: BfdDiagnostic,
    /// The peer's C bit, of its last packet: its BFD outlives its control plane, so that a failure is of the path.
    pub control_plane_independent: bool,
    pub discriminator: u32,
    /// 0 as long as the peer is not heard.
    pub remote_discriminator: u32,
    /// Negotiated, before jitter.
    pub transmit_interval_ms: u64,
    /// Negotiated, before jitter; 0 as long as the peer is not heard.
    pub receive_interval_ms: u64,
    /// How long the peer may be silent; 0 as long as it is not heard.
    pub detection_time_ms: u64,
    /// Whether a change of intervals waits for the peer's answer.
    pub polling: bool,
    pub received: u64,
    pub sent: u64,
    /// How often it went from up to down.
    pub flaps: u64,
    /// Why packets can't be sent; empty where they can.
    pub send_error: String,
    /// Whether it is wanted no longer and only tells its peer so.
    pub leaving: bool,
}

/// A diagnostic of RFC 5880 section 4.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdDiagnostic {
    pub code: u8,
    pub words: String,
}

/// `margayd bfd` at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdProcessStatus {
    pub version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    /// How the kernel runs it: by which scheduling policy, and if not by the best, why.
    pub scheduling: String,
    pub warnings: Vec<String>,
    /// Packets that a session took.
    pub received: u64,
    pub sent: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
    /// Packets that no session took, by reason.
    pub discarded: BTreeMap<String, u64>,
    /// Packets that the kernel dropped before they were looked at: the process was away for too long.
    pub dropped_by_kernel: u64,
    pub state_changes: u64,
    pub lateness: BfdLateness,
    pub sessions: Vec<BfdSessionStatus>,
}

/// How late `margayd bfd` was woken, compared with what it had asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdLateness {
    /// From when on a wake-up counts as late.
    pub threshold_ms: u64,
    /// How many wake-ups were late.
    pub count: u64,
    /// How late the last of them was.
    pub last_ms: u64,
    /// When the last of them was, in milliseconds since 1970; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at_ms: Option<u64>,
    pub max_ms: u64,
}

/// Asks `margayd bfd` for its status. Blocks for at most a few seconds.
///
/// Fails with `NotFound` or `ConnectionRefused` where it does not run.
pub fn bfd_status(socket: &Path) -> io::Result<BfdProcessStatus> {
    let limit = Some(Duration::from_secs(5));
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    let mut line = serde_json::to_string(&BfdRequest::Status {})?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    line.clear();
    BufReader::new(stream).read_line(&mut line)?;
    match serde_json::from_str(&line)? {
        BfdMessage::Status(status) => Ok(*status),
        BfdMessage::Error { message } => Err(io::Error::other(message)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "margayd bfd answered something else than its status")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_that_a_person_can_write() {
        let hello: BfdRequest = serde_json::from_str(r#"{"hello":{"version":1,"owner":"node"}}"#).expect("a request");
        assert_eq!(hello, BfdRequest::Hello { version: 1, owner: "node".to_owned() });
        let line = r#"{"sessions":{"owner":"node","sessions":[
            {"id":"tor","remote":"192.0.2.1","min_tx_ms":100,"min_rx_ms":100,"multiplier":3}]}}"#;
        let sessions: BfdRequest = serde_json::from_str(line).expect("a request");
        let BfdRequest::Sessions { sessions, .. } = sessions else { panic!("{sessions:?}") };
        assert!(!sessions[0].multihop && !sessions[0].passive && sessions[0].interface.is_none());
        assert_eq!(serde_json::from_str::<BfdRequest>(r#"{"status":{}}"#).expect("a request"), BfdRequest::Status {});
    }
}
