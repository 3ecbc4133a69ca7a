//! Configuration by difference.

use margay_net::{Cidr, Now};

use super::Speaker;
use super::drive::{Cause, ttls};
use super::links::own_addresses;
use super::restart::Selection;
use crate::config::{PeerConfig, PeerName, SpeakerConfig};
use crate::fsm::FsmEvent;
use crate::io::{EventKind, ListenPeer, Output};
use crate::rib::{Routing, RoutingConfig};
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
        };
        match &mut self.routing {
            Some(routing) => routing.configure(routing_config),
            None => {
                let mut routing = Routing::new(routing_config, self.options.restarting);
                routing.set_own_addresses(own_addresses(&self.links));
                routing.set_links(self.links.values());
                self.routing = Some(routing);
                let early = std::mem::take(&mut self.early_local);
                let seen = self.local_seen;
                self.local(early);
                self.local_seen = seen;
                let deferral = config.graceful_restart.unwrap_or_default().deferral_time;
                self.selection = Selection::Awaiting(now.mono + deferral);
            }
        }
        let removed: Vec<PeerName> =
            self.names.keys().filter(|name| !config.peers.contains_key(*name)).cloned().collect();
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
        self.tell_listener();
    }

    fn add_peer(&mut self, name: PeerName, config: PeerConfig, now: Now) {
        let index = self.peers.insert(Peer::new(name.clone(), config, now));
        self.names.insert(name, index);
        self.start(index, now);
    }

    fn remove_peer(&mut self, name: &PeerName, now: Now) {
        let Some(index) = self.names.get(name).copied() else { return };
        let cause = Cause::notify(Notification::cease(Cease::PeerDeconfigured), "removed from the configuration");
        self.shut(index, &cause, now);
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
            known.config = config.clone();
            if let Some(routing) = &mut self.routing {
                routing.reconfigure_peer(index, |profile| {
                    profile.import = config.import.into();
                    profile.export = config.export.into();
                    profile.allow_own_as = config.allow_own_as;
                    profile.next_hop = config.next_hop;
                });
            }
            if !config.passive && known.primary.state == FsmState::Active {
                let cause = Cause::because("configuration changed");
                self.drive(index, Slot::Primary, FsmEvent::ConnectRetryExpired, cause, now);
            }
            return;
        }
        let (reason, words) = if config.admin_up {
            (Cease::OtherConfigurationChange, "configuration changed")
        } else {
            (Cease::AdministrativeShutdown, "administratively down")
        };
        self.shut(index, &Cause::notify(Notification::cease(reason), words), now);
        self.peers[index].interface = None;
        self.peers[index].config = config;
        self.start(index, now);
    }

    fn tell_listener(&mut self) {
        let Some(config) = &self.config else { return };
        let up = config.peers.values().filter(|peer| peer.admin_up);
        let peers: Vec<ListenPeer> = up
            .map(|peer| {
                let (ttl, min_ttl) = ttls(peer, peer.is_ibgp(config.asn));
                ListenPeer { remote: Cidr::host(peer.remote), password: peer.password.clone(), ttl, min_ttl }
            })
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
        && (old.graceful_restart == new.graceful_restart || !peer.graceful_restart)
}
