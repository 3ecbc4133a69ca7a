//! Resets by the operator, with a peer that would take a lost connection for a restart.

use std::time::Duration;

use margay_bgp_speaker::core::PeerName;
use margay_net::Family;

use crate::support::bird::Bird;
use crate::support::peer::{Peer, PeerOptions};
use crate::support::speaker::{OurSpeaker, PEER, config};
use crate::support::{Lab, so, within};

const RESETS: u64 = 20;

/// BIRD reads the NOTIFICATION before it sees our next connection: else it would hold on to the routes, and drop the
/// connection with the text unread.
#[test]
fn bird_gets_the_text_of_each_of_twenty_resets_and_takes_none_for_a_restart() {
    // BIRD connects, too, or waits for us.
    for active in [true, false] {
        let lab = Lab::with_routes(Family::V4, 10);
        let bird = Bird::start(&lab, &PeerOptions { graceful_restart: true, active, ..PeerOptions::default() });
        let ours = OurSpeaker::start(&lab, config(&lab), false);
        for reset in 1..=RESETS {
            within(Duration::from_secs(20), "the session is up", || {
                let view = ours.peer();
                let up = view.established_count == reset && view.counts[&Family::V4].received == 10;
                so(up, || format!("reset {reset}: {view:?}"))
            });
            let text = format!("cable number {reset}");
            ours.block_on(ours.handle.reset(PeerName::from(PEER), Some(text.clone()))).unwrap();
            within(Duration::from_secs(5), "BIRD logs the text", || {
                let log = bird.log();
                so(
                    log.lines().any(|line| line.contains("Received: ") && line.ends_with(&format!("\"{text}\""))),
                    || log,
                )
            });
        }
        let log = bird.log();
        assert!(!log.contains("graceful restart detected"), "{log}");
    }
}
