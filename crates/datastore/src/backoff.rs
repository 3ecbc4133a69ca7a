use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Doubling delays with jitter: each is between half of the step and the whole of it.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    step: Duration,
    rng: SmallRng,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, step: first, rng: SmallRng::from_os_rng() }
    }

    /// Returns the next delay.
    pub(crate) fn delay(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.longest);
        step.mul_f64(self.rng.random_range(0.5..=1.0))
    }

    /// Starts over at the first step.
    pub(crate) fn reset(&mut self) {
        self.step = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_start_over_after_a_reset() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(2000));
        for step in [100, 200, 400, 800, 1600, 2000, 2000] {
            let delay = backoff.delay();
            assert!(delay >= ms(step / 2) && delay <= ms(step), "{delay:?} of {step} ms");
        }
        backoff.reset();
        assert!(backoff.delay() <= ms(100));
    }
}
