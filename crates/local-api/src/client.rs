use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ApiError;

/// A blocking client of the daemon's socket; every call opens a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

/// Why a call did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves the socket, or it stopped in the middle.
    #[error("margayd does not answer at {}: {reason}; is the daemon running on this node?", socket.display())]
    Unreachable { socket: PathBuf, reason: String },
    /// The daemon answered with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The answer is not what this version understands.
    #[error("margayd at {} answered something unexpected: {reason}", socket.display())]
    Protocol { socket: PathBuf, reason: String },
}

/// An answer longer than this is refused. A million routes with a path each are some 500 MB.
const MAX_BODY: u64 = 2 << 30;

impl Client {
    /// A client of `socket`; each read and write may take 90 s, the longest that an ADD may wait.
    pub fn new(socket: impl AsRef<Path>) -> Client {
        Client { socket: socket.as_ref().to_owned(), timeout: Duration::from_secs(90) }
    }

    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    pub fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, ClientError> {
        self.call("GET", path, &[])
    }

    pub fn post<R: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<R, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.protocol(error.to_string()))?;
        self.call("POST", path, &body)
    }

    fn call<R: DeserializeOwned>(&self, method: &str, path: &str, body: &[u8]) -> Result<R, ClientError> {
        let (status, answer) = self.exchange(method, path, body).map_err(|error| self.failed(&error))?;
        if status >= 400 {
            return Err(self.refused(status, &answer));
        }
        serde_json::from_slice(&answer).map_err(|error| self.protocol(error.to_string()))
    }

    fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol { socket: self.socket.clone(), reason }
    }

    /// Hands each line of an answer that does not end to `take`, until that returns false, the daemon stops, or an error.
    /// No time limit holds between two lines.
    pub fn lines(&self, path: &str, mut take: impl FnMut(&str) -> bool) -> Result<(), ClientError> {
        let failed = |error: io::Error| self.failed(&error);
        let (status, mut body) =
            self.send("GET", path, &[], None).and_then(|stream| read_head(BufReader::new(stream))).map_err(failed)?;
        if status >= 400 {
            let mut answer = Vec::new();
            body.by_ref().take(MAX_BODY).read_to_end(&mut answer).map_err(failed)?;
            return Err(self.refused(status, &answer));
        }
        for line in BufReader::new(body).lines() {
            if !take(&line.map_err(failed)?) {
                break;
            }
        }
        Ok(())
    }

    fn refused(&self, status: u16, answer: &[u8]) -> ClientError {
        match serde_json::from_slice::<ApiError>(answer) {
            Ok(error) => ClientError::Api(error),
            Err(_) => self.protocol(format!("HTTP {status}: {}", String::from_utf8_lossy(answer))),
        }
    }

    fn failed(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::InvalidData => self.protocol(error.to_string()),
            _ => ClientError::Unreachable { socket: self.socket.clone(), reason: error.to_string() },
        }
    }

    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let stream = self.send(method, path, body, Some(self.timeout))?;
        read_response(BufReader::new(stream))
    }

    fn send(&self, method: &str, path: &str, body: &[u8], patience: Option<Duration>) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(Some(self.timeout))?;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: margayd\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request)?;
        Ok(stream)
    }
}

/// Reads one HTTP/1.1 response whose length is given, chunked, or ended by the connection's end (RFC 9112).
fn read_response(reader: impl BufRead) -> io::Result<(u16, Vec<u8>)> {
    let (status, body) = read_head(reader)?;
    let mut bytes = Vec::new();
    body.take(MAX_BODY + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BODY {
        return Err(bad("the answer is too long"));
    }
    Ok((status, bytes))
}

/// Reads the status and the headers; the body is read as it comes.
fn read_head<R: BufRead>(mut reader: R) -> io::Result<(u16, Body<R>)> {
    let status_line = next_line(&mut reader)?;
    let status: u16 =
        status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad("not an HTTP answer"))?;
    let mut framing = Framing::ToEnd;
    loop {
        let header = next_line(&mut reader)?;
        if header.is_empty() {
            return Ok((status, Body { reader, framing }));
        }
        let Some((name, value)) = header.split_once(':') else { return Err(bad("a malformed HTTP header")) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" if !matches!(framing, Framing::Chunked { .. }) => {
                let length = value.trim().parse().map_err(|_| bad("a malformed Content-Length"))?;
                framing = Framing::Length(length);
            }
            "transfer-encoding" if value.trim().eq_ignore_ascii_case("chunked") => {
                framing = Framing::Chunked { left: 0, first: true, done: false };
            }
            _ => {}
        }
    }
}

/// How the end of a body is known.
#[derive(Debug)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes are left of the present chunk.
    Chunked {
        left: u64,
        first: bool,
        done: bool,
    },
    ToEnd,
}

#[derive(Debug)]
struct Body<R> {
    reader: R,
    framing: Framing,
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = match &mut self.framing {
            Framing::ToEnd => return self.reader.read(buffer),
            Framing::Length(left) => *left,
            Framing::Chunked { done: true, .. } => 0,
            Framing::Chunked { left, first, done } => {
                if *left == 0 {
                    if !std::mem::take(first) {
                        next_line(&mut self.reader)?;
                    }
                    let size = next_line(&mut self.reader)?;
                    *left = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                        .map_err(|_| bad("a malformed chunk size"))?;
                    *done = *left == 0;
                }
                *left
            }
        };
        if limit == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(limit).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.reader.read(&mut buffer[..most])?;
        if read == 0 {
            let what = "the connection was closed in the middle of the answer";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        match &mut self.framing {
            Framing::Length(left) | Framing::Chunked { left, .. } => *left -= read as u64,
            Framing::ToEnd => {}
        }
        Ok(read)
    }
}

fn next_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.take(64 << 10).read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed before the answer"));
    }
    Ok(line.trim_end().to_owned())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Returns `path` with a query of the pairs, percent-encoded (RFC 3986 section 2.1).
pub fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    for (index, (name, value)) in pairs.iter().enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<(u16, String)> {
        read_response(text.as_bytes()).map(|(status, body)| (status, String::from_utf8_lossy(&body).into_owned()))
    }

    #[test]
    fn answers_of_given_length_and_in_chunks_are_read() {
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("answer"), (200, "{}".to_owned()));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(read(chunked).expect("answer"), (200, "abcde".to_owned()));
        assert_eq!(read("HTTP/1.1 503 X\r\n\r\nwhy").expect("answer"), (503, "why".to_owned()));
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        for (text, kind) in [
            ("", io::ErrorKind::UnexpectedEof),
            ("nonsense\r\n\r\n", io::ErrorKind::InvalidData),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", io::ErrorKind::UnexpectedEof),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", io::ErrorKind::InvalidData),
        ] {
            assert_eq!(read(text).expect_err(text).kind(), kind, "{text}");
        }
    }

    #[test]
    fn an_answer_that_does_not_end_is_read_line_by_line() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\nb\r\n4\r\nc\nde\r\n";
        let (status, body) = read_head(chunked.as_bytes()).expect("a head");
        let mut lines = BufReader::new(body).lines();
        assert_eq!((status, lines.next().and_then(Result::ok)), (200, Some("a".to_owned())));
        assert_eq!(lines.next().and_then(Result::ok), Some("bc".to_owned()));
        assert!(lines.next().is_some_and(|cut_off| cut_off.is_err()));
    }

    #[test]
    fn a_query_is_percent_encoded() {
        assert_eq!(with_query("/v1/x", &[]), "/v1/x");
        assert_eq!(
            with_query("/v1/x", &[("prefix", "fd00::/64"), ("peer", "a b")]),
            "/v1/x?prefix=fd00%3A%3A%2F64&peer=a%20b"
        );
    }

    #[test]
    fn a_socket_that_nobody_serves_says_so() {
        let error = Client::new("/nonexistent/margayd.sock").get::<()>("/v1/status").expect_err("nobody there");
        assert!(error.to_string().contains("is the daemon running"), "{error}");
    }
}
