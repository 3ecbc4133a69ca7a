//! Going out of service without loss: GRACEFUL_SHUTDOWN first (RFC 8326), withdrawal later.

use std::time::SystemTime;

use margay_net::{Instant, Now};

use super::Speaker;
use crate::config::{Drain, PeerConfig};
use crate::io::EventKind;
use crate::rib::DrainStage;
use crate::view::DrainView;

/// A drain of the whole node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draining {
    /// When it was configured first.
    configured: Now,
    config: Drain,
    withdrawn: bool,
}

impl Draining {
    fn began(&self) -> SystemTime {
        self.config.began.unwrap_or(self.configured.wall)
    }

    fn deadline(&self) -> Option<Instant> {
        // How much of the time was over before. A clock that was set back does not make it longer.
        let over = self.configured.wall.duration_since(self.began()).unwrap_or_default();
        (!self.withdrawn).then(|| self.configured.mono + self.config.withdraw_after.saturating_sub(over))
    }
}

impl Speaker {
    /// Returns how far the node is drained; None where it isn't.
    pub fn drain(&self) -> Option<DrainView> {
        let draining = self.drain?;
        Some(DrainView { began: draining.began(), withdraws: draining.deadline().map(|deadline| self.wall(deadline)) })
    }

    /// Begins, changes or ends the drain that is configured.
    pub(super) fn configure_drain(&mut self, wanted: Option<Drain>, now: Now) {
        match (&mut self.drain, wanted) {
            (Some(draining), Some(config)) if draining.config == config => return,
            (Some(draining), Some(config)) => {
                draining.config = config;
                draining.withdrawn = false;
            }
            (None, Some(config)) => {
                self.drain = Some(Draining { configured: now, config, withdrawn: false });
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
