//! Who reaches whom, by ping and by TCP, and by which address the server sees the client.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use margay_net::Family;

use crate::traffic::{Answer, ECHO_PORT, parallel, ping, tcp};
use crate::{Lab, Netns, Node, Pod};

/// Attempts at the same time.
const WORKERS: usize = 16;
/// The same where every attempt is expected to wait for its time limit.
const PATIENT_WORKERS: usize = 64;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);

/// How an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Ping,
    Tcp(u16),
}

/// One thing to try: from an end to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub from: End,
    pub to: End,
    pub by: By,
}

/// A pod or a node, with its address of the family that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub name: String,
    pub netns: Netns,
    pub address: IpAddr,
}

impl End {
    /// A pod's end.
    pub fn pod(pod: &Pod, family: Family) -> Result<End> {
        Ok(End { name: pod.key().name.clone(), netns: pod.netns.clone(), address: pod.address(family)? })
    }

    /// A node's end, at its own address.
    pub fn node(node: &Node, family: Family) -> End {
        End { name: node.name().to_owned(), netns: node.netns().clone(), address: node.spec().address(family) }
    }
}

impl Attempt {
    /// Tries once. A TCP server must see the client by the client's own address.
    fn outcome(&self, limit: Duration) -> Result<Outcome> {
        let answer = match self.by {
            By::Ping => ping(&self.from.netns, self.to.address, limit)?,
            By::Tcp(port) => tcp(&self.from.netns, SocketAddr::new(self.to.address, port), limit)?,
        };
        Ok(match answer {
            Answer::Reached(Some(seen)) if seen != self.from.address => Outcome::WrongSource(seen),
            answer => Outcome::Answer(answer),
        })
    }

    fn shown(&self) -> String {
        let by = match self.by {
            By::Ping => "ping".to_owned(),
            By::Tcp(port) => format!("TCP {port}"),
        };
        format!("{} ({}) to {} ({}) by {by}", self.from.name, self.from.address, self.to.name, self.to.address)
    }
}

enum Outcome {
    Answer(Answer),
    WrongSource(IpAddr),
}

impl Outcome {
    fn shown(&self) -> String {
        match self {
            Outcome::Answer(answer) => answer.to_string(),
            Outcome::WrongSource(seen) => format!("the server saw {seen}, not the client's own address"),
        }
    }
}

/// All ordered pairs of different pods.
pub fn pod_pairs(lab: &Lab, family: Family, by: By) -> Result<Vec<Attempt>> {
    let mut attempts = Vec::new();
    for from in lab.pods() {
        for to in lab.pods().filter(|to| to.key() != from.key()) {
            attempts.push(Attempt { from: End::pod(from, family)?, to: End::pod(to, family)?, by });
        }
    }
    Ok(attempts)
}

/// Every node to every pod, and back.
pub fn nodes_and_pods(lab: &Lab, family: Family, by: By) -> Result<Vec<Attempt>> {
    let mut attempts = Vec::new();
    for node in lab.nodes() {
        for pod in lab.pods() {
            let (node, pod) = (End::node(node, family), End::pod(pod, family)?);
            attempts.push(Attempt { from: node.clone(), to: pod.clone(), by });
            attempts.push(Attempt { from: pod, to: node, by });
        }
    }
    Ok(attempts)
}

/// Every attempt succeeds, within a limit for all of them; else the error names those that don't.
pub fn all_reach(attempts: &[Attempt], limit: Duration) -> Result<String> {
    let wanted = |outcome: &Outcome| matches!(outcome, Outcome::Answer(Answer::Reached(_)));
    settle(attempts, limit, WORKERS, "fail", wanted)?;
    Ok(format!("{} of {}", attempts.len(), attempts.len()))
}

/// No attempt succeeds, nor gets any answer, within a limit for all of them; else the error names those that do.
pub fn none_answers(attempts: &[Attempt], limit: Duration) -> Result<String> {
    let wanted = |outcome: &Outcome| matches!(outcome, Outcome::Answer(Answer::Silence));
    settle(attempts, limit, PATIENT_WORKERS, "are not met with silence", wanted)?;
    Ok(format!("silence for {} of {}", attempts.len(), attempts.len()))
}

/// Pods reach each other by ping and by TCP with their own addresses, in every family of the lab.
pub fn pods_reach_each_other(lab: &Lab, limit: Duration) -> Result<()> {
    for &family in lab.families() {
        all_reach(&pod_pairs(lab, family, By::Ping)?, limit)?;
        all_reach(&pod_pairs(lab, family, By::Tcp(ECHO_PORT))?, limit)?;
    }
    Ok(())
}

/// Repeats what isn't as wanted until it is, or the limit is over.
fn settle(
    attempts: &[Attempt],
    limit: Duration,
    workers: usize,
    what: &str,
    wanted: impl Fn(&Outcome) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut left: Vec<&Attempt> = attempts.iter().collect();
    loop {
        let outcomes = parallel(&left, workers, |attempt| attempt.outcome(Duration::from_secs(1)));
        let mut failed = Vec::new();
        for (attempt, outcome) in left.iter().zip(outcomes) {
            let outcome = outcome?;
            if !wanted(&outcome) {
                failed.push((*attempt, outcome));
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let mut told = format!("{} of {} {what}:", failed.len(), attempts.len());
            for (attempt, outcome) in &failed {
                let _ = write!(told, "\n{}: {}", attempt.shown(), outcome.shown());
            }
            bail!(told);
        }
        std::thread::sleep(BETWEEN_ROUNDS);
        left = failed.into_iter().map(|(attempt, _)| attempt).collect();
    }
}
