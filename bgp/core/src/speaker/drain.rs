//! Going out of service without loss: GRACEFUL_SHUTDOWN first (RFC 8326), withdrawal later.

use margay_net::{Instant, Now};

use super::Speaker;
use crate::config::{Drain, PeerConfig};
use crate::io::EventKind;
use crate::rib::DrainStage;

/// A drain of the whole node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draining {
    began: Instant,
    config: Drain,
    withdrawn: bool,
}

impl Draining {
    fn deadline(&self) -> Option<Instant> {
        (!self.withdrawn).then(|| self.began + self.config.withdraw_after)
    }
}

impl Speaker {
    /// Begins, changes or ends the drain that is configured.
    pub(super) fn configure_drain(&mut self, wanted: Option<Drain>, now: Now) {
        match (&mut self.drain, wanted) {
            (Some(draining), Some(config)) if draining.config == config => return,
            (Some(draining), Some(config)) => {
                draining.config = config;
                draining.withdrawn = false;
            }
            (None, Some(config)) => {
                self.drain = Some(Draining { began: now.mono, config, withdrawn: false });
                let words = "routes are announced with GRACEFUL_SHUTDOWN";
                self.event(None, EventKind::Drain(words.to_owned()));
            }
            (Some(_), None) => {
                self.drain = None;
                self.event(None, EventKind::Drain("ended".to_owned()));
            }
            (None, None) => return,
        }
        self.drain_timeout(now);
        self.apply_drain();
    }

    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        self.drain.and_then(|draining| draining.deadline())
    }

    /// Withdraws all routes when it is time.
    pub(super) fn drain_timeout(&mut self, now: Now) {
        if let Some(draining) = &mut self.drain
            && draining.deadline().is_some_and(|deadline| deadline <= now.mono)
        {
            draining.withdrawn = true;
            self.event(None, EventKind::Drain("all routes are withdrawn".to_owned()));
            self.apply_drain();
        }
    }

    /// Returns how far a peer with these settings is drained.
    pub(super) fn drain_stage(&self, config: &PeerConfig) -> DrainStage {
        match self.drain {
            Some(draining) if draining.withdrawn => DrainStage::Withdrawn,
            None if !config.graceful_shutdown => DrainStage::None,
            _ => DrainStage::GracefulShutdown,
        }
    }

    fn apply_drain(&mut self) {
        for peer in self.indexes() {
            let stage = self.drain_stage(&self.peers[peer].config);
            if let Some(routing) = &mut self.routing {
                routing.set_drain(peer, stage);
            }
        }
    }
}
