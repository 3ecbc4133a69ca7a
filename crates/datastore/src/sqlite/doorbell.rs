use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, Sender, TryRecvError, channel};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::watch::Message;

/// The sending side of the watch thread's queue.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    messages: Sender<Message>,
    bell: Arc<EventFd>,
}

impl Mailbox {
    pub(super) fn send(&self, message: Message) -> Result<(), SendError<Message>> {
        self.messages.send(message)?;
        // A bell that can't be rung only delays the message until the next poll.
        let _ = self.bell.write(1);
        Ok(())
    }
}

/// What the watch thread waits at: its queue, and the log file that any process's commit writes.
pub(super) struct Doorbell {
    messages: Receiver<Message>,
    bell: Arc<EventFd>,
    /// Absent where the system has no watch left: then only polling tells.
    log_changes: Option<Inotify>,
}

/// Why a wait ended.
pub(super) struct Rung {
    pub(super) messages: Vec<Message>,
    /// Some process has written to the log file: a commit is about to become visible.
    pub(super) log_written: bool,
    /// All senders are gone.
    pub(super) closed: bool,
}

impl Doorbell {
    /// Watches the `-wal` file beside `path`, which exists as long as a connection does.
    pub(super) fn new(path: &Path) -> std::io::Result<(Mailbox, Self)> {
        let bell = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log_changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .and_then(|inotify| inotify.add_watch(Path::new(&log), AddWatchFlags::IN_MODIFY).map(|_| inotify))
            .inspect_err(|error| tracing::debug!(%error, "no notice of changes of the log file, polling only"))
            .ok();
        let (sender, messages) = channel();
        Ok((Mailbox { messages: sender, bell: bell.clone() }, Self { messages, bell, log_changes }))
    }

    /// Waits for any of it, at most `limit` (whole milliseconds).
    pub(super) fn wait(&self, limit: Duration) -> Rung {
        let mut descriptors = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        if let Some(inotify) = &self.log_changes {
            descriptors.push(PollFd::new(inotify.as_fd(), PollFlags::POLLIN));
        }
        // An interrupted wait is a short one.
        let _ = poll(&mut descriptors, PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO));
        let _ = self.bell.read();
        let log_written = self.log_changes.as_ref().is_some_and(|inotify| inotify.read_events().is_ok());
        let mut rung = Rung { messages: Vec::new(), log_written, closed: false };
        loop {
            match self.messages.try_recv() {
                Ok(message) => rung.messages.push(message),
                Err(TryRecvError::Empty) => return rung,
                Err(TryRecvError::Disconnected) => {
                    rung.closed = true;
                    return rung;
                }
            }
        }
    }
}
