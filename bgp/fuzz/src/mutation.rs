use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Numbers at which decoders tend to be wrong.
const ODD: [u8; 10] = [0, 1, 2, 4, 16, 32, 127, 128, 254, 255];
/// No mutation is longer.
const LONGEST: usize = 4096;

/// Changes octets at random, the same ones for the same seed.
#[derive(Debug)]
pub struct Mutator {
    rng: SmallRng,
}

impl Mutator {
    /// Makes a mutator.
    pub fn new(seed: u64) -> Mutator {
        Mutator { rng: SmallRng::seed_from_u64(seed) }
    }

    /// Chooses one of `inputs`, which must not be empty, and changes it in one to eight places.
    pub fn mutate(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut octets = inputs[self.rng.random_range(0..inputs.len())].clone();
        for _ in 0..self.rng.random_range(1..=8) {
            self.change(&mut octets, inputs);
        }
        octets.truncate(LONGEST);
        octets
    }

    fn change(&mut self, octets: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let place = self.rng.random_range(0..=octets.len());
        let end = (place + self.rng.random_range(1..=16)).min(octets.len());
        match self.rng.random_range(0..7) {
            0 if place < octets.len() => octets[place] ^= 1 << self.rng.random_range(0..8),
            1 if place < octets.len() => octets[place] = ODD[self.rng.random_range(0..ODD.len())],
            2 if place < octets.len() => {
                let step = if self.rng.random() { 1 } else { 255 };
                octets[place] = octets[place].wrapping_add(step);
            }
            3 => octets.insert(place, self.rng.random()),
            4 => drop(octets.drain(place..end)),
            5 => {
                let again = octets[place..end].to_vec();
                octets.splice(place..place, again);
            }
            _ => {
                // The rest of another input.
                let other = &inputs[self.rng.random_range(0..inputs.len())];
                octets.truncate(place);
                octets.extend_from_slice(&other[place.min(other.len())..]);
            }
        }
    }
}
