//! Anything in any order: whatever happened, good times bring both ends up again, in agreement.

use margay_bfd::{Bfd, Options, SessionConfig, State};
use proptest::prelude::*;

use crate::network::{Network, config, ms};

#[derive(Debug, Clone)]
enum Step {
    Run(u64),
    Configure(usize, SessionConfig),
    Remove(usize),
    Cut(usize, bool),
    LoseOneIn(Option<u64>),
    Delay(u64),
    Sleep(usize, u64),
    /// As after SIGKILL.
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let configs = (10u64..1500, 10u64..1500, 1u8..8, any::<bool>());
    let configs = configs.prop_map(|(tx, rx, multiplier, passive)| SessionConfig {
        min_tx: ms(tx),
        min_rx: ms(rx),
        passive,
        ..config(0, multiplier)
    });
    prop_oneof![
        4 => (1u64..3000).prop_map(Step::Run),
        3 => (0usize..2, configs).prop_map(|(end, config)| Step::Configure(end, config)),
        1 => (0usize..2).prop_map(Step::Remove),
        2 => (0usize..2, any::<bool>()).prop_map(|(end, cut)| Step::Cut(end, cut)),
        1 => proptest::option::of(2u64..10).prop_map(Step::LoseOneIn),
        1 => (0u64..300).prop_map(Step::Delay),
        2 => (0usize..2, 1u64..2000).prop_map(|(end, span)| Step::Sleep(end, span)),
        1 => (0usize..2).prop_map(Step::Restart),
    ]
}

fn take(network: &mut Network, step: Step, seed: u64) {
    match step {
        Step::Run(span) => network.run(ms(span)),
        Step::Configure(end, config) => network.configure(end, Some(config)),
        Step::Remove(end) => network.configure(end, None),
        Step::Cut(end, cut) => network.cut[end] = cut,
        Step::LoseOneIn(n) => network.lose_one_in = n,
        Step::Delay(delay) => network.delay = ms(delay),
        Step::Sleep(end, span) => network.asleep_until[end] = Some(network.now + ms(span)),
        Step::Restart(end) => network.ends[end] = Bfd::new(Options { seed, ..Options::default() }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn after_anything_good_times_bring_both_ends_up(
        seed in 0u64..1000,
        steps in proptest::collection::vec(steps(), 1..40),
        last in (10u64..500, 10u64..500, 10u64..500, 10u64..500, 2u8..6, 2u8..6),
    ) {
        let mut network = Network::new(seed);
        for (n, step) in steps.into_iter().enumerate() {
            take(&mut network, step, seed + 5000 + n as u64);
        }
        for sent in &network.sent {
            let packet = &sent.packet;
            prop_assert!(packet.control_plane_independent && !packet.demand && packet.required_min_echo_rx == ms(0));
            prop_assert!(!(packet.poll && packet.final_), "RFC 5880 section 6.5");
            prop_assert!(packet.state == State::Up || packet.desired_min_tx >= ms(1000), "RFC 5880 section 6.8.3");
        }
        network.cut = [false, false];
        network.lose_one_in = None;
        network.asleep_until = [None, None];
        network.delay = ms(1);
        let (tx0, rx0, tx1, rx1, multiplier0, multiplier1) = last;
        network.configure(0, Some(SessionConfig { min_tx: ms(tx0), min_rx: ms(rx0), ..config(0, multiplier0) }));
        network.configure(1, Some(SessionConfig { min_tx: ms(tx1), min_rx: ms(rx1), ..config(0, multiplier1) }));
        // The longest that a dead session of the past is believed in: 7 x 1.5 s; then a handshake, and polls.
        network.run(ms(25_000));
        let (ours, theirs) = (network.view(0), network.view(1));
        prop_assert_eq!((ours.state, theirs.state), (State::Up, State::Up), "{:#?} {:#?}", ours, theirs);
        prop_assert!(!ours.polling && !theirs.polling);
        prop_assert_eq!(ours.transmit_interval, ms(tx0.max(rx1)));
        prop_assert_eq!(theirs.receive_interval, ms(tx0.max(rx1)));
        prop_assert_eq!(theirs.transmit_interval, ms(tx1.max(rx0)));
        prop_assert_eq!(ours.receive_interval, ms(tx1.max(rx0)));
        prop_assert_eq!(ours.detection_time, ms(tx1.max(rx0)) * u32::from(multiplier1));
        network.events = [Vec::new(), Vec::new()];
        network.run(ms(10_000));
        prop_assert!(network.states(0).is_empty() && network.states(1).is_empty(), "up for good");
    }
}
