use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use margay_felix_core::routes::{Input, Output, RouteReconciler, RoutesConfig};
use margay_net::FromFelix;
use margay_netlink::NetlinkError;
use margay_netlink::rtnl::{AsyncMonitor, Group, Monitor};
use tokio::sync::mpsc;

use crate::barrier::{Barrier, Scope};
use crate::handle::{AgentOptions, FelixHandle, ToFelix};
use crate::kernel::Kernel;
use crate::policies::Policies;
use crate::settings::Settings;
use crate::status::FelixStatus;

/// Messages that may wait for the agent.
const QUEUE: usize = 1024;
/// Batches of kernel changes before events and messages are looked at again.
const BATCHES: usize = 2;
/// Events that are read at once.
const EVENTS: usize = 4096;
/// When a list of everything, or setting a link up, is tried again after it failed.
const RETRY: Duration = Duration::from_millis(100);

/// Starts an agent in the calling thread's network namespace. It reads the kernel's state at once, tells the speaker of
/// links, and changes nothing before [`ToFelix::InSync`].
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn spawn(options: AgentOptions, to_speaker: mpsc::Sender<FromFelix>) -> Result<FelixHandle, NetlinkError> {
    let (sender, inbox) = mpsc::channel(QUEUE);
    let kernel = Kernel::open(options.routes_only)?;
    // The subscription comes before the lists: what happens between them is then told.
    let monitor = Monitor::open(&Group::ALL)?;
    monitor.ignore_port(kernel.port())?;
    let config = RoutesConfig {
        pod_interface_prefix: options.pod_interface_prefix.clone(),
        node_addresses: options.node_addresses.iter().copied().collect(),
    };
    let mut agent = Agent {
        core: RouteReconciler::new(config),
        kernel,
        monitor: AsyncMonitor::new(monitor)?,
        policies: Policies::default(),
        settings: Settings::default(),
        speaker: to_speaker,
        unsent: None,
        in_sync: false,
        pod_prefix: options.pod_interface_prefix,
        routes_only: options.routes_only,
        endpoints: BTreeMap::new(),
        unprepared: BTreeMap::new(),
        unconfirmed: BTreeSet::new(),
        barriers: Vec::new(),
        relist: None,
        relist_at: None,
        reread: false,
        last_error: None,
        resyncs: 0,
        epoch: Instant::now(),
    };
    for input in agent.kernel.list(false)? {
        agent.feed(input);
    }
    tokio::spawn(agent.run(inbox));
    Ok(FelixHandle { sender })
}

#[derive(Debug)]
struct Agent {
    core: RouteReconciler,
    kernel: Kernel,
    monitor: AsyncMonitor,
    policies: Policies,
    settings: Settings,
    speaker: mpsc::Sender<FromFelix>,
    /// Waits for room in the speaker's queue; what comes after it waits too.
    unsent: Option<FromFelix>,
    in_sync: bool,
    pod_prefix: String,
    routes_only: bool,
    /// The known endpoints, each with the index of its link once that was made ready.
    endpoints: BTreeMap<String, Option<u32>>,
    /// Endpoints whose link could not be made ready, and why.
    unprepared: BTreeMap<String, String>,
    /// Endpoints that came since the last barrier.
    unconfirmed: BTreeSet<String>,
    barriers: Vec<Barrier>,
    /// Everything is to be listed again, with blame or without.
    relist: Option<bool>,
    relist_at: Option<Instant>,
    /// Events are known to wait.
    reread: bool,
    last_error: Option<String>,
    resyncs: u64,
    epoch: Instant,
}

impl Agent {
    async fn run(mut self, mut inbox: mpsc::Receiver<ToFelix>) {
        loop {
            while std::mem::take(&mut self.reread) {
                self.read_events();
            }
            let more = self.work();
            self.answer_barriers();
            let deadline = self.deadline();
            let speaker = self.speaker.clone();
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => {
                        // A link that somebody made before sending must be known.
                        self.read_events();
                        self.take(message);
                    }
                    None => return,
                },
                ready = self.monitor.readable() => match ready {
                    Ok(()) => self.read_events(),
                    Err(error) => self.trouble(&error.to_string()),
                },
                () = self.policies.foreign_change() => self.policies.repair(),
                permit = speaker.reserve(), if self.unsent.is_some() => {
                    // Without a speaker there is nobody to tell.
                    if let (Some(message), Ok(permit)) = (self.unsent.take(), permit) {
                        permit.send(message);
                    }
                }
                () = tokio::time::sleep_until(deadline.unwrap_or(self.epoch).into()), if deadline.is_some() => {
                    let now = self.now();
                    self.core.handle_timeout(now);
                    self.policies.retry();
                    self.policies.repair();
                }
                () = std::future::ready(()), if more => tokio::task::yield_now().await,
            }
        }
    }

    fn take(&mut self, message: ToFelix) {
        match message {
            ToFelix::InSync => {
                if !self.in_sync {
                    self.in_sync = true;
                    if !self.routes_only {
                        self.policies.start();
                        self.settings.ensure_global();
                    }
                    self.prepare_all();
                    self.feed(Input::InSync);
                }
            }
            ToFelix::Endpoint { interface, endpoint } => {
                match &endpoint {
                    Some(_) => {
                        self.endpoints.entry(interface.clone()).or_default();
                        if self.in_sync {
                            self.unconfirmed.insert(interface.clone());
                        }
                    }
                    None => {
                        self.endpoints.remove(&interface);
                        self.unprepared.remove(&interface);
                        self.unconfirmed.remove(&interface);
                    }
                }
                self.prepare(&interface);
                self.feed(Input::Endpoint { interface, endpoint });
            }
            ToFelix::OwnBlocks(blocks) => self.feed(Input::OwnBlocks(blocks)),
            ToFelix::BorrowedAddresses(addresses) => self.feed(Input::BorrowedAddresses(addresses)),
            ToFelix::NodeAddresses(addresses) => self.feed(Input::NodeAddresses(addresses.into_iter().collect())),
            ToFelix::Fib(batch) => self.feed(Input::Fib(batch)),
            ToFelix::TrackNextHops(addresses) => self.feed(Input::TrackNextHops(addresses)),
            ToFelix::Policy(changes) => self.policies.change(&changes),
            ToFelix::Barrier(reply) => {
                let scope = Scope::All { endpoints: self.unconfirmed.clone() };
                self.barriers.push(Barrier::new(scope, reply));
            }
            ToFelix::EndpointBarrier { interface, reply } => {
                self.barriers.push(Barrier::new(Scope::Endpoint(interface), reply));
            }
            ToFelix::Status(reply) => {
                // Who asked and went away doesn't need the answer.
                let _ = reply.send(self.status());
            }
        }
    }

    fn feed(&mut self, input: Input) {
        let now = self.now();
        self.core.handle_input(input, now);
    }

    /// Does what can be done now, and returns whether there is more to do at once.
    fn work(&mut self) -> bool {
        if self.policies.error().is_none() && !self.unprepared.is_empty() {
            self.prepare_all();
        }
        let is_time = self.relist_at.is_none_or(|at| at <= Instant::now());
        if let Some(blame) = self.relist.filter(|_| is_time) {
            self.list(blame);
        }
        let mut batches = 0;
        while self.unsent.is_none() && batches < BATCHES {
            let Some(output) = self.core.poll_output() else { return false };
            match output {
                Output::Speaker(message) => self.tell(message),
                Output::Kernel(ops) => {
                    batches += 1;
                    let results = match self.kernel.operate(&ops) {
                        Ok(results) => results,
                        Err(error) => {
                            self.trouble(&error.to_string());
                            self.relist = Some(self.relist.unwrap_or(false));
                            let reason = error.to_string();
                            vec![Err(margay_felix_core::routes::Refusal { reason, exists: false }); ops.len()]
                        }
                    };
                    for (op, result) in ops.iter().zip(&results) {
                        match result {
                            Ok(()) => tracing::trace!(%op, "kernel changed"),
                            Err(refusal) => self.trouble(&format!("{op}: {}", refusal.reason)),
                        }
                    }
                    self.feed(Input::Outcome(results));
                }
                Output::Inspect { interface } => match self.kernel.inspect(interface) {
                    Ok(input) => self.feed(input),
                    Err(error) => self.doubt(&error),
                },
                Output::ListHostRoutes => match self.kernel.host_routes() {
                    Ok(input) => self.feed(input),
                    Err(error) => self.doubt(&error),
                },
                Output::Resync => match self.kernel.dump(false) {
                    Ok(input) => {
                        self.resyncs += 1;
                        self.feed(input);
                    }
                    Err(error) => self.doubt(&error),
                },
            }
        }
        self.unsent.is_none()
    }

    fn tell(&mut self, message: FromFelix) {
        tracing::debug!(?message, "to the speaker");
        match self.speaker.try_send(message) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(message)) => self.unsent = Some(message),
        }
    }

    fn read_events(&mut self) {
        let mut events = Vec::new();
        if let Err(error) = self.monitor.read(&mut events, EVENTS) {
            match error {
                NetlinkError::Overrun => {
                    tracing::warn!("kernel events were lost; listing everything again");
                    self.relist = Some(true);
                }
                other => self.doubt(&other),
            }
        }
        let mut links = false;
        for event in events {
            let Some(input) = self.kernel.translate(event) else { continue };
            let changed = match &input {
                Input::Link(link) => Some(link.name.clone()),
                _ => None,
            };
            links |= changed.is_some();
            self.feed(input);
            if let Some(name) = changed {
                self.prepare(&name);
            }
        }
        if links && self.in_sync && !self.routes_only {
            self.settings.ensure_global();
        }
    }

    fn list(&mut self, blame: bool) {
        match self.kernel.list(blame) {
            Ok(inputs) => {
                self.relist = None;
                self.relist_at = None;
                self.resyncs += 1;
                for input in inputs {
                    self.feed(input);
                }
                self.prepare_all();
                if self.in_sync && !self.routes_only {
                    self.settings.ensure_global();
                }
            }
            Err(error) => {
                self.trouble(&error.to_string());
                self.relist_at = Some(Instant::now() + RETRY);
            }
        }
    }

    fn prepare_all(&mut self) {
        let names: Vec<_> = self.endpoints.keys().cloned().collect();
        names.iter().for_each(|name| self.prepare(name));
    }

    /// Makes an endpoint's link ready once: its policy first, then its settings, then it is set up. Later only the settings
    /// are looked at: who sets it down by hand means it.
    fn prepare(&mut self, name: &str) {
        if !self.in_sync || !name.starts_with(&self.pod_prefix) {
            return;
        }
        let Some(&prepared) = self.endpoints.get(name) else { return };
        if let Some(error) = self.policies.error() {
            self.unprepared.insert(name.to_owned(), format!("interface {name} waits for its policy: {error}"));
            return;
        }
        let ready = match self.kernel.link(name) {
            Ok(None) => {
                self.unprepared.remove(name);
                self.endpoints.insert(name.to_owned(), None);
                return;
            }
            Ok(Some(link)) => {
                let again = prepared == Some(link.index);
                self.settings.ensure_pod(name, again);
                if again || link.is_up() { Ok(link.index) } else { self.kernel.set_up(link.index).map(|()| link.index) }
            }
            Err(error) => Err(error),
        };
        match ready {
            Ok(index) => {
                self.unprepared.remove(name);
                let news = self.endpoints.insert(name.to_owned(), Some(index)) != Some(Some(index));
                // The link's way up is told by the kernel: it is read before anything is answered.
                self.reread |= news;
            }
            Err(error) => {
                let reason = format!("interface {name} can't be set up: {error}");
                self.trouble(&reason);
                self.unprepared.insert(name.to_owned(), reason);
            }
        }
    }

    fn answer_barriers(&mut self) {
        for barrier in std::mem::take(&mut self.barriers) {
            let Some(verdict) = barrier.verdict(self.judge(&barrier.scope)) else {
                self.barriers.push(barrier);
                continue;
            };
            if let Scope::All { endpoints } = &barrier.scope {
                self.unconfirmed.retain(|name| !endpoints.contains(name));
            }
            barrier.answer(verdict);
        }
    }

    /// Tells whether all that a barrier stands for is in the kernel, or what is not.
    fn judge(&self, scope: &Scope) -> Result<bool, String> {
        if !self.in_sync {
            return Err("nothing is programmed before the datastore's state is known".to_owned());
        }
        let mut problems: Vec<String> = self.policies.error().map(str::to_owned).into_iter().collect();
        let mut done = self.relist.is_none();
        let mut endpoint = |name: &String| match self.core.endpoint_state(name) {
            Ok(is_done) => done &= is_done,
            Err(reason) => problems.push(self.unprepared.get(name).cloned().unwrap_or(reason)),
        };
        match scope {
            Scope::Endpoint(name) => endpoint(name),
            Scope::All { endpoints } => {
                endpoints.iter().for_each(endpoint);
                done &= self.core.is_settled() && self.unsent.is_none();
                problems.extend(self.core.failures().map(str::to_owned));
            }
        }
        problems.dedup();
        if problems.is_empty() { Ok(done) } else { Err(problems.join("; ")) }
    }

    /// When something is due; in the past if it is due at once.
    fn deadline(&self) -> Option<Instant> {
        let retry = self.core.poll_timeout().map(|at| self.epoch + at.0);
        let barrier = self.barriers.iter().map(Barrier::deadline).min();
        let relist = self.relist.map(|_| self.relist_at.unwrap_or_else(Instant::now));
        let prepare = (!self.unprepared.is_empty()).then(|| Instant::now() + RETRY);
        [retry, barrier, relist, prepare, self.policies.due_at()].into_iter().flatten().min()
    }

    fn now(&self) -> margay_net::Instant {
        margay_net::Instant(self.epoch.elapsed())
    }

    fn trouble(&mut self, reason: &str) {
        if self.last_error.as_deref() != Some(reason) {
            tracing::warn!(reason, "the kernel is not as it should be");
        }
        self.last_error = Some(reason.to_owned());
    }

    /// The kernel's state could not be read: all of it has to be.
    fn doubt(&mut self, error: &NetlinkError) {
        self.trouble(&error.to_string());
        self.relist = Some(self.relist.unwrap_or(false));
        self.relist_at = Some(Instant::now() + RETRY);
    }

    fn status(&self) -> FelixStatus {
        let words = |counts: &margay_felix_core::routes::Counts| {
            counts.iter().map(|(object, count)| (object.key().to_owned(), *count)).collect::<BTreeMap<_, _>>()
        };
        let mut drift = words(self.core.drift());
        if self.policies.drift() > 0 {
            drift.insert("policy".into(), self.policies.drift());
        }
        if self.settings.drift() > 0 {
            drift.insert("sysctl".into(), self.settings.drift());
        }
        let mut failures: Vec<String> = self.core.failures().map(str::to_owned).collect();
        failures.extend(self.unprepared.values().cloned());
        FelixStatus {
            in_sync: self.in_sync,
            routes: words(&self.core.counts()),
            drift,
            announced: self.core.announced().clone(),
            failures,
            last_error: self.last_error.clone().or_else(|| self.policies.error().map(str::to_owned)),
            sysctl_problems: self.settings.problems(),
            policy_error: self.policies.error().map(str::to_owned),
            policy_elements: self.policies.elements(),
            policy_last_change_micros: u64::try_from(self.policies.last_change().as_micros()).unwrap_or(u64::MAX),
            resyncs: self.resyncs,
        }
    }
}
