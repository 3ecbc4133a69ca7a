//! A client of `bfd.sock`, as the daemon is one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use margay_local_api::{
    BfdMessage, BfdProcessStatus, BfdRequest, BfdSessionConfig, BfdSessionState, BfdSessionStatus, bfd_status,
};

pub struct Client {
    lines: BufReader<UnixStream>,
    /// The session as it was told last.
    pub session: Option<BfdSessionStatus>,
}

impl Client {
    pub fn connect(socket: &Path) -> Result<Client, String> {
        let stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
        Ok(Client { lines: BufReader::new(stream), session: None })
    }

    pub fn say(&mut self, request: &BfdRequest) {
        self.say_line(&serde_json::to_string(request).unwrap());
    }

    pub fn say_line(&mut self, line: &str) {
        self.lines.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next message; `None` where none comes in time.
    pub fn hear(&mut self, limit: Duration) -> Option<BfdMessage> {
        self.lines.get_mut().set_read_timeout(Some(limit.max(Duration::from_millis(1)))).unwrap();
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => panic!("margayd bfd closed the connection"),
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))),
            Err(error) => {
                assert!(line.is_empty(), "half a line: {error}");
                None
            }
        }
    }

    /// Says hello; the sessions that are there.
    pub fn hello(&mut self) -> Vec<BfdSessionStatus> {
        self.say(&BfdRequest::Hello { version: 1, owner: "test".to_owned() });
        match self.hear(Duration::from_secs(5)) {
            Some(BfdMessage::Snapshot { sessions, .. }) => {
                self.session = sessions.first().cloned();
                sessions
            }
            other => panic!("{other:?}"),
        }
    }

    /// Says what is wanted; must be applied whole.
    pub fn want(&mut self, sessions: &[BfdSessionConfig]) {
        self.say(&BfdRequest::Sessions { owner: "test".to_owned(), sessions: sessions.to_vec() });
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match self.hear(deadline.saturating_duration_since(Instant::now())) {
                Some(BfdMessage::Applied { sessions, refused }) => {
                    assert!(refused.is_empty(), "{refused:?}");
                    self.session = sessions.first().cloned();
                    return;
                }
                Some(BfdMessage::Session(session)) => self.session = Some(*session),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Listens until the session is as it should be.
    #[track_caller]
    pub fn wait_for(&mut self, limit: Duration, is: impl Fn(&BfdSessionStatus) -> bool) -> BfdSessionStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(session) = self.session.as_ref().filter(|session| is(session)) {
                return session.clone();
            }
            match self.hear(deadline.saturating_duration_since(Instant::now())) {
                Some(BfdMessage::Session(session)) => self.session = Some(*session),
                None => panic!("not within {limit:?}: {:#?}", self.session),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Listens until the session is up and its intervals are agreed on.
    #[track_caller]
    pub fn wait_until_settled(&mut self, detection_time_ms: u64) -> BfdSessionStatus {
        self.wait_for(Duration::from_secs(15), |session| {
            session.state == BfdSessionState::Up && session.detection_time_ms == detection_time_ms
        })
    }

    /// Listens for a while in which the session must not change its state.
    #[track_caller]
    pub fn must_stay_up(&mut self, span: Duration) {
        let deadline = Instant::now() + span;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.hear(left) {
                None => return,
                Some(BfdMessage::Session(session)) => {
                    assert_eq!(session.state, BfdSessionState::Up, "{session:#?}");
                    self.session = Some(*session);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Asks for the status on a connection of its own.
pub fn status(socket: &Path) -> BfdProcessStatus {
    bfd_status(socket).unwrap()
}
