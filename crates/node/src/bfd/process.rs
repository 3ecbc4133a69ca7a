use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use margay_bfd::{Bfd, Change, Event, Input, Options, Output, State};
use margay_local_api::{BFD_VERSION, BfdMessage, BfdProcessStatus, BfdRequest, BfdSessionStatus};
use margay_net::Instant;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use super::clock::Clock;
use super::control::Control;
use super::receivers::Receivers;
use super::scheduling;
use super::senders::Senders;
use super::view;
use super::wanted::Wanted;
use crate::Exit;

/// How long peers are told that the sessions go administratively down, when the process is ended.
const LAST_WORDS: Duration = Duration::from_millis(1200);

/// The whole of `margayd bfd`.
#[derive(Debug)]
pub(super) struct Process {
    bfd: Bfd,
    wanted: Wanted,
    receivers: Receivers,
    senders: Senders,
    control: Control,
    signals: SignalFd,
    clock: Clock,
    scheduling: String,
    warnings: Vec<String>,
    /// Set once the process was told to end.
    ends_at: Option<Instant>,
    over: bool,
    _lock: File,
}

/// What there is to do beside packets and timers, which are looked at in any case.
#[derive(Debug, Clone, Copy)]
struct Woken {
    by_signal: bool,
    by_clients: bool,
}

impl Process {
    pub(super) fn start(socket: &Path, options: Options) -> Result<Process, Exit> {
        let (listener, lock) = crate::api::take(socket)?;
        let control = Control::new(listener).map_err(|error| Exit::failed(format!("cannot serve clients: {error}")))?;
        let mut warnings = Vec::new();
        let receivers = Receivers::open(&mut warnings)?;
        let no_signals = |error| Exit::failed(format!("cannot wait for signals: {error}"));
        let set: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        set.thread_block().map_err(no_signals)?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(no_signals)?;
        raise_open_files();
        let scheduling = scheduling::prefer_this_process();
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        tracing::info!(socket = %socket.display(), %scheduling, "margayd bfd waits for sessions");
        Ok(Process {
            bfd: Bfd::new(options),
            wanted: Wanted::default(),
            receivers,
            // Another sequence than that of discriminators: the wire shows both.
            senders: Senders::new(options.seed.rotate_left(32)),
            control,
            signals,
            clock: Clock::start(),
            scheduling,
            warnings,
            ends_at: None,
            over: false,
            _lock: lock,
        })
    }

    pub(super) fn run(mut self) -> Result<(), Exit> {
        while !self.over {
            let woken = self.sleep()?;
            let Process { bfd, receivers, clock, .. } = &mut self;
            receivers.drain(*clock, |payload, arrival, now| bfd.handle_input(Input::Packet { payload, arrival }, now));
            self.bfd.handle_timeout(self.clock.now());
            // Packets first: clients can wait.
            self.do_outputs();
            if woken.by_clients {
                self.serve();
            }
            if woken.by_signal {
                self.heed_signals();
            }
            self.do_outputs();
            self.control.flush();
            self.over |=
                self.ends_at.is_some_and(|at| self.clock.now().mono >= at || self.bfd.sessions().next().is_none());
        }
        Ok(())
    }

    /// Waits for a packet, a client, a signal or a timer.
    fn sleep(&self) -> Result<Woken, Exit> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(16);
        fds.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        fds.extend(self.receivers.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let clients = fds.len();
        fds.extend(self.control.fds());
        let until = [self.bfd.poll_timeout(), self.ends_at].into_iter().flatten().min();
        let timeout = until.map(|until| TimeSpec::from(until.since(self.clock.now().mono)));
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Exit::failed(format!("cannot wait for packets: {error}"))),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        Ok(Woken { by_signal: is_ready(&fds[0]), by_clients: fds[clients..].iter().any(is_ready) })
    }

    fn do_outputs(&mut self) {
        while let Some(output) = self.bfd.poll_output() {
            match output {
                Output::Transmit { session, packet } => self.senders.send(session, &packet),
                Output::Event(event) => self.tell(&event),
                Output::Opened { session, key } => self.senders.open(session, key),
                Output::Closed { session, key } => {
                    self.senders.close(session);
                    self.wanted.left(&key);
                }
            }
        }
    }

    fn tell(&mut self, event: &Event) {
        let session = &event.session;
        if let Change::State { from } = event.change {
            let (peer, reason) = (&session.key, &session.reason);
            match (from, session.state) {
                (State::Up, State::Down) => tracing::warn!(%peer, "{from} -> {}: {reason}", session.state),
                (from, to) => tracing::info!(%peer, "{from} -> {to}: {reason}"),
            }
        }
        // One that leaves is its owner's no longer, and its name may be another's.
        if let Some((name, false)) = self.wanted.name(&session.key) {
            let status = view::session(session, (name, false), self.senders.error(session.discriminator));
            let owner = status.owner.clone();
            self.control.tell(&owner, &BfdMessage::Session(Box::new(status)));
        }
    }

    fn serve(&mut self) {
        for (client, request) in self.control.read() {
            let answer = match request {
                Ok(BfdRequest::Hello { version, .. }) if version != BFD_VERSION => {
                    let message = format!("version {version} is not spoken here, but {BFD_VERSION}");
                    BfdMessage::Error { message }
                }
                Ok(BfdRequest::Hello { owner, .. }) => {
                    tracing::info!(%owner, "a client is attached");
                    self.control.set_owner(client, &owner);
                    BfdMessage::Snapshot { version: BFD_VERSION, sessions: self.sessions_of(&owner) }
                }
                Ok(BfdRequest::Sessions { .. }) if self.ends_at.is_some() => {
                    BfdMessage::Error { message: "margayd bfd is ending".to_owned() }
                }
                Ok(BfdRequest::Sessions { owner, sessions }) => {
                    let refused = self.wanted.replace(&owner, &sessions);
                    self.bfd.handle_input(Input::Sessions(self.wanted.all()), self.clock.now());
                    self.do_outputs();
                    BfdMessage::Applied { sessions: self.sessions_of(&owner), refused }
                }
                Ok(BfdRequest::Status {}) => BfdMessage::Status(Box::new(self.status())),
                Err(message) => BfdMessage::Error { message },
            };
            self.control.answer(client, &answer);
        }
    }

    fn heed_signals(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {
            if self.ends_at.is_some() {
                self.over = true;
                return;
            }
            tracing::info!("ending: all sessions go administratively down");
            let now = self.clock.now();
            self.bfd.handle_input(Input::Sessions(Default::default()), now);
            self.ends_at = Some(now.mono + LAST_WORDS);
        }
    }

    fn sessions(&self) -> impl Iterator<Item = BfdSessionStatus> {
        self.bfd.sessions().filter_map(|session| {
            let name = self.wanted.name(&session.key)?;
            Some(view::session(&session, name, self.senders.error(session.discriminator)))
        })
    }

    fn sessions_of(&self, owner: &str) -> Vec<BfdSessionStatus> {
        self.sessions().filter(|session| session.owner == owner && !session.leaving).collect()
    }

    fn status(&self) -> BfdProcessStatus {
        let counters = self.bfd.counters();
        let discarded = counters.discarded.iter().map(|(reason, count)| (reason.name().to_owned(), *count));
        BfdProcessStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.clock.now().mono.0.as_secs(),
            scheduling: self.scheduling.clone(),
            warnings: self.warnings.clone(),
            received: counters.received,
            sent: counters.sent,
            send_errors: self.senders.errors,
            discarded: discarded.collect(),
            dropped_by_kernel: self.receivers.dropped(),
            state_changes: counters.state_changes,
            lateness: view::lateness(self.bfd.lateness()),
            sessions: self.sessions().collect(),
        }
    }
}

/// Allows as many open files as the system lets it: each session has a socket.
fn raise_open_files() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}
