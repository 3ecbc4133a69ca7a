//! One end of BFD sessions, and what RFC 5880 lets it do.

use std::collections::BTreeMap;
use std::time::Duration;

use margay_bfd::{
    Arrival, Bfd, Change, ControlPacket, Discriminator, Event, Input, Options, Output, SessionConfig, SessionKey,
    SessionView, State,
};
use margay_net::{Instant, Now};

/// The longest that a session which is wanted no longer tells its peer so.
const LEAVING: Duration = Duration::from_secs(10);

/// An end with what is known about its sessions from what went in and came out.
pub(super) struct End {
    pub(super) bfd: Bfd,
    pub(super) wanted: BTreeMap<SessionKey, SessionConfig>,
    known: BTreeMap<Discriminator, Known>,
}

struct Known {
    key: SessionKey,
    config: SessionConfig,
    state: State,
    /// When the last packet was taken.
    heard: Option<Instant>,
    /// When the last packet was sent that is no answer, and what it said.
    sent: Option<(Instant, ControlPacket)>,
    /// Whether F was heard since.
    answered: bool,
    /// Whether the state or the multiplier has changed since, and be it to and fro.
    changed: bool,
    /// From when on the session is wanted no longer.
    leaving: Option<Instant>,
}

/// What an end is handed.
enum Cause {
    Wanted,
    /// A packet that a session took, or none.
    Packet(Option<(Discriminator, ControlPacket)>),
    Timeout,
}

type Views = BTreeMap<Discriminator, SessionView>;

/// What an end sends, and on which session.
pub(super) type Sent = (SessionKey, [u8; ControlPacket::LEN]);

impl End {
    pub(super) fn new(seed: u64) -> End {
        let bfd = Bfd::new(Options { seed, ..Options::default() });
        End { bfd, wanted: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// Has other sessions wanted.
    pub(super) fn want(&mut self, wanted: BTreeMap<SessionKey, SessionConfig>, now: Instant) -> Vec<Sent> {
        let before = self.views();
        self.bfd.handle_input(Input::Sessions(wanted.clone()), Now::at(now.0));
        for known in self.known.values_mut() {
            match wanted.get(&known.key) {
                Some(config) => {
                    known.changed |= known.config.multiplier != config.multiplier;
                    known.config = config.clone();
                    known.leaving = None;
                }
                None => known.leaving = known.leaving.or(Some(now)),
            }
        }
        self.wanted = wanted;
        self.check(&before, &Cause::Wanted, now)
    }

    /// Hands in a packet.
    pub(super) fn receive(&mut self, payload: &[u8], arrival: Arrival, now: Instant) -> Vec<Sent> {
        let before = self.views();
        let counted = |bfd: &Bfd| (bfd.counters().received, bfd.counters().discarded.values().sum::<u64>());
        let (received, discarded) = counted(&self.bfd);
        self.bfd.handle_input(Input::Packet { payload, arrival: arrival.clone() }, Now::at(now.0));
        let after = self.views();
        let took = |(name, view): &(&Discriminator, &SessionView)| view.received != before[name].received;
        let takers: Vec<Discriminator> = after.iter().filter(took).map(|(name, _)| *name).collect();
        let taker = takers.first().map(|name| {
            let packet = ControlPacket::decode(payload).expect("only what can be read is taken");
            self.check_taken(*name, &packet, &arrival, now);
            (*name, packet)
        });
        let expected = if taker.is_some() { (received + 1, discarded) } else { (received, discarded + 1) };
        assert!(takers.len() <= 1 && counted(&self.bfd) == expected, "a packet is taken once, or discarded");
        self.check(&before, &Cause::Packet(taker), now)
    }

    /// Does what is due.
    pub(super) fn timeout(&mut self, now: Instant) -> Vec<Sent> {
        let before = self.views();
        self.bfd.handle_timeout(Now::at(now.0));
        assert!(self.bfd.poll_timeout().is_none_or(|next| next > now), "what is due stays due");
        let sent = self.check(&before, &Cause::Timeout, now);
        for view in self.bfd.sessions() {
            let known = &self.known[&view.discriminator];
            let silence = known.heard.map_or(Duration::MAX, |heard| now.since(heard));
            assert!(!matches!(view.state, State::Init | State::Up) || silence < view.detection_time, "{view:#?}");
            assert!(known.leaving.is_none_or(|since| now.since(since) < LEAVING), "{view:#?}");
        }
        sent
    }

    fn views(&self) -> Views {
        self.bfd.sessions().map(|view| (view.discriminator, view)).collect()
    }

    /// What RFC 5881 section 5, RFC 5883 section 4 and RFC 5880 section 6.8.6 ask of a packet for a session.
    fn check_taken(&mut self, name: Discriminator, packet: &ControlPacket, arrival: &Arrival, now: Instant) {
        let known = self.known.get_mut(&name).expect("a session that was opened");
        let least = if known.key.multihop { known.config.min_ttl } else { 255 };
        assert!(arrival.ttl.is_some_and(|ttl| ttl >= least), "{arrival:?}");
        assert!(packet.your_discriminator.is_none_or(|yours| yours == name));
        assert!(packet.your_discriminator.is_some() || known.key.remote == arrival.remote);
        assert!(known.key.interface.is_none() || known.key.interface == arrival.interface);
        assert_eq!(known.key.multihop, arrival.multihop);
        assert!(known.state != State::AdminDown, "taken by a session that is out of service");
        known.heard = Some(now);
        known.answered |= packet.final_;
    }

    /// Takes all that came out, and holds it and the sessions against what went in.
    fn check(&mut self, before: &Views, cause: &Cause, now: Instant) -> Vec<Sent> {
        let after = self.views();
        let (mut sent, mut finals) = (Vec::new(), 0);
        while let Some(output) = self.bfd.poll_output() {
            match output {
                Output::Opened { session, key } => {
                    let known = Known::new(&key, &self.wanted[&key]);
                    assert!(self.known.insert(session, known).is_none(), "opened twice");
                }
                Output::Event(event) => self.event(&event, cause),
                Output::Transmit { session, packet } => {
                    let known = self.known.get_mut(&session).expect("a session that is open");
                    let read = ControlPacket::decode(&packet).expect("a well-formed packet");
                    let view = &after[&session];
                    known.check_contents(&read, view);
                    if read.final_ {
                        finals += 1;
                    } else {
                        let interval = before.get(&session).map_or(Duration::ZERO, |view| view.transmit_interval);
                        known.check_rate(&read, view, interval, now);
                    }
                    sent.push((known.key.clone(), packet));
                }
                Output::Closed { session, key } => {
                    let known = self.known.remove(&session).expect("a session that is open");
                    assert!(known.key == key && known.state == State::AdminDown && !self.wanted.contains_key(&key));
                }
            }
        }
        let asked = matches!(cause, Cause::Packet(Some((_, packet))) if packet.poll);
        assert_eq!(finals, u32::from(asked), "P is answered at once with F, and nothing else is");
        for (name, known) in &self.known {
            let old = before.get(name).map_or(State::Down, |view| view.state);
            let silence =
                known.heard.zip(before.get(name)).map(|(heard, view)| now.since(heard) >= view.detection_time);
            let expected = match cause {
                Cause::Packet(Some((taker, packet))) if taker == name => received(old, packet.state),
                Cause::Timeout if matches!(old, State::Init | State::Up) && silence == Some(true) => State::Down,
                Cause::Wanted if known.leaving.is_some() => State::AdminDown,
                Cause::Wanted if old == State::AdminDown => State::Down,
                _ => old,
            };
            assert_eq!((known.state, after[name].state), (expected, expected));
            known.check_intervals(&after[name]);
        }
        assert_eq!(after.len(), self.known.len());
        sent
    }

    fn event(&mut self, event: &Event, cause: &Cause) {
        let known = self.known.get_mut(&event.session.discriminator).expect("a session that is open");
        assert!(!event.session.reason.to_string().is_empty());
        match event.change {
            Change::State { from } => {
                assert_eq!(known.state, from, "a change from another state");
                known.state = event.session.state;
                assert!(from != known.state && (from != State::AdminDown || matches!(cause, Cause::Wanted)));
                known.changed = true;
            }
            Change::Timers | Change::Remote => assert_eq!(known.state, event.session.state),
        }
    }
}

impl Known {
    fn new(key: &SessionKey, config: &SessionConfig) -> Known {
        Known {
            key: key.clone(),
            config: config.clone(),
            state: State::Down,
            heard: None,
            sent: None,
            answered: false,
            changed: false,
            leaving: None,
        }
    }

    fn check_contents(&self, packet: &ControlPacket, view: &SessionView) {
        assert_eq!(packet.state, self.state, "a packet says another state");
        assert_eq!(packet.diagnostic, view.diagnostic);
        assert_eq!(
            (packet.my_discriminator, packet.your_discriminator),
            (view.discriminator, view.remote_discriminator)
        );
        assert_eq!((packet.detect_multiplier, packet.required_min_rx), (self.config.multiplier, self.config.min_rx));
        assert!(packet.control_plane_independent && !packet.demand && packet.required_min_echo_rx.is_zero());
        assert!(!(packet.poll && packet.final_), "RFC 5880 section 6.5");
        assert_eq!(packet.desired_min_tx, desired(&self.config, self.state));
    }

    /// RFC 5880 section 6.8.7; `before` is the interval that held before what just happened.
    fn check_rate(&mut self, packet: &ControlPacket, view: &SessionView, before: Duration, now: Instant) {
        assert!(!view.remote_min_rx.is_zero(), "the peer wants no packets");
        assert!(!self.config.passive || view.remote_discriminator.is_some(), "the peer speaks first");
        let demanded = view.remote_demand && view.state == State::Up && view.remote_state == State::Up;
        assert!(!demanded || packet.poll, "the peer wants packets on demand only");
        let least = before.min(view.transmit_interval).as_micros() * 75 / 100;
        if let Some((at, last)) = &self.sent {
            let poll_begins = packet.poll && (!last.poll || self.answered);
            // What the peer is told at once.
            let ours =
                |packet: &ControlPacket| (packet.desired_min_tx, packet.required_min_rx, packet.detect_multiplier);
            let urgent = self.changed || poll_begins || ours(last) != ours(packet);
            assert!(urgent || now.since(*at).as_micros() >= least, "{:?} after the last: {view:#?}", now.since(*at));
        }
        self.sent = Some((now, *packet));
        self.answered = false;
        self.changed = false;
    }

    /// RFC 5880 sections 6.8.2 to 6.8.4.
    fn check_intervals(&self, view: &SessionView) {
        if view.state != State::Up || !view.polling {
            let ours = desired(&self.config, view.state);
            assert_eq!(view.transmit_interval, ours.max(view.remote_min_rx), "{view:#?}");
            let theirs =
                if view.remote_multiplier == 0 { Duration::ZERO } else { view.remote_min_tx.max(self.config.min_rx) };
            assert_eq!(view.receive_interval, theirs, "{view:#?}");
        }
        assert!(view.transmit_interval >= view.remote_min_rx.max(SessionConfig::LEAST));
        assert!(view.remote_multiplier == 0 || view.receive_interval >= view.remote_min_tx.max(SessionConfig::LEAST));
        assert_eq!(view.detection_time, view.receive_interval * u32::from(view.remote_multiplier));
    }
}

/// The least interval that a session may say it sends at: a second where it isn't up (RFC 5880 section 6.8.3).
fn desired(config: &SessionConfig, state: State) -> Duration {
    if state == State::Up { config.min_tx } else { config.min_tx.max(Duration::from_secs(1)) }
}

/// The state after a packet that says `remote`, by the end of RFC 5880 section 6.8.6.
fn received(state: State, remote: State) -> State {
    match (state, remote) {
        (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => State::Down,
        (State::Down, State::Down) => State::Init,
        (State::Down, State::Init) | (State::Init, State::Init | State::Up) => State::Up,
        _ => state,
    }
}
