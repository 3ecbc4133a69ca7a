use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use margay_net::{Instant, Now};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::counters::Counters;
use crate::io::{Arrival, Discard, Event, Input, Output, SessionConfig, SessionKey, SessionView};
use crate::lateness::{Lateness, Watch};
use crate::packet::{ControlPacket, Discriminator};
use crate::session::{Context, Effect, Session};

/// How BFD is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Where discriminators and jitter come from.
    pub seed: u64,
    /// From when on a wake-up counts as late.
    pub late_threshold: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { seed: 0, late_threshold: Duration::from_millis(10) }
    }
}

/// All BFD sessions of a machine.
#[derive(Debug)]
pub struct Bfd {
    sessions: BTreeMap<Discriminator, Session>,
    keys: BTreeMap<SessionKey, Discriminator>,
    timers: BTreeSet<(Instant, Discriminator)>,
    outputs: VecDeque<Output>,
    effects: Vec<Effect>,
    due: Vec<Discriminator>,
    counters: Counters,
    lateness: Watch,
    rng: SmallRng,
}

/// The TTL of every single-hop packet (RFC 5881 section 5).
const SINGLE_HOP_TTL: u8 = 255;

impl Bfd {
    pub fn new(options: Options) -> Bfd {
        Bfd {
            sessions: BTreeMap::new(),
            keys: BTreeMap::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            effects: Vec::new(),
            due: Vec::new(),
            counters: Counters::default(),
            lateness: Watch::new(options.late_threshold),
            rng: SmallRng::seed_from_u64(options.seed),
        }
    }

    /// Takes what came in.
    pub fn handle_input(&mut self, input: Input<'_>, now: Now) {
        self.lateness.woken(self.poll_timeout(), now);
        match input {
            Input::Sessions(wanted) => self.apply(&wanted, now),
            Input::Packet { payload, arrival } => match self.select(payload, &arrival) {
                Ok((packet, session)) => {
                    self.counters.received += 1;
                    self.run(session, now, |session, context, effects| session.receive(&packet, context, effects));
                }
                Err(discard) => *self.counters.discarded.entry(discard).or_default() += 1,
            },
        }
    }

    /// Does everything that is due; ends a wake-up of the process.
    pub fn handle_timeout(&mut self, now: Now) {
        self.lateness.woken(self.poll_timeout(), now);
        let mut due = std::mem::take(&mut self.due);
        due.extend(self.timers.iter().take_while(|(at, _)| *at <= now.mono).map(|(_, session)| *session));
        for session in due.drain(..) {
            self.run(session, now, Session::handle_timeout);
        }
        self.due = due;
        self.lateness.asleep();
    }

    /// Hands out what must be done, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Tells when [`Bfd::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Shows all sessions, those that are leaving too.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> {
        self.keys.values().filter_map(|session| self.sessions.get(session)).map(Session::view)
    }

    /// Shows one session.
    pub fn session(&self, key: &SessionKey) -> Option<SessionView> {
        self.keys.get(key).and_then(|session| self.sessions.get(session)).map(Session::view)
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn lateness(&self) -> Lateness {
        self.lateness.figures
    }

    fn apply(&mut self, wanted: &BTreeMap<SessionKey, SessionConfig>, now: Now) {
        let gone = self.keys.iter().filter(|(key, _)| !wanted.contains_key(*key)).map(|(_, session)| *session);
        for session in gone.collect::<Vec<_>>() {
            if self.sessions.get(&session).is_some_and(|session| !session.is_disabled()) {
                self.run(session, now, Session::disable);
            }
        }
        for (key, config) in wanted {
            match self.keys.get(key).copied() {
                Some(session) => {
                    let other = |session: &Session| session.config != *config || session.is_disabled();
                    if self.sessions.get(&session).is_some_and(other) {
                        self.run(session, now, |session, context, effects| session.configure(config, context, effects));
                    }
                }
                None => self.open(key, config, now),
            }
        }
    }

    fn open(&mut self, key: &SessionKey, config: &SessionConfig, now: Now) {
        let session = self.new_discriminator();
        self.sessions.insert(session, Session::new(key.clone(), config.clone(), session, now));
        self.keys.insert(key.clone(), session);
        self.outputs.push_back(Output::Opened { session, key: key.clone() });
        self.run(session, now, |session, context, _| session.start(context));
    }

    /// Draws one that no session has; from the whole range, so that it can't be guessed from another's.
    fn new_discriminator(&mut self) -> Discriminator {
        loop {
            if let Some(drawn) = NonZeroU32::new(self.rng.random()).map(Discriminator)
                && !self.sessions.contains_key(&drawn)
            {
                return drawn;
            }
        }
    }

    /// Finds the session of a packet by the rules of RFC 5880 section 6.8.6, RFC 5881 sections 3 and 5, and RFC 5883
    /// section 4.
    fn select(&self, payload: &[u8], arrival: &Arrival) -> Result<(ControlPacket, Discriminator), Discard> {
        if !arrival.multihop && arrival.ttl != Some(SINGLE_HOP_TTL) {
            return Err(Discard::Ttl);
        }
        let packet = ControlPacket::decode(payload)?;
        let (name, session) = match packet.your_discriminator {
            Some(name) => {
                let session = self.sessions.get(&name).ok_or(Discard::UnknownDiscriminator)?;
                if !on_path(&session.key, arrival) {
                    return Err(Discard::WrongPath);
                }
                (name, session)
            }
            None => self.with_sender(arrival).ok_or(Discard::NoSession)?,
        };
        if arrival.multihop && arrival.ttl.is_none_or(|ttl| ttl < session.config.min_ttl) {
            return Err(Discard::Ttl);
        }
        if session.is_disabled() {
            return Err(Discard::AdminDown);
        }
        Ok((packet, name))
    }

    /// The session with the sender of a packet that names none: the one that says most about its path.
    fn with_sender(&self, arrival: &Arrival) -> Option<(Discriminator, &Session)> {
        let first = SessionKey { remote: arrival.remote, multihop: arrival.multihop, interface: None, local: None };
        let same = |key: &SessionKey| key.remote == arrival.remote && key.multihop == arrival.multihop;
        let candidates = self.keys.range(&first..).take_while(|(key, _)| same(key));
        let matching = candidates
            .filter(|(key, _)| on_path(key, arrival) && key.local.is_none_or(|local| local == arrival.local))
            .max_by_key(|(key, _)| (key.interface.is_some(), key.local.is_some()));
        matching.and_then(|(_, name)| Some((*name, self.sessions.get(name)?)))
    }

    /// Has a session do something, then keeps its timer and does what it wants.
    fn run(
        &mut self,
        name: Discriminator,
        now: Now,
        work: impl FnOnce(&mut Session, &mut Context<'_>, &mut Vec<Effect>),
    ) {
        let Some(session) = self.sessions.get_mut(&name) else { return };
        let mut context = Context { now, rng: &mut self.rng, lateness: &self.lateness };
        let before = session.timeout();
        work(session, &mut context, &mut self.effects);
        let after = session.timeout();
        if before != after {
            if let Some(at) = before {
                self.timers.remove(&(at, name));
            }
            if let Some(at) = after {
                self.timers.insert((at, name));
            }
        }
        let mut over = false;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send(packet) => {
                    self.counters.sent += 1;
                    self.outputs.push_back(Output::Transmit { session: name, packet });
                }
                Effect::Event(change) => {
                    self.counters.state_changes += u64::from(matches!(change, crate::io::Change::State { .. }));
                    self.outputs.push_back(Output::Event(Box::new(Event { session: session.view(), change })));
                }
                Effect::Over => over = true,
            }
        }
        if over && let Some(session) = self.sessions.remove(&name) {
            self.keys.remove(&session.key);
            self.outputs.push_back(Output::Closed { session: name, key: session.key });
        }
    }
}

/// Whether a packet with a session's discriminator came the session's way. Over a single hop its source address is not
/// looked at: it may change, and the TTL vouches for the neighbour (RFC 5881 section 6).
fn on_path(key: &SessionKey, arrival: &Arrival) -> bool {
    let addresses = || key.remote == arrival.remote && key.local.is_none_or(|local| local == arrival.local);
    key.multihop == arrival.multihop
        && (key.interface.is_none() || key.interface == arrival.interface)
        && (!key.multihop || addresses())
}
