//! Feeds a table to a device, and ticks off what comes out at every receiver.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::LIMIT;
use super::session::{Session, UPDATE, left, write_some};
use super::table::{PrefixIndex, PrefixKey, Table, key};

/// What the feeder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Announce,
    Withdraw,
}

/// A device that says nothing for this long has done what it had to do.
const QUIET: Duration = Duration::from_millis(300);
const READ_BYTES: usize = 256 * 1024;

/// All receivers with what they hold.
#[derive(Debug)]
pub(crate) struct Receivers<'a> {
    all: Vec<Receiver>,
    index: &'a PrefixIndex,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Receiver {
    session: Session,
    /// By the prefixes' numbers.
    held: Vec<bool>,
    count: usize,
}

impl<'a> Receivers<'a> {
    pub(crate) fn new(sessions: Vec<Session>, table: &'a Table) -> Receivers<'a> {
        let index = &table.index;
        let receiver = |session| Receiver { session, held: vec![false; index.len()], count: 0 };
        Receivers { all: sessions.into_iter().map(receiver).collect(), index, buffer: vec![0; READ_BYTES] }
    }

    /// Waits until nothing has come for a while.
    pub(crate) fn wait_until_quiet(&mut self, feeder: &mut Session) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let mut last = Instant::now();
        while last.elapsed() < QUIET {
            left(deadline).context("the device never falls silent")?;
            if self.turn(feeder, &mut &[][..], QUIET)? {
                last = Instant::now();
            }
        }
        Ok(())
    }

    /// Writes messages to the feeder's session until every receiver holds every prefix, or none; returns how long that
    /// took from before the first byte was written.
    pub(crate) fn run(&mut self, feeder: &mut Session, messages: &[u8], phase: Phase) -> Result<Duration> {
        let wanted = match phase {
            Phase::Announce => self.index.len(),
            Phase::Withdraw => 0,
        };
        let began = Instant::now();
        let mut unwritten = messages;
        loop {
            if unwritten.is_empty() && self.all.iter().all(|receiver| receiver.count == wanted) {
                return Ok(began.elapsed());
            }
            let Ok(wait) = left(began + LIMIT) else {
                let counts: Vec<usize> = self.all.iter().map(|receiver| receiver.count).collect();
                bail!("{phase:?}: {} bytes unwritten, receivers hold {counts:?} of {wanted}", unwritten.len());
            };
            self.turn(feeder, &mut unwritten, wait)?;
        }
    }

    /// Waits until a session can go on, and goes on with each that can; tells whether anything came.
    fn turn(&mut self, feeder: &mut Session, unwritten: &mut &[u8], wait: Duration) -> Result<bool> {
        let feeder_wants =
            if unwritten.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT };
        let mut fds = vec![PollFd::new(feeder.stream.as_fd(), feeder_wants)];
        fds.extend(self.all.iter().map(|receiver| PollFd::new(receiver.session.stream.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready: Vec<PollFlags> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        drop(fds);
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        let mut came = false;
        if ready[0].contains(PollFlags::POLLOUT) {
            *unwritten = &unwritten[write_some(&mut feeder.stream, unwritten)?..];
        }
        if ready[0].intersects(readable) {
            came |= feeder.framer.read(&mut feeder.stream, &mut self.buffer, |_, _| Ok(())).context("feeder")?;
        }
        for (at, receiver) in self.all.iter_mut().enumerate() {
            if ready[at + 1].intersects(readable) {
                came |= receiver.read(self.index, &mut self.buffer).with_context(|| format!("receiver {at}"))?;
            }
        }
        Ok(came)
    }
}

impl Receiver {
    fn read(&mut self, index: &PrefixIndex, buffer: &mut [u8]) -> Result<bool> {
        let (held, count) = (&mut self.held, &mut self.count);
        self.session.framer.read(&mut self.session.stream, buffer, |kind, body| {
            if kind != UPDATE {
                return Ok(());
            }
            let mut unknown = None;
            for_each_prefix(body, |prefix, gone| match index.find(prefix) {
                Some(number) => {
                    *count = *count + usize::from(!gone && !held[number]) - usize::from(gone && held[number]);
                    held[number] = !gone;
                }
                None => unknown = Some(prefix),
            })?;
            ensure!(unknown.is_none(), "a prefix that the feeder never announced: {unknown:x?}");
            Ok(())
        })
    }
}

/// Hands over each prefix of an UPDATE's body, and whether it is withdrawn.
pub(crate) fn for_each_prefix(body: &[u8], mut take: impl FnMut(PrefixKey, bool)) -> Result<()> {
    let (withdrawn, rest) = counted(body)?;
    let (_attributes, announced) = counted(rest)?;
    nlri(withdrawn, |prefix| take(prefix, true))?;
    nlri(announced, |prefix| take(prefix, false))
}

/// Splits off what a 2-octet length announces.
fn counted(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>().context("an UPDATE without its lengths")?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).context("an UPDATE shorter than it says")
}

fn nlri(mut bytes: &[u8], mut take: impl FnMut(PrefixKey)) -> Result<()> {
    while let Some((&length, rest)) = bytes.split_first() {
        let count = usize::from(length.div_ceil(8));
        ensure!(length <= 32 && count <= rest.len(), "a prefix of length {length} at the end of its message");
        let mut address = [0; 4];
        address[..count].copy_from_slice(&rest[..count]);
        take(key(u32::from_be_bytes(address), length));
        bytes = &rest[count..];
    }
    Ok(())
}
