//! The arithmetic of RFC 5880 sections 6.8.2 to 6.8.4 and 6.8.7.

use std::time::Duration;

use rand::Rng;

/// The fastest that a session which isn't up may say it sends (RFC 5880 section 6.8.3).
pub(crate) const SLOW: Duration = Duration::from_secs(1);

/// The interval that an end advertises as the fastest it sends at.
pub(crate) fn desired_min_tx(configured: Duration, up: bool) -> Duration {
    if up { configured } else { configured.max(SLOW) }
}

/// The interval between two packets before jitter: the slower of what this end wants and what the other bears.
pub(crate) fn agreed(sender_desires: Duration, receiver_requires: Duration) -> Duration {
    sender_desires.max(receiver_requires)
}

/// How long the peer may be silent: its own multiplier times its agreed interval (RFC 5880 section 6.8.4).
pub(crate) fn detection_time(remote_multiplier: u8, agreed: Duration) -> Duration {
    agreed.saturating_mul(remote_multiplier.into())
}

/// Shortens an interval at random to 75 to 100 %, with a multiplier of 1 to 75 to 90 %, so that a lone packet isn't
/// later than the detection time (RFC 5880 section 6.8.7).
pub(crate) fn jittered(interval: Duration, multiplier: u8, rng: &mut impl Rng) -> Duration {
    let longest = if multiplier == 1 { 90 } else { 100 };
    let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX / 100);
    let (from, to) = (micros * 75 / 100, micros * longest / 100);
    Duration::from_micros(rng.random_range(from..=to.max(from)))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn a_session_that_is_not_up_says_a_second_or_more() {
        let ms = Duration::from_millis;
        assert_eq!(desired_min_tx(ms(100), false), ms(1000));
        assert_eq!(desired_min_tx(ms(3000), false), ms(3000));
        assert_eq!(desired_min_tx(ms(100), true), ms(100));
    }

    #[test]
    fn the_slower_wish_wins_and_the_senders_multiplier_counts() {
        let ms = Duration::from_millis;
        assert_eq!(agreed(ms(100), ms(300)), ms(300));
        assert_eq!(agreed(ms(300), ms(100)), ms(300));
        assert_eq!(detection_time(5, ms(300)), ms(1500));
        assert_eq!(detection_time(255, Duration::from_micros(u32::MAX.into())).as_secs(), 1_095_216);
    }

    #[test]
    fn jitter_keeps_between_its_bounds_and_uses_all_of_the_room() {
        let mut rng = SmallRng::seed_from_u64(1);
        for (multiplier, longest) in [(1u8, 90), (2, 100), (3, 100)] {
            let drawn: Vec<u128> =
                (0..2000).map(|_| jittered(Duration::from_millis(100), multiplier, &mut rng).as_millis()).collect();
            let (least, most) = (drawn.iter().min().copied(), drawn.iter().max().copied());
            assert_eq!(least, Some(75), "multiplier {multiplier}");
            assert!(most.is_some_and(|most| most <= longest && most >= longest - 1), "{most:?}");
        }
        assert_eq!(jittered(Duration::from_micros(1), 3, &mut rng).as_micros() / 2, 0);
    }
}
