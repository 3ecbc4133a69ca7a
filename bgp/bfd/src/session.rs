//! One session: the state variables of RFC 5880 section 6.8.1 and what changes them.

use std::time::Duration;

use margay_net::{Instant, Now};
use rand::rngs::SmallRng;

use crate::fsm::{FsmEvent, transition};
use crate::io::{Change, Reason, SessionConfig, SessionKey, SessionView};
use crate::lateness::Watch;
use crate::packet::{ControlPacket, Diagnostic, Discriminator, State};
use crate::timing::{agreed, desired_min_tx, detection_time, jittered};

/// What the peer's last packet said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remote {
    discriminator: Option<Discriminator>,
    state: State,
    diagnostic: Diagnostic,
    control_plane_independent: bool,
    demand: bool,
    min_tx: Duration,
    min_rx: Duration,
    /// 0 before anything was heard.
    multiplier: u8,
}

impl Remote {
    /// The initial values of RFC 5880 section 6.8.1, and those after the peer was silent for a detection time: what a
    /// dead peer asked for (above all, an interval of 0) must not bind its successor.
    const UNKNOWN: Remote = Remote {
        discriminator: None,
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        control_plane_independent: false,
        demand: false,
        min_tx: Duration::ZERO,
        min_rx: Duration::from_micros(1),
        multiplier: 0,
    };
}

/// An interval as it is advertised, and as it is used until the peer has confirmed it (RFC 5880 section 6.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval {
    advertised: Duration,
    in_use: Duration,
}

/// Where the poll sequence stands (RFC 5880 section 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    Idle,
    /// Packets carry P until one with F comes.
    Running,
    /// F came: the next poll begins after a packet without F, else a late answer to the first could be taken for its
    /// own (section 6.8.3).
    Settling,
}

/// What a session needs from outside itself.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) rng: &'a mut SmallRng,
    pub(crate) lateness: &'a Watch,
}

/// What a session wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    Send([u8; ControlPacket::LEN]),
    Event(Change),
    Over,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) key: SessionKey,
    pub(crate) config: SessionConfig,
    discriminator: Discriminator,
    state: State,
    since: Now,
    reason: Reason,
    diagnostic: Diagnostic,
    remote: Remote,
    tx: Interval,
    rx: Interval,
    poll: Poll,
    /// A change that a poll must carry and that the poll under way, if any, doesn't.
    unconfirmed: bool,
    /// When the last periodic packet was sent; none where the next one doesn't wait for its interval.
    last_tx: Option<Instant>,
    /// None where none may be sent, or something is to be told at once.
    next_tx: Option<Instant>,
    /// The interval that `next_tx` was drawn from.
    drawn_from: Duration,
    last_rx: Option<Instant>,
    detect_at: Option<Instant>,
    over_at: Option<Instant>,
    received: u64,
    sent: u64,
    flaps: u64,
}

impl Session {
    pub(crate) fn new(key: SessionKey, config: SessionConfig, discriminator: Discriminator, now: Now) -> Session {
        let slow = desired_min_tx(config.min_tx, false);
        Session {
            tx: Interval { advertised: slow, in_use: slow },
            rx: Interval { advertised: config.min_rx, in_use: config.min_rx },
            key,
            config,
            discriminator,
            state: State::Down,
            since: now,
            reason: Reason::Created,
            diagnostic: Diagnostic::NONE,
            remote: Remote::UNKNOWN,
            poll: Poll::Idle,
            unconfirmed: false,
            last_tx: None,
            next_tx: None,
            drawn_from: Duration::ZERO,
            last_rx: None,
            detect_at: None,
            over_at: None,
            received: 0,
            sent: 0,
            flaps: 0,
        }
    }

    /// Begins to send, spread over an interval: sessions that are made together don't stay in step.
    pub(crate) fn start(&mut self, context: &mut Context<'_>) {
        if self.may_send_periodically() {
            let interval = self.transmit_interval();
            let spread = interval.saturating_sub(jittered(interval, 2, context.rng));
            self.next_tx = Some(context.now.mono + spread);
            self.drawn_from = interval;
        }
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        [self.next_tx, self.detect_at, self.over_at].into_iter().flatten().min()
    }

    pub(crate) fn is_disabled(&self) -> bool {
        self.state == State::AdminDown
    }

    /// Takes a packet that passed every rule of RFC 5880 section 6.8.6 up to "set bfd.RemoteDiscr".
    pub(crate) fn receive(&mut self, packet: &ControlPacket, context: &mut Context<'_>, effects: &mut Vec<Effect>) {
        let before = (self.state, self.remote, self.timers());
        let now = context.now;
        self.received += 1;
        self.remote = Remote {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            control_plane_independent: packet.control_plane_independent,
            demand: packet.demand,
            min_tx: packet.desired_min_tx,
            min_rx: packet.required_min_rx,
            multiplier: packet.detect_multiplier,
        };
        match (self.poll, packet.final_) {
            (Poll::Running, true) => {
                self.poll = Poll::Settling;
                // Where a change has overtaken the poll, it isn't known which of the two was answered.
                if !self.unconfirmed {
                    self.tx.in_use = self.tx.advertised;
                    self.rx.in_use = self.rx.advertised;
                }
            }
            (Poll::Settling, false) => self.poll = Poll::Idle,
            _ => {}
        }
        self.last_rx = Some(now.mono);
        self.step(FsmEvent::Received(packet.state), context, effects);
        self.begin_poll();
        if packet.poll {
            effects.push(Effect::Send(self.packet(false, true)));
            self.sent += 1;
        }
        self.settle(before, context, effects);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, context: &mut Context<'_>, effects: &mut Vec<Effect>) {
        let before = (self.state, self.remote, self.timers());
        let now = context.now.mono;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.over_at) {
            effects.push(Effect::Over);
            self.over_at = None;
            self.next_tx = None;
            self.detect_at = None;
            return;
        }
        if due(self.detect_at) {
            self.step(FsmEvent::DetectionExpired, context, effects);
            let Remote { diagnostic, control_plane_independent, .. } = self.remote;
            // These two are what the session's user decides on.
            self.remote = Remote { diagnostic, control_plane_independent, ..Remote::UNKNOWN };
            self.last_rx = None;
        }
        self.settle(before, context, effects);
    }

    /// Takes another configuration; a session that was leaving comes back.
    pub(crate) fn configure(&mut self, config: &SessionConfig, context: &mut Context<'_>, effects: &mut Vec<Effect>) {
        let before = (self.state, self.remote, self.timers());
        let multiplier = self.config.multiplier;
        self.config = config.clone();
        self.over_at = None;
        self.step(FsmEvent::Enable, context, effects);
        self.advertise();
        if multiplier != config.multiplier {
            // In the peer's detection time at once, so that it is told at once.
            self.next_tx = None;
            self.last_tx = None;
        }
        self.settle(before, context, effects);
    }

    /// Takes the session out of service and tells the peer for its whole detection time (RFC 5880 section 6.8.16).
    pub(crate) fn disable(&mut self, context: &mut Context<'_>, effects: &mut Vec<Effect>) {
        let before = (self.state, self.remote, self.timers());
        self.step(FsmEvent::Disable, context, effects);
        let listens = self.remote.discriminator.is_some();
        let interval = agreed(self.tx.advertised, self.remote.min_rx).min(Duration::from_secs(2));
        let telling = if listens { interval * u32::from(self.config.multiplier.clamp(1, 5)) } else { Duration::ZERO };
        self.over_at = Some(self.over_at.unwrap_or(context.now.mono + telling));
        self.settle(before, context, effects);
    }

    fn step(&mut self, event: FsmEvent, context: &mut Context<'_>, effects: &mut Vec<Effect>) {
        let Some((state, diagnostic)) = transition(self.state, event) else { return };
        self.reason = self.reason_for(state, event, context);
        let from = std::mem::replace(&mut self.state, state);
        self.diagnostic = diagnostic.unwrap_or(self.diagnostic);
        self.since = context.now;
        self.flaps += u64::from(from == State::Up);
        if from == State::Up || state == State::Up {
            self.poll = Poll::Idle;
            self.unconfirmed = false;
            self.advertise();
        }
        effects.push(Effect::Event(Change::State { from }));
        // A change of state isn't kept for the next period (RFC 5880 section 6.8.7).
        self.next_tx = None;
        self.last_tx = None;
    }

    fn reason_for(&self, state: State, event: FsmEvent, context: &Context<'_>) -> Reason {
        let now = context.now.mono;
        let worst_in = |span: Duration| context.lateness.worst_since(now - span);
        match (state, event) {
            (_, FsmEvent::DetectionExpired) => {
                let silence = self.last_rx.map_or(Duration::ZERO, |last| now.since(last));
                Reason::DetectionExpired { silence, late: worst_in(self.detection_time()) }
            }
            (_, FsmEvent::Disable) => Reason::Removed,
            (_, FsmEvent::Enable) => Reason::Created,
            (State::Up, _) => Reason::Established,
            (State::Init, _) => Reason::PeerHeard,
            (_, FsmEvent::Received(State::AdminDown)) => Reason::PeerAdminDown,
            (_, FsmEvent::Received(_)) => {
                // The peer's detection time, and as much again for its packet to come and be looked at.
                let span = detection_time(self.config.multiplier, self.transmit_interval()) * 2;
                Reason::PeerDown { diagnostic: self.remote.diagnostic, late: worst_in(span) }
            }
        }
    }

    /// Says the intervals that state and configuration ask for, and uses them as far as the peer needn't confirm.
    fn advertise(&mut self) {
        let up = self.state == State::Up;
        let (tx, rx) = (desired_min_tx(self.config.min_tx, up), self.config.min_rx);
        if (tx, rx) != (self.tx.advertised, self.rx.advertised) {
            self.tx.advertised = tx;
            self.rx.advertised = rx;
            self.unconfirmed = up;
            self.begin_poll();
        }
        // Sending slower, and hearing faster, waits until the peer knows.
        if !up || tx < self.tx.in_use {
            self.tx.in_use = tx;
        }
        if !up || rx > self.rx.in_use {
            self.rx.in_use = rx;
        }
    }

    /// Begins a poll sequence if one is needed and none is under way: one carries all changes so far.
    fn begin_poll(&mut self) {
        if self.unconfirmed && self.poll == Poll::Idle && self.state == State::Up {
            self.unconfirmed = false;
            self.poll = Poll::Running;
            self.next_tx = None;
            self.last_tx = None;
        }
    }

    /// Brings timers in line with the state, sends what is due, and reports what the user of the session can see.
    fn settle(
        &mut self,
        (state, remote, timers): (State, Remote, (Duration, Duration)),
        context: &mut Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let listening = self.state != State::AdminDown;
        self.detect_at = self.last_rx.filter(|_| listening).map(|last| last + self.detection_time());
        self.schedule(context, effects);
        if self.state != state || self.over_at.is_some() {
            return;
        }
        let told = |remote: &Remote| (remote.state, remote.diagnostic, remote.control_plane_independent);
        if self.state == State::Up && timers != self.timers() {
            effects.push(Effect::Event(Change::Timers));
        } else if told(&remote) != told(&self.remote) {
            effects.push(Effect::Event(Change::Remote));
        }
    }

    /// Sends what is due and draws the time of the next periodic packet.
    fn schedule(&mut self, context: &mut Context<'_>, effects: &mut Vec<Effect>) {
        if !self.may_send_periodically() {
            self.next_tx = None;
            return;
        }
        let now = context.now.mono;
        let interval = self.transmit_interval();
        let multiplier = self.config.multiplier;
        let mut after = |last: Instant| last + jittered(interval, multiplier, context.rng);
        let mut next = match (self.last_tx, self.next_tx) {
            (None, None) => now,
            // The peer wants packets again: no sooner than if it had all the time.
            (Some(last), None) => after(last),
            // Another interval holds for the packet that is next already (RFC 5880 section 6.8.3).
            (last, Some(_)) if self.drawn_from != interval => after(last.unwrap_or(now)),
            (_, Some(next)) => next,
        };
        if next <= now {
            effects.push(Effect::Send(self.packet(self.poll == Poll::Running, false)));
            self.sent += 1;
            self.last_tx = Some(now);
            next = after(now);
        }
        self.next_tx = Some(next);
        self.drawn_from = interval;
    }

    /// RFC 5880 section 6.8.7, "MUST NOT transmit".
    fn may_send_periodically(&self) -> bool {
        let unheard = self.remote.discriminator.is_none();
        let demanded = self.remote.demand && self.state == State::Up && self.remote.state == State::Up;
        !(unheard && (self.config.passive || self.state == State::AdminDown))
            && !self.remote.min_rx.is_zero()
            && (!demanded || self.poll == Poll::Running)
    }

    fn packet(&self, poll: bool, final_: bool) -> [u8; ControlPacket::LEN] {
        ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            poll,
            final_,
            control_plane_independent: true,
            demand: false,
            detect_multiplier: self.config.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.tx.advertised,
            required_min_rx: self.rx.advertised,
            required_min_echo_rx: Duration::ZERO,
        }
        .encode()
    }

    fn transmit_interval(&self) -> Duration {
        agreed(self.tx.in_use, self.remote.min_rx)
    }

    fn receive_interval(&self) -> Duration {
        if self.remote.multiplier == 0 { Duration::ZERO } else { agreed(self.remote.min_tx, self.rx.in_use) }
    }

    fn detection_time(&self) -> Duration {
        detection_time(self.remote.multiplier, self.receive_interval())
    }

    /// What is negotiated, as far as the user of the session sees it.
    fn timers(&self) -> (Duration, Duration) {
        (self.transmit_interval(), self.detection_time())
    }

    pub(crate) fn view(&self) -> SessionView {
        let remote = &self.remote;
        SessionView {
            key: self.key.clone(),
            state: self.state,
            since: self.since.wall,
            reason: self.reason.clone(),
            diagnostic: self.diagnostic,
            discriminator: self.discriminator,
            remote_state: remote.state,
            remote_diagnostic: remote.diagnostic,
            remote_discriminator: remote.discriminator,
            control_plane_independent: remote.control_plane_independent,
            remote_demand: remote.demand,
            remote_min_tx: remote.min_tx,
            remote_min_rx: remote.min_rx,
            remote_multiplier: remote.multiplier,
            transmit_interval: self.transmit_interval(),
            receive_interval: self.receive_interval(),
            detection_time: self.detection_time(),
            polling: self.poll == Poll::Running || self.unconfirmed,
            received: self.received,
            sent: self.sent,
            flaps: self.flaps,
        }
    }
}
