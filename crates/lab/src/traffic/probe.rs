use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Netns, process};

/// What became of one attempt to reach an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It answered; over TCP with the client's address as the server sees it.
    Reached(Option<IpAddr>),
    /// Nothing came back in time.
    Silence,
    /// Something said no: a reset, an ICMP error, no route.
    Refused(String),
}

impl Answer {
    /// Whether there was an answer.
    pub fn reached(&self) -> bool {
        matches!(self, Answer::Reached(_))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Reached(None) => f.write_str("an answer"),
            Answer::Reached(Some(seen)) => write!(f, "an answer, client seen as {seen}"),
            Answer::Silence => f.write_str("silence"),
            Answer::Refused(why) => f.write_str(why),
        }
    }
}

/// Sends one echo request by `ping` and waits for its reply.
pub fn ping(from: &Netns, to: IpAddr, limit: Duration) -> Result<Answer> {
    let mut command = Command::new("ping");
    command.args(["-n", "-c", "1", "-W", &format!("{:.3}", limit.as_secs_f64()), &to.to_string()]);
    let output = from.enter(|| process::run_any(&mut command, &[]))?;
    Ok(match output.code {
        0 => Answer::Reached(None),
        1 if !output.stdout.contains("+1 errors") => Answer::Silence,
        _ => {
            let lines = output.stdout.lines().chain(output.stderr.lines());
            let said = lines.filter(|line| line.contains("rom ") || line.starts_with("ping:"));
            Answer::Refused(said.collect::<Vec<_>>().join("; "))
        }
    })
}

/// Opens a connection to a server of [`super::Servers`] and reads what it saw.
pub fn tcp(from: &Netns, to: SocketAddr, limit: Duration) -> Result<Answer> {
    from.enter(|| {
        let mut stream = match TcpStream::connect_timeout(&to, limit) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(Answer::Silence),
            Err(error) => return Ok(Answer::Refused(error.to_string())),
        };
        stream.set_read_timeout(Some(limit))?;
        let mut line = String::new();
        match stream.read_to_string(&mut line) {
            Ok(_) => {
                let seen = line.trim().parse().with_context(|| format!("the server said '{}'", line.trim()))?;
                Ok(Answer::Reached(Some(seen)))
            }
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Ok(Answer::Silence),
            Err(error) => Ok(Answer::Refused(error.to_string())),
        }
    })
}
