//! Configuration by difference.

use margay_net::{Cidr, Now};

use super::drive::{Cause, ttls};
use super::restart::Selection;
use super::{Speaker, cease};
use crate::config::{PeerConfig, PeerName, SpeakerConfig};
use crate::fsm::FsmEvent;
use crate::io::{EventKind, ListenPeer, Output};
use crate::rib::{Connected, Routing, RoutingConfig};
use crate::session::{Peer, Slot};
use crate::view::FsmState;
use crate::wire::{Cease, Notification};

impl Speaker {
    pub(super) fn configure(&mut self, config: SpeakerConfig, now: Now) {
        if let Err(error) = config.validate() {
            self.event(None, EventKind::ConfigRefused(error.to_string()));
            return;
        }
        let old = self.config.replace(config.clone());
        let routing_config = RoutingConfig {
            asn: config.asn,
            router_id: config.router_id,
            cluster_id: config.cluster_id.unwrap_or(config.router_id),
            multipath: config.multipath,
            decision: config.decision,
        };
        match &mut self.routing {
            Some(routing) => routing.configure(routing_config),
            None => {
                let mut routing = Routing::new(routing_config, self.options.restarting);
                routing.set_connected(Connected::of(self.links.values()));
                if let Some(owners) = self.early_owners.take() {
                    routing.set_ownership(owners);
                }
                self.routing = Some(routing);
                let early = std::mem::take(&mut self.early_local);
                let seen = self.local_seen;
                self.local(early);
                self.local_seen = seen;
                let deferral = config.graceful_restart.unwrap_or_default().deferral_time;
                self.selection = Selection::begin(now.mono, deferral);
            }
        }
        self.configure_drain(config.drain, now);
        self.configure_dynamic(old.as_ref(), &config, now);
        let gone = |(name, peer): &(&PeerName, &usize)| {
            self.peers[**peer].range.is_none() && !config.peers.contains_key(*name)
        };
        let removed: Vec<PeerName> = self.names.iter().filter(gone).map(|(name, _)| name.clone()).collect();
        for name in removed {
            self.remove_peer(&name, now);
        }
        for (name, peer) in config.peers.clone() {
            match self.names.get(&name) {
                Some(&index) => {
                    let shared = old.as_ref().is_some_and(|old| shares_sessions(old, &config, &peer));
                    self.change_peer(index, peer, shared, now);
                }
                None => self.add_peer(name, peer, now),
            }
        }
        self.bfd_changed = true;
        self.tell_listener();
    }

    /// Changes the peers that were made from ranges as their ranges have changed.
    fn configure_dynamic(&mut self, old: Option<&SpeakerConfig>, config: &SpeakerConfig, now: Now) {
        for peer in self.indexes().into_iter().filter(|&peer| self.peers[peer].range.is_some()).collect::<Vec<_>>() {
            match self.dynamic_config(peer, config) {
                Some(wanted) => {
                    let shared = old.is_some_and(|old| shares_sessions(old, config, &wanted));
                    self.change_peer(peer, wanted, shared, now);
                }
                None => {
                    let name = self.peers[peer].name.clone();
                    self.remove_peer(&name, now);
                }
            }
        }
    }

    fn add_peer(&mut self, name: PeerName, config: PeerConfig, now: Now) {
        let index = self.peers.insert(Peer::new(name.clone(), config, now));
        self.names.insert(name, index);
        self.start(index, now);
    }

    pub(super) fn remove_peer(&mut self, name: &PeerName, now: Now) {
        let Some(index) = self.names.get(name).copied() else { return };
        let cause = Cause::hard(Notification::cease(Cease::PeerDeconfigured), "removed from the configuration");
        self.shut(index, &cause, now);
        self.unschedule(index);
        self.bfd_changed = true;
        self.names.remove(name);
        self.peers.remove(index);
        if let Some(routing) = &mut self.routing {
            routing.forget_peer(index);
        }
    }

    /// `shared`: what the speaker's own settings give the session is unchanged.
    fn change_peer(&mut self, index: usize, config: PeerConfig, shared: bool, now: Now) {
        let known = &mut self.peers[index];
        if shared && known.config == config {
            return;
        }
        if shared && known.config.same_session(&config) {
            return self.change_live(index, config, now);
        }
        let same_peer = known.config.same_peer(&config);
        let cause = if !config.admin_up {
            let text = config.description.as_deref().map_or("shut down by configuration".to_owned(), |description| {
                format!("shut down by configuration ({description})")
            });
            Cause::hard(cease(Cease::AdministrativeShutdown, Some(&text)), "administratively down")
        } else {
            let cease = Notification::cease(Cease::OtherConfigurationChange);
            let restarts = shared || self.config.as_ref().is_some_and(|config| config.graceful_restart.is_some());
            Cause { flush: !(same_peer && restarts), ..Cause::notify(cease, "configuration changed") }
        };
        let had_session = self.peers[index].is_established();
        self.shut(index, &cause, now);
        self.end_hold(index, "configuration changed");
        let known = &mut self.peers[index];
        known.interface = None;
        known.local = None;
        known.config = config;
        if had_session {
            self.start_soon(index, now);
        } else {
            self.start(index, now);
        }
    }

    /// Applies what needs no new session.
    fn change_live(&mut self, index: usize, config: PeerConfig, now: Now) {
        let known = &mut self.peers[index];
        let limits_changed = known.config.max_prefixes != config.max_prefixes;
        let drain_changed = known.config.graceful_shutdown != config.graceful_shutdown;
        known.config = config.clone();
        if let Some(agreed) = &mut known.primary.negotiated {
            agreed.keepalive = crate::session::keepalive(agreed.hold_time, config.keepalive);
        }
        if limits_changed {
            known.warned.clear();
            known.exceeded.clear();
            if known.hold.is_some() {
                self.end_hold(index, "its limits changed");
                self.start(index, now);
            }
            self.check_limits(index, now);
        }
        let known = &self.peers[index];
        if !config.passive && known.hold.is_none() && known.primary.state == FsmState::Active {
            let cause = Cause::because("configuration changed");
            self.drive(index, Slot::Primary, FsmEvent::ConnectRetryExpired, cause, now);
        }
        if drain_changed {
            let words = if config.graceful_shutdown { "routes are announced with GRACEFUL_SHUTDOWN" } else { "ended" };
            self.event(Some(index), EventKind::Drain(words.to_owned()));
        }
        let drain = self.drain_stage(&config);
        if let Some(routing) = &mut self.routing {
            routing.reconfigure_peer(index, |profile| {
                profile.set_live(&config);
                profile.drain = drain;
            });
        }
    }

    fn tell_listener(&mut self) {
        let Some(config) = &self.config else { return };
        let up = config.peers.values().filter(|peer| peer.admin_up);
        let listen = |remote, peer: &PeerConfig| {
            let (ttl, min_ttl) = ttls(peer, peer.is_ibgp(config.asn));
            ListenPeer { remote, password: peer.password.clone(), ttl, min_ttl }
        };
        let ranges = config.listen_ranges.values().filter(|range| range.template.admin_up && range.limit > 0);
        let peers: Vec<ListenPeer> = up
            .map(|peer| listen(Cidr::host(peer.remote), peer))
            .chain(ranges.map(|range| listen(range.prefix, &range.template)))
            .collect();
        let listening = (config.listen_port, config.listen_addresses.clone(), peers);
        if self.listening.as_ref() != Some(&listening) {
            let (port, addresses, peers) = listening.clone();
            self.listening = Some(listening);
            self.outputs.push_back(Output::Listen { port, addresses, peers });
        }
    }
}

/// Whether the speaker's own settings give a peer the same session before and after a change.
fn shares_sessions(old: &SpeakerConfig, new: &SpeakerConfig, peer: &PeerConfig) -> bool {
    old.router_id == new.router_id
        && (old.asn == new.asn || peer.local_asn.is_some())
        && (!peer.graceful_restart || restart_time(old, peer) == restart_time(new, peer))
}

/// What a peer is told of graceful restart.
fn restart_time(config: &SpeakerConfig, peer: &PeerConfig) -> Option<std::time::Duration> {
    config.graceful_restart.map(|global| peer.restart_time.unwrap_or(global.restart_time))
}
