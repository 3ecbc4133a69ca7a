use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::Netns;

const INTERVAL: Duration = Duration::from_millis(10);
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Datagrams with sequence numbers to an echo server, 100 per second in each of several flows that differ in their
/// source port, so that they spread over all equal paths.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    flows: Vec<(JoinHandle<u64>, JoinHandle<Vec<bool>>)>,
}

/// What a [`Flow`] lost. A packet counts as lost if its echo didn't come back, so both directions are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowReport {
    /// For each flow.
    pub flows: Vec<Loss>,
}

/// The losses of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loss {
    pub sent: u64,
    pub lost: u64,
    /// Packets lost in the longest run of losses.
    pub longest_run: u64,
}

impl Loss {
    fn of(answered: &[bool]) -> Loss {
        let mut loss = Loss { sent: answered.len() as u64, ..Loss::default() };
        let mut run = 0;
        for &answered in answered {
            run = if answered { 0 } else { run + 1 };
            loss.lost += u64::from(!answered);
            loss.longest_run = loss.longest_run.max(run);
        }
        loss
    }

    /// How long the longest run of losses took.
    pub fn longest_outage(&self) -> Duration {
        INTERVAL * u32::try_from(self.longest_run).unwrap_or(u32::MAX)
    }
}

impl FlowReport {
    /// Packets sent, in all flows.
    pub fn sent(&self) -> u64 {
        self.flows.iter().map(|loss| loss.sent).sum()
    }

    /// Packets lost, in all flows.
    pub fn lost(&self) -> u64 {
        self.flows.iter().map(|loss| loss.lost).sum()
    }

    /// The flow that lost most.
    pub fn worst(&self) -> Loss {
        self.flows.iter().copied().max_by_key(|loss| (loss.lost, loss.longest_run)).unwrap_or_default()
    }

    /// The longest outage of any flow.
    pub fn longest_outage(&self) -> Duration {
        self.flows.iter().map(Loss::longest_outage).max().unwrap_or_default()
    }
}

impl fmt::Display for FlowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (flows, worst) = (self.flows.len(), self.worst());
        write!(f, "{} packets in {flows} flows at 100/s: {} lost", self.sent(), self.lost())?;
        if self.lost() > 0 {
            let outage = self.longest_outage().as_millis();
            write!(f, "; the worst flow lost {} of {}, longest outage {outage} ms", worst.lost, worst.sent)?;
        }
        Ok(())
    }
}

impl Flow {
    /// Starts `count` flows from a namespace to an echo server, and returns when each has had its first answer.
    pub fn start(from: &Netns, to: SocketAddr, count: usize) -> Result<Flow> {
        let mut flow = Flow { stop: Arc::new(AtomicBool::new(false)), flows: Vec::new() };
        for _ in 0..count {
            let socket = from.enter(|| open(to))?;
            first_answer(&socket, to)?;
            let receiver = socket.try_clone()?;
            let stop = Arc::clone(&flow.stop);
            let sender = std::thread::spawn(move || send(&socket, to, &stop));
            let stop = Arc::clone(&flow.stop);
            let receiver = std::thread::spawn(move || receive(&receiver, &stop));
            flow.flows.push((sender, receiver));
        }
        Ok(flow)
    }

    /// Stops sending, waits for the last answers and counts.
    pub fn finish(self) -> Result<FlowReport> {
        self.stop.store(true, Ordering::Release);
        let mut flows = Vec::new();
        for (sender, receiver) in self.flows {
            let sent = sender.join().map_err(|_| anyhow!("the sender of a flow panicked"))?;
            let mut answered = receiver.join().map_err(|_| anyhow!("the receiver of a flow panicked"))?;
            answered.resize(usize::try_from(sent)?, false);
            flows.push(Loss::of(&answered));
        }
        Ok(FlowReport { flows })
    }
}

fn open(to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).context("bind a UDP socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

fn first_answer(socket: &UdpSocket, to: SocketAddr) -> Result<()> {
    let mut buffer = [0; 16];
    crate::until(Duration::from_secs(5), &format!("{to} answers the flow's first packet"), || {
        socket.send_to(&u64::MAX.to_be_bytes(), to)?;
        Ok(socket.recv_from(&mut buffer)?)
    })?;
    Ok(())
}

/// Sends until told to stop; how many were sent. A packet that the kernel refuses counts: it is lost.
fn send(socket: &UdpSocket, to: SocketAddr, stop: &AtomicBool) -> u64 {
    let start = Instant::now();
    let mut sequence = 0_u64;
    while !stop.load(Ordering::Acquire) {
        let due = start + INTERVAL * u32::try_from(sequence).unwrap_or(u32::MAX);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let _ = socket.send_to(&sequence.to_be_bytes(), to);
        sequence += 1;
    }
    sequence
}

/// Marks what was answered, by sequence number, until [`LAST_ANSWERS`] after the stop.
fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Vec<bool> {
    let mut answered = Vec::new();
    let mut buffer = [0; 16];
    let mut end = None;
    loop {
        if let Ok((8, _)) = socket.recv_from(&mut buffer) {
            let mut number = [0; 8];
            number.copy_from_slice(&buffer[..8]);
            // The first answers, to packets from before the count, bear a number of their own.
            if let Ok(index) = usize::try_from(u64::from_be_bytes(number))
                && index != usize::MAX
            {
                if answered.len() <= index {
                    answered.resize(index + 1, false);
                }
                answered[index] = true;
            }
        }
        if stop.load(Ordering::Acquire) && Instant::now() >= *end.get_or_insert_with(|| Instant::now() + LAST_ANSWERS) {
            return answered;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_run_of_losses_is_the_outage() {
        let loss = Loss::of(&[true, false, true, false, false, false, true, false]);
        assert_eq!(loss, Loss { sent: 8, lost: 5, longest_run: 3 });
        assert_eq!(loss.longest_outage(), Duration::from_millis(30));
        assert_eq!(Loss::of(&[]).longest_outage(), Duration::ZERO);
    }
}
