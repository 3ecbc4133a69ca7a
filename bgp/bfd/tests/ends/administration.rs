//! Sessions that are taken away, and peers that take theirs.

use margay_bfd::{Diagnostic, Reason, State};

use crate::network::{Network, config, key, ms};

#[test]
fn a_session_that_is_wanted_no_longer_says_so_before_it_ends() {
    for seed in 0..20 {
        let mut network = Network::up(seed, [config(100, 3), config(100, 3)]);
        network.configure(0, None);
        network.run(ms(5));
        let view = network.view(1);
        assert_eq!((view.state, view.remote_state), (State::Down, State::AdminDown));
        assert_eq!(view.reason, Reason::PeerAdminDown);
        assert_eq!(view.remote_diagnostic, Diagnostic::ADMINISTRATIVELY_DOWN);
        assert_eq!(view.diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
        // For a detection time at the slow pace (RFC 5880 section 6.8.16), against loss.
        network.run(ms(2500));
        let said = network.packets_of(0).filter(|sent| sent.packet.state == State::AdminDown).count();
        assert!((3..=5).contains(&said), "seed {seed}: {said}");
        network.run(ms(1000));
        assert!(network.ends[0].session(&key(0)).is_none());
        assert_eq!(network.closed, [1, 0]);
        assert_eq!(network.ends[0].poll_timeout(), None);
    }
}

#[test]
fn a_session_that_never_heard_its_peer_ends_at_once() {
    let mut network = Network::new(1);
    network.configure(0, Some(config(100, 3)));
    network.run(ms(3000));
    network.configure(0, None);
    network.run(ms(1));
    assert_eq!(network.closed, [1, 0]);
}

#[test]
fn a_session_that_is_wanted_again_while_it_leaves_comes_back() {
    let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
    let before = network.view(0).discriminator;
    network.configure(0, None);
    network.run(ms(500));
    network.configure(0, Some(config(100, 3)));
    network.run_until(0, State::Up, ms(3000));
    network.run(ms(10_000));
    let view = network.view(0);
    assert_eq!((view.state, view.discriminator), (State::Up, before));
    assert_eq!(network.closed, [0, 0]);
}

#[test]
fn packets_for_a_session_that_leaves_are_discarded() {
    let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
    network.configure(0, None);
    network.run(ms(500));
    let discarded = &network.ends[0].counters().discarded;
    assert!(discarded.get(&margay_bfd::Discard::AdminDown).is_some_and(|count| *count >= 1), "{discarded:?}");
    assert_eq!(network.view(0).state, State::AdminDown);
}

#[test]
fn an_unchanged_set_disturbs_nothing() {
    let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
    let before = network.view(0);
    for _ in 0..100 {
        network.configure(0, Some(config(100, 3)));
    }
    assert_eq!(network.view(0), before);
    assert!(network.sent.is_empty() && network.events[0].is_empty());
}
