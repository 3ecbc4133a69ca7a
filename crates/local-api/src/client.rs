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

/// An answer longer than this is refused.
const MAX_BODY: u64 = 256 << 20;

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
        let (status, answer) = self.exchange(method, path, body).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => self.protocol(error.to_string()),
            _ => ClientError::Unreachable { socket: self.socket.clone(), reason: error.to_string() },
        })?;
        if status >= 400 {
            return Err(match serde_json::from_slice::<ApiError>(&answer) {
                Ok(error) => ClientError::Api(error),
                Err(_) => self.protocol(format!("HTTP {status}: {}", String::from_utf8_lossy(&answer))),
            });
        }
        serde_json::from_slice(&answer).map_err(|error| self.protocol(error.to_string()))
    }

    fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol { socket: self.socket.clone(), reason }
    }

    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: margayd\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request)?;
        read_response(BufReader::new(stream))
    }
}

/// Reads one HTTP/1.1 response whose length is given, chunked, or ended by the connection's end (RFC 9112).
fn read_response(mut reader: impl BufRead) -> io::Result<(u16, Vec<u8>)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    let mut next_line = |reader: &mut dyn BufRead| -> io::Result<String> {
        line.clear();
        if reader.take(64 << 10).read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed before the answer"));
        }
        Ok(line.trim_end().to_owned())
    };
    let status_line = next_line(&mut reader)?;
    let status: u16 =
        status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad("not an HTTP answer"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = next_line(&mut reader)?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { return Err(bad("a malformed HTTP header")) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                length = Some(value.trim().parse::<u64>().map_err(|_| bad("a malformed Content-Length"))?);
            }
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = next_line(&mut reader)?;
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| bad("a malformed chunk size"))?;
            if body.len() as u64 + size > MAX_BODY {
                return Err(bad("the answer is too long"));
            }
            read_exactly(&mut reader, size, &mut body)?;
            next_line(&mut reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        if length > MAX_BODY {
            return Err(bad("the answer is too long"));
        }
        read_exactly(&mut reader, length, &mut body)?;
    } else {
        reader.take(MAX_BODY).read_to_end(&mut body)?;
    }
    Ok((status, body))
}

fn read_exactly(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = reader.take(length).read_to_end(body)?;
    if (read as u64) < length {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection was closed in the middle of the answer",
        ));
    }
    Ok(())
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
    fn a_socket_that_nobody_serves_says_so() {
        let error = Client::new("/nonexistent/margayd.sock").get::<()>("/v1/status").expect_err("nobody there");
        assert!(error.to_string().contains("is the daemon running"), "{error}");
    }
}
