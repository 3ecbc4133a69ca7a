//! A process that isn't run in time: its own lateness is no silence of the peer, and it says how late it was.

use margay_bfd::{Diagnostic, Reason, State};

use crate::network::{Network, config, ms};

#[test]
fn packets_that_wait_are_looked_at_before_a_late_detection() {
    for seed in 0..50 {
        let mut network = Network::up(seed, [config(100, 10), config(100, 3)]);
        network.asleep_until[0] = Some(network.now + ms(600));
        network.run(ms(2000));
        assert!(network.states(0).is_empty() && network.states(1).is_empty(), "seed {seed}");
        let lateness = network.ends[0].lateness();
        assert_eq!(lateness.late, 1, "seed {seed}");
        assert!(lateness.max > ms(490) && lateness.max <= ms(600), "seed {seed}: {lateness:?}");
        assert_eq!(lateness.last, lateness.max);
        assert_eq!(network.ends[1].lateness().late, 0);
    }
}

#[test]
fn a_real_silence_found_late_says_both() {
    for seed in 0..50 {
        let mut network = Network::up(seed, [config(100, 3), config(100, 3)]);
        network.cut[1] = true;
        // What is on the cable still comes.
        network.run(ms(2));
        network.asleep_until[0] = Some(network.now + ms(450));
        network.run(ms(460));
        let view = network.view(0);
        assert_eq!(view.state, State::Down);
        let Reason::DetectionExpired { silence, late } = &view.reason else { panic!("{:?}", view.reason) };
        assert!(*silence >= ms(450) && *silence <= ms(551), "seed {seed}: {silence:?}");
        assert!(*late >= ms(340) && *late <= ms(452), "seed {seed}: {late:?}");
        let said = view.reason.to_string();
        assert!(
            said.contains("detection expired") && said.ends_with(&format!("{} ms late", late.as_millis())),
            "{said}"
        );
    }
}

#[test]
fn an_end_that_was_too_late_to_send_learns_from_its_peer_that_it_was_itself() {
    let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
    network.asleep_until[0] = Some(network.now + ms(500));
    network.run(ms(520));
    assert_eq!(network.states(1)[0], State::Down);
    let view = &network.events[0][0].1.session;
    assert_eq!(view.state, State::Down);
    let Reason::PeerDown { diagnostic, late } = &view.reason else { panic!("{:?}", view.reason) };
    assert_eq!(*diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
    assert!(*late >= ms(400) && *late <= ms(500), "{late:?}");
    // The other end, that was on time, says so.
    let other = &network.events[1][0].1.session;
    assert!(other.reason.to_string().ends_with("this process itself was on time"), "{}", other.reason);
}

#[test]
fn lateness_long_ago_is_no_excuse() {
    let mut network = Network::up(1, [config(100, 10), config(100, 3)]);
    network.asleep_until[0] = Some(network.now + ms(400));
    network.run(ms(5000));
    network.cut[1] = true;
    network.run_until(0, State::Down, ms(2000));
    let Reason::DetectionExpired { late, .. } = network.view(0).reason else { panic!() };
    assert_eq!(late, ms(0));
}

#[test]
fn periods_that_were_slept_through_are_not_caught_up() {
    let mut network = Network::up(1, [config(100, 20), config(100, 3)]);
    network.run(ms(100));
    network.sent.clear();
    network.asleep_until[0] = Some(network.now + ms(1000));
    network.run(ms(1050));
    assert_eq!(network.packets_of(0).count(), 1);
}
