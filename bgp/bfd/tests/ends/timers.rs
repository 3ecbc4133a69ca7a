//! Negotiation: slow start, poll sequences, changed intervals (RFC 5880 sections 6.8.2 to 6.8.4).

use margay_bfd::{Change, ControlPacket, SessionConfig, State};

use crate::network::{Network, config, ms};

#[test]
fn a_session_that_is_not_up_sends_once_a_second_and_says_so() {
    let mut network = Network::new(1);
    network.configure(0, Some(config(50, 3)));
    network.run(ms(30_000));
    let sent: Vec<_> = network.packets_of(0).collect();
    assert!((30..=41).contains(&sent.len()), "{} packets in 30 s", sent.len());
    assert!(sent.iter().all(|sent| sent.packet.desired_min_tx == ms(1000) && sent.packet.state == State::Down));
    assert!(sent.iter().all(|sent| sent.packet.required_min_rx == ms(50) && !sent.packet.poll));
}

#[test]
fn each_direction_has_the_slower_wish_and_the_senders_multiplier() {
    let ours = SessionConfig { min_tx: ms(50), min_rx: ms(200), ..config(0, 4) };
    let theirs = SessionConfig { min_tx: ms(100), min_rx: ms(300), ..config(0, 5) };
    let network = Network::up(1, [ours, theirs]);
    let (ours, theirs) = (network.view(0), network.view(1));
    assert_eq!((ours.transmit_interval, ours.receive_interval, ours.detection_time), (ms(300), ms(200), ms(1000)));
    assert_eq!((theirs.transmit_interval, theirs.receive_interval), (ms(200), ms(300)));
    assert_eq!(theirs.detection_time, ms(1200));
}

#[test]
fn coming_up_polls_for_the_faster_interval_until_it_is_answered() {
    let mut network = Network::new(4);
    network.configure(0, Some(config(100, 3)));
    network.configure(1, Some(config(100, 3)));
    network.run_until(0, State::Up, ms(3000));
    assert!(network.view(0).polling);
    network.run(ms(2000));
    assert!(!network.view(0).polling);
    for end in 0..2 {
        let polls = network.packets_of(end).filter(|sent| sent.packet.poll).count();
        assert!(polls >= 1);
        assert!(network.packets_of(1 - end).filter(|sent| sent.packet.final_).count() >= polls);
    }
    assert!(network.sent.iter().all(|sent| !(sent.packet.poll && sent.packet.final_)));
}

#[test]
fn any_change_of_intervals_keeps_the_session_up() {
    let steps = [(100, 3), (500, 3), (50, 3), (1000, 2), (100, 5), (20, 3), (300, 3)];
    for seed in 0..30 {
        let mut network = Network::up(seed, [config(100, 3), config(100, 3)]);
        for (n, (interval, multiplier)) in steps.into_iter().enumerate() {
            network.configure(n % 2, Some(config(interval, multiplier)));
            network.run(ms(3000));
            let view = network.view(n % 2);
            assert!(!view.polling, "seed {seed}, step {n}");
        }
        assert!(network.states(0).is_empty() && network.states(1).is_empty(), "seed {seed}");
        let (ours, theirs) = (network.view(0), network.view(1));
        assert_eq!(ours.receive_interval, theirs.transmit_interval);
        assert_eq!(theirs.receive_interval, ours.transmit_interval);
        assert_eq!(ours.transmit_interval, ms(300), "the last step is the first end's");
        assert_eq!(ours.detection_time, ms(3 * 300));
    }
}

#[test]
fn changes_faster_than_their_answers_end_at_the_last() {
    for seed in 0..30 {
        let mut network = Network::up(seed, [config(100, 3), config(100, 3)]);
        network.delay = ms(40);
        for interval in [400, 50, 700, 20, 900, 60, 250] {
            network.configure(0, Some(config(interval, 3)));
            network.run(ms(30));
        }
        network.run(ms(5000));
        let view = network.view(0);
        assert_eq!((view.transmit_interval, view.polling), (ms(250), false), "seed {seed}");
        assert_eq!(network.view(1).detection_time, ms(750));
        assert!(network.states(0).is_empty() && network.states(1).is_empty(), "seed {seed}");
    }
}

#[test]
fn a_slower_pace_waits_for_the_peers_answer_and_a_faster_one_does_not() {
    let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
    // The poll's answer is lost.
    network.cut[1] = true;
    network.configure(0, Some(SessionConfig { min_tx: ms(1000), ..config(100, 3) }));
    assert_eq!(network.view(0).transmit_interval, ms(100), "the peer doesn't know yet");
    network.run(ms(100));
    assert_eq!(network.view(0).transmit_interval, ms(100));
    network.cut[1] = false;
    network.run(ms(300));
    assert_eq!((network.view(0).transmit_interval, network.view(0).polling), (ms(1000), false));

    network.configure(0, Some(config(50, 3)));
    let view = network.view(0);
    assert_eq!(view.transmit_interval, ms(100), "the peer takes no more than one in 100 ms");
    network.configure(1, Some(config(50, 3)));
    network.run(ms(10));
    assert_eq!(network.view(0).transmit_interval, ms(50), "a faster pace holds at once");
}

#[test]
fn hearing_faster_waits_for_the_peers_answer() {
    let mut network = Network::up(1, [config(500, 3), SessionConfig { min_tx: ms(50), ..config(500, 3) }]);
    assert_eq!(network.view(0).detection_time, ms(1500));
    network.cut[1] = true;
    network.configure(0, Some(SessionConfig { min_rx: ms(50), ..config(500, 3) }));
    network.run(ms(100));
    assert_eq!(network.view(0).detection_time, ms(1500), "the peer may not know yet");
    network.cut[1] = false;
    network.run(ms(1500));
    assert_eq!(network.view(0).detection_time, ms(150));
    let timers = network.events[0].iter().filter(|(_, event)| event.change == Change::Timers);
    assert!(timers.count() >= 1, "the user of the session is told");
}

#[test]
fn a_poll_is_answered_at_once_and_once() {
    let mut network = Network::up(1, [config(1000, 3), config(1000, 3)]);
    let mut packet = network.packets_of(1).last().map(|sent| sent.packet).unwrap_or_else(|| {
        network.run(ms(1500));
        network.packets_of(1).last().unwrap().packet
    });
    packet.poll = true;
    network.sent.clear();
    network.deliver(0, &packet.encode());
    let answers: Vec<ControlPacket> = network.sent.iter().map(|sent| sent.packet).collect();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].final_ && !answers[0].poll);
}
