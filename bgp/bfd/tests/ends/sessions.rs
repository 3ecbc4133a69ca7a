//! Coming up, and noticing silence.

use margay_bfd::{Change, Diagnostic, Reason, State};

use crate::network::{Network, config, ms};

#[test]
fn two_ends_come_up_by_the_handshake_and_then_fall_to_the_negotiated_pace() {
    for seed in 0..50 {
        let mut network = Network::new(seed);
        network.configure(0, Some(config(100, 3)));
        network.configure(1, Some(config(100, 3)));
        network.run_until(0, State::Up, ms(3000));
        network.run_until(1, State::Up, ms(3000));
        network.run(ms(500));
        for end in 0..2 {
            let view = network.view(end);
            assert_eq!((view.transmit_interval, view.detection_time), (ms(100), ms(300)), "seed {seed}");
            assert_eq!((view.remote_state, view.remote_multiplier), (State::Up, 3));
            assert_eq!((view.reason, view.diagnostic), (Reason::Established, Diagnostic::NONE));
            assert!(view.control_plane_independent, "the C bit is always set");
            let first_states: Vec<State> = network.states(end);
            assert!(matches!(first_states[..], [State::Init, State::Up] | [State::Up]), "{first_states:?}");
        }
        let (ours, theirs) = (network.view(0), network.view(1));
        assert_eq!(ours.remote_discriminator, Some(theirs.discriminator));
        assert_eq!(theirs.remote_discriminator, Some(ours.discriminator));
    }
}

#[test]
fn silence_is_noticed_after_the_detection_time_and_the_other_end_is_told() {
    for seed in 0..50 {
        let mut network = Network::up(seed, [config(100, 3), config(100, 3)]);
        network.cut[1] = true;
        let took = network.run_until(0, State::Down, ms(1000));
        assert!(took >= ms(200) && took <= ms(302), "seed {seed}: {took:?}");
        let view = network.view(0);
        assert_eq!(view.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
        let Reason::DetectionExpired { silence, late } = view.reason else { panic!("{:?}", view.reason) };
        assert_eq!((silence, late), (ms(300), ms(0)));
        assert_eq!(view.remote_discriminator, None, "RFC 5880 section 6.8.1: forgotten after a detection time");
        assert!(view.control_plane_independent, "what the peer said of its C bit decides on graceful restart");
        let told = network.run_until(1, State::Down, ms(10));
        assert!(told <= ms(2), "a change of state isn't kept for the next period: {told:?}");
        let view = network.view(1);
        assert_eq!(view.diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
        let reason = Reason::PeerDown { diagnostic: Diagnostic::DETECTION_TIME_EXPIRED, late: ms(0) };
        assert_eq!(view.reason, reason);
        assert_eq!(view.flaps, 1);
    }
}

#[test]
fn a_session_comes_back_when_the_cable_does() {
    let mut network = Network::up(7, [config(100, 3), config(100, 3)]);
    network.cut = [true, true];
    network.run(ms(5000));
    assert_eq!([network.view(0).state, network.view(1).state], [State::Down, State::Down]);
    network.cut = [false, false];
    network.run_until(0, State::Up, ms(3000));
    network.run_until(1, State::Up, ms(3000));
    network.run(ms(500));
    assert_eq!(network.view(0).detection_time, ms(300));
}

#[test]
fn lost_packets_short_of_the_multiplier_disturb_nothing() {
    for seed in 0..50 {
        let mut network = Network::up(seed, [config(100, 3), config(100, 3)]);
        for cut in 0..20 {
            let end = cut % 2;
            network.cut[end] = true;
            network.run(ms(150));
            network.cut[end] = false;
            network.run(ms(400));
        }
        assert!(network.states(0).is_empty() && network.states(1).is_empty(), "seed {seed}");
    }
}

#[test]
fn a_cable_that_loses_one_in_five_gets_a_session_up_nevertheless() {
    for seed in 0..50 {
        let mut network = Network::new(seed);
        network.lose_one_in = Some(5);
        network.configure(0, Some(config(100, 5)));
        network.configure(1, Some(config(100, 5)));
        network.run(ms(15_000));
        let up = |(_, event): &(_, margay_bfd::Event)| event.session.state == State::Up;
        assert!(network.events[0].iter().any(up) && network.events[1].iter().any(up), "seed {seed}");
    }
}

#[test]
fn a_peer_that_starts_anew_is_found_again() {
    let mut network = Network::up(3, [config(100, 3), config(100, 3)]);
    // As after SIGKILL: another process with other discriminators.
    network.ends[1] = margay_bfd::Bfd::new(margay_bfd::Options { seed: 99, ..Default::default() });
    network.configure(1, Some(config(100, 3)));
    network.run_until(0, State::Down, ms(1000));
    network.run_until(0, State::Up, ms(5000));
    network.run_until(1, State::Up, ms(5000));
    assert_eq!(network.view(0).remote_discriminator, Some(network.view(1).discriminator));
}

#[test]
fn packets_do_not_come_in_step() {
    let mut network = Network::up(5, [config(100, 3), config(100, 1)]);
    network.run(ms(20_000));
    for (end, longest) in [(0, 100), (1, 90)] {
        let times: Vec<_> = network.packets_of(end).map(|sent| sent.at).collect();
        let gaps: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert!(gaps.iter().all(|gap| *gap >= ms(75) && *gap <= ms(longest)), "{gaps:?}");
        assert!(gaps.iter().any(|gap| *gap < ms(80)) && gaps.iter().any(|gap| *gap > ms(longest - 5)));
    }
}

#[test]
fn the_passive_end_waits_for_the_first_packet() {
    let mut network = Network::new(1);
    let passive = margay_bfd::SessionConfig { passive: true, ..config(100, 3) };
    network.configure(0, Some(passive.clone()));
    network.run(ms(5000));
    assert_eq!(network.packets_of(0).count(), 0);
    network.configure(1, Some(config(100, 3)));
    network.run_until(0, State::Up, ms(3000));
    network.run_until(1, State::Up, ms(1000));

    let mut both = Network::new(1);
    both.configure(0, Some(passive.clone()));
    both.configure(1, Some(passive));
    both.run(ms(5000));
    assert!(both.sent.is_empty());
}

#[test]
fn every_change_is_told_with_what_it_came_from() {
    let mut network = Network::up(2, [config(100, 3), config(100, 3)]);
    network.cut[1] = true;
    network.run(ms(1000));
    let (_, event) = &network.events[0][0];
    assert_eq!(event.change, Change::State { from: State::Up });
    assert_eq!(network.ends[0].counters().state_changes, network.states(0).len() as u64 + 2);
}
