//! All peers of the device on one thread: writes what they announce, decodes what they receive, and ticks off every
//! prefix.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::device::Device;
use super::session::{Session, write_some};
use super::shape::{ANYBODY, Change, Holder, NOBODY, Peer, Plan};
use super::table::PrefixIndex;
use super::watch::{Exceeded, Limits, Watch};
use super::wire::{PrefixKey, UPDATE, Update, cease};

/// How long a session may take to come up: some speakers don't listen at once, or not to a peer that was refused.
const ESTABLISH: Duration = Duration::from_secs(60);
/// A device that says nothing for this long has done what it had to do.
const QUIET: Duration = Duration::from_millis(300);
/// The longest wait for events, so that the watch has its turns.
const TURN: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 256 * 1024;

/// All sessions with what their peers hold.
#[derive(Debug)]
pub(crate) struct Peers<'p> {
    plan: &'p Plan,
    all: Vec<End<'p>>,
    epoll: Epoll,
    /// By the prefixes' numbers: from whom all receivers are to hold it.
    wanted: Vec<Holder>,
    watch: Watch,
    time_limit: Duration,
    buffer: Vec<u8>,
    events: Vec<EpollEvent>,
}

#[derive(Debug)]
struct End<'p> {
    number: Holder,
    /// None once it went down.
    session: Option<Session>,
    unwritten: &'p [u8],
    /// Absent where it only feeds.
    held: Option<Held>,
}

/// What a receiver holds.
#[derive(Debug)]
struct Held {
    own: Holder,
    /// By the prefixes' numbers: from whom.
    from: Vec<Holder>,
    /// Of how many prefixes that isn't what is wanted.
    unmet: usize,
    /// When the last one was ticked off.
    met_at: Option<Instant>,
    /// Where to look for the next prefix first.
    last: usize,
}

impl<'p> Peers<'p> {
    /// Brings up all sessions, again where the device isn't ready for one.
    pub(crate) fn establish(plan: &'p Plan, device: &mut Device, limits: &Limits) -> Result<Peers<'p>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create")?;
        let mut all = Vec::with_capacity(plan.peers.len());
        for (number, planned) in (0..).zip(&plan.peers) {
            let Peer { address, .. } = planned.peer;
            let session = crate::until(ESTABLISH, &format!("a session of {address}"), || {
                device.check_running()?;
                Session::attempt(planned.peer)
            })?;
            epoll.add(&session.stream, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
            let number = Holder::try_from(number)?;
            let held = planned.receives.then(|| Held {
                own: number,
                from: vec![NOBODY; plan.index.len()],
                unmet: 0,
                met_at: None,
                last: 0,
            });
            all.push(End { number, session: Some(session), unwritten: &[], held });
        }
        Ok(Peers {
            plan,
            all,
            epoll,
            wanted: vec![NOBODY; plan.index.len()],
            watch: Watch::new(device.pid(), limits),
            time_limit: limits.time,
            buffer: vec![0; READ_BYTES],
            events: vec![EpollEvent::empty(); 512],
        })
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(crate) fn plan(&self) -> &'p Plan {
        self.plan
    }

    /// Lets a peer write messages in the phase that follows.
    pub(crate) fn queue(&mut self, number: usize, messages: &'p [u8]) -> Result<()> {
        let end = &mut self.all[number];
        ensure!(end.unwritten.is_empty(), "peer {number} has not written all yet");
        end.unwritten = messages;
        end.listen_for(&self.epoll)
    }

    /// Says what all receivers are to hold.
    pub(crate) fn want(&mut self, wanted: Vec<Holder>) {
        self.wanted = wanted;
        for held in self.all.iter_mut().filter_map(|end| end.held.as_mut()) {
            held.met_at = None;
            held.unmet = 0;
            for (number, &wanted) in self.wanted.iter().enumerate() {
                held.unmet += usize::from(!meets(held.from[number], wanted, held.own));
            }
        }
    }

    /// Says from whom all receivers are to hold one prefix, beside what was wanted before.
    pub(crate) fn want_one(&mut self, number: usize, wanted: Holder) {
        let before = std::mem::replace(&mut self.wanted[number], wanted);
        for held in self.all.iter_mut().filter_map(|end| end.held.as_mut()) {
            let from = held.from[number];
            held.unmet -= usize::from(!meets(from, before, held.own));
            held.unmet += usize::from(!meets(from, wanted, held.own));
            held.met_at = None;
        }
    }

    /// Goes on until everything queued is written and every receiver holds what is wanted. Returns when that began, just
    /// before the first write, and how long it took.
    pub(crate) fn reach(&mut self) -> Result<(Instant, Duration)> {
        let began = Instant::now();
        while !self.is_reached() {
            if began.elapsed() > self.time_limit {
                eprintln!("{}", self.missing());
                return Err(Exceeded::Time(self.time_limit).into());
            }
            self.turn()?;
        }
        Ok((began, began.elapsed()))
    }

    /// When each receiver had ticked off its last prefix; a receiver that had nothing to wait for is not among them.
    pub(crate) fn met_at(&self) -> impl Iterator<Item = Instant> {
        self.all.iter().filter_map(|end| end.held.as_ref()?.met_at)
    }

    /// A peer says goodbye and closes its session.
    pub(crate) fn down(&mut self, number: usize) -> Result<()> {
        let mut session = self.all[number].session.take().context("it is down already")?;
        let goodbye = cease();
        let written = write_some(&mut session.stream, &goodbye)?;
        ensure!(written == goodbye.len(), "a full socket where nothing is to be written");
        Ok(())
    }

    /// Waits until nothing has come for a while.
    pub(crate) fn quiet(&mut self) -> Result<()> {
        let began = Instant::now();
        let mut last = began;
        while last.elapsed() < QUIET {
            if began.elapsed() > self.time_limit {
                return Err(Exceeded::Time(self.time_limit).into());
            }
            if self.turn()? {
                last = Instant::now();
            }
        }
        Ok(())
    }

    /// A route goes to every receiver and goes away again: all sessions carry routes, and what a speaker holds back
    /// behind a new session is no longer held back.
    pub(crate) fn probe(&mut self) -> Result<()> {
        let Change { number, announcement, withdrawal } = &self.plan.probe;
        for (messages, wanted) in [(announcement, 0), (withdrawal, NOBODY)] {
            self.queue(0, messages)?;
            self.want_one(*number, wanted);
            self.reach().context("the probe")?;
        }
        Ok(())
    }

    fn is_reached(&self) -> bool {
        self.all.iter().all(|end| end.unwritten.is_empty() && end.held.as_ref().is_none_or(|held| held.unmet == 0))
    }

    /// What a phase that doesn't end is waiting for.
    fn missing(&self) -> String {
        let unwritten: usize = self.all.iter().map(|end| end.unwritten.len()).sum();
        let unmet: Vec<usize> = self.all.iter().filter_map(|end| Some(end.held.as_ref()?.unmet)).collect();
        let (waiting, worst) = (unmet.iter().filter(|&&count| count > 0).count(), unmet.iter().max().unwrap_or(&0));
        format!(
            "{unwritten} bytes unwritten; {waiting} of {} receivers lack prefixes, one of them {worst} of {}",
            unmet.len(),
            self.wanted.len()
        )
    }

    /// Waits until a session can go on, and goes on with each that can; tells whether anything came.
    fn turn(&mut self) -> Result<bool> {
        let timeout = EpollTimeout::try_from(TURN).unwrap_or(EpollTimeout::ZERO);
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        self.watch.check()?;
        let mut came = false;
        for event in &self.events[..count] {
            let end = &mut self.all[usize::try_from(event.data())?];
            let number = end.number;
            let went = end.go_on(event.events(), &self.epoll, self.plan, &self.wanted, &mut self.buffer);
            came |= went.with_context(|| format!("peer {number}"))?;
        }
        Ok(came)
    }
}

impl End<'_> {
    /// Writes and reads what is possible; tells whether anything came.
    fn go_on(
        &mut self,
        events: EpollFlags,
        epoll: &Epoll,
        plan: &Plan,
        wanted: &[Holder],
        buffer: &mut [u8],
    ) -> Result<bool> {
        if events.contains(EpollFlags::EPOLLOUT) {
            self.write(epoll)?;
        }
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return self.read(plan, wanted, buffer);
        }
        Ok(false)
    }

    fn listen_for(&self, epoll: &Epoll) -> Result<()> {
        let Some(session) = &self.session else { bail!("peer {} is down", self.number) };
        let write = if self.unwritten.is_empty() { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | write, self.number.into());
        epoll.modify(&session.stream, &mut event).context("epoll_ctl")
    }

    fn write(&mut self, epoll: &Epoll) -> Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let written = write_some(&mut session.stream, self.unwritten)?;
        self.unwritten = &self.unwritten[written..];
        if self.unwritten.is_empty() { self.listen_for(epoll) } else { Ok(()) }
    }

    fn read(&mut self, plan: &Plan, wanted: &[Holder], buffer: &mut [u8]) -> Result<bool> {
        let Some(Session { stream, framer }) = &mut self.session else { return Ok(false) };
        let Some(held) = &mut self.held else { return framer.read(stream, buffer, |_, _| Ok(())) };
        let unmet = held.unmet;
        let came = framer
            .read(stream, buffer, |kind, body| if kind == UPDATE { held.update(body, plan, wanted) } else { Ok(()) })?;
        if held.unmet == 0 && unmet > 0 {
            held.met_at = Some(Instant::now());
        }
        Ok(came)
    }
}

impl Held {
    /// Ticks off the prefixes of an UPDATE. One that nobody announced is an error, and one from the wrong peer.
    fn update(&mut self, body: &[u8], plan: &Plan, wanted: &[Holder]) -> Result<()> {
        let update = Update::decode(body)?;
        let source = source(&update)?;
        let mut wrong = None;
        update.for_each_prefix(|prefix, gone| {
            if let Err(why) = self.tick(prefix, if gone { NOBODY } else { source }, &plan.index, &plan.sources, wanted)
            {
                wrong = Some(why);
            }
        })?;
        wrong.map_or(Ok(()), Err)
    }

    fn tick(
        &mut self,
        prefix: PrefixKey,
        source: Holder,
        index: &PrefixIndex,
        sources: &[Holder],
        wanted: &[Holder],
    ) -> Result<()> {
        let number =
            index.find(prefix, self.last).ok_or_else(|| anyhow!("prefix {prefix:#x}, which nobody announced"))?;
        self.last = number;
        let allowed = sources[number];
        ensure!(
            source == NOBODY || source == allowed || allowed == ANYBODY,
            "prefix {prefix:#x} from peer {source} instead of {allowed}"
        );
        // Some speakers send a peer's own routes back, and a router's loop check drops them.
        if source == self.own {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.from[number], source);
        let wanted = wanted[number];
        self.unmet += usize::from(meets(before, wanted, self.own));
        self.unmet -= usize::from(meets(source, wanted, self.own));
        Ok(())
    }
}

/// Whether it is as wanted that a receiver holds a prefix from somebody. It is always so with its own prefixes.
fn meets(from: Holder, wanted: Holder, own: Holder) -> bool {
    match wanted {
        ANYBODY => from != NOBODY,
        wanted => from == wanted || wanted == own,
    }
}

/// The peer that a path comes from: by the first AS number that isn't the device's, or by the next hop of an internal
/// path. [`NOBODY`] where nothing is announced.
fn source(update: &Update) -> Result<Holder> {
    let first = match update.first_as {
        Some(super::DEVICE_ASN) => update.second_as,
        first => first,
    };
    let number = match (first, update.next_hop) {
        (Some(asn), _) => Peer::number_of_asn(asn),
        (None, Some(next_hop)) => Peer::number_of_address(next_hop),
        (None, None) => return Ok(NOBODY),
    };
    let number = number.and_then(|number| Holder::try_from(number).ok());
    number.with_context(|| format!("a path of no peer: first AS {first:?}, next hop {:?}", update.next_hop))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bench::Shape;
    use crate::bench::wire::{HEADER, for_each_message};

    /// The receiver of the smallest plan, that wants everything.
    fn receiver(plan: &Plan) -> (Held, Vec<Holder>) {
        let wanted = plan.wanted(0);
        let unmet = wanted.iter().filter(|&&wanted| wanted != NOBODY).count();
        (Held { own: 1, from: vec![NOBODY; plan.index.len()], unmet, met_at: None, last: 0 }, wanted)
    }

    #[test]
    fn all_prefixes_are_ticked_off_and_given_back() {
        let plan = Plan::new(Shape::One100k, 0.001, 1);
        let (mut held, wanted) = receiver(&plan);
        for_each_message(&plan.peers[0].announcements, |_, body| held.update(body, &plan, &wanted)).unwrap();
        assert_eq!(held.unmet, 0);
        // Again the same: nothing is counted twice.
        for_each_message(&plan.peers[0].announcements, |_, body| held.update(body, &plan, &wanted)).unwrap();
        assert_eq!(held.unmet, 0);
        for_each_message(&plan.peers[0].withdrawals, |_, body| held.update(body, &plan, &wanted)).unwrap();
        assert_eq!(held.unmet, 100);
    }

    #[test]
    fn a_prefix_that_nobody_announced_is_an_error() {
        let (plan, other) = (Plan::new(Shape::One100k, 0.001, 1), Plan::new(Shape::One100k, 0.001, 2));
        let (mut held, wanted) = receiver(&plan);
        let told = for_each_message(&other.peers[0].announcements, |_, body| held.update(body, &plan, &wanted));
        assert!(told.unwrap_err().to_string().contains("which nobody announced"));
    }

    #[test]
    fn a_prefix_from_the_wrong_peer_is_an_error_and_an_echo_is_none() {
        let plan = Plan::new(Shape::Reflector500, 0.01, 1);
        let (mut held, wanted) = receiver(&plan);
        let before = held.unmet;
        let own = &plan.peers[1].announcements;
        for_each_message(own, |_, body| held.update(body, &plan, &wanted)).unwrap();
        assert_eq!(held.unmet, before);
        // The blocks of peer 2 with the next hop of peer 3.
        let mut stolen = plan.peers[2].announcements[HEADER..].to_vec();
        let address = |number: usize| match plan.peers[number].peer.address {
            std::net::IpAddr::V4(address) => address.octets(),
            std::net::IpAddr::V6(_) => panic!("internal peers have IPv4 addresses"),
        };
        let at = stolen.windows(4).position(|window| window == address(2)).unwrap();
        stolen[at..at + 4].copy_from_slice(&address(3));
        let error = held.update(&stolen, &plan, &wanted).unwrap_err();
        assert!(error.to_string().contains("from peer 3 instead of 2"), "{error}");
    }
}
