/// A growing set of small numbers, a bit each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    count: usize,
}

impl Bitmap {
    /// Returns the set of the numbers below `end`.
    pub(crate) fn filled(end: u32) -> Bitmap {
        let (full, rest) = (end as usize / 64, end % 64);
        let mut words = vec![u64::MAX; full];
        words.extend((rest > 0).then_some((1 << rest) - 1));
        Bitmap { words, count: end as usize }
    }

    /// Puts those of `others` in that are not in `known`.
    pub(crate) fn insert_all(&mut self, others: &Bitmap, known: &Bitmap) {
        if others.words.len() > self.words.len() {
            self.words.resize(others.words.len(), 0);
        }
        for (at, (word, &others)) in self.words.iter_mut().zip(&others.words).enumerate() {
            let new = others & !known.words.get(at).copied().unwrap_or_default() & !*word;
            *word |= new;
            self.count += new.count_ones() as usize;
        }
    }

    pub(crate) fn insert(&mut self, index: u32) {
        let (word, bit) = place(index);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            self.count += 1;
        }
    }

    pub(crate) fn remove(&mut self, index: u32) {
        let (word, bit) = place(index);
        if let Some(bits) = self.words.get_mut(word)
            && *bits & bit != 0
        {
            *bits &= !bit;
            self.count -= 1;
            if self.count == 0 {
                self.words = Vec::new();
            }
        }
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        let (word, bit) = place(index);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(|(word, &bits)| {
            let lowest_left = |bits: &u64| Some(bits & (bits - 1)).filter(|left| *left != 0);
            std::iter::successors(Some(bits), lowest_left).map(move |bits| word as u32 * 64 + bits.trailing_zeros())
        })
    }
}

/// Two sets are equal that hold the same numbers, whatever room they take.
impl PartialEq for Bitmap {
    fn eq(&self, other: &Bitmap) -> bool {
        let common = self.words.len().min(other.words.len());
        self.count == other.count && self.words[..common] == other.words[..common]
    }
}

fn place(index: u32) -> (usize, u64) {
    (index as usize / 64, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_filled_and_joined() {
        for end in [0, 1, 63, 64, 65, 128] {
            let set = Bitmap::filled(end);
            assert_eq!((set.iter().collect::<Vec<_>>(), set.count), ((0..end).collect(), end as usize));
        }
        let (mut set, mut others) = (Bitmap::filled(3), Bitmap::filled(70));
        others.insert(200);
        set.insert_all(&others, &Bitmap::filled(69));
        assert_eq!((set.iter().collect::<Vec<_>>(), set.count), (vec![0, 1, 2, 69, 200], 5));
    }

    #[test]
    fn numbers_are_kept_in_order_until_removed() {
        let mut set = Bitmap::default();
        for index in [200, 3, 64, 3] {
            set.insert(index);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 64, 200]);
        set.remove(64);
        set.remove(65);
        assert!(set.contains(3) && !set.contains(64) && !set.contains(100_000));
        let mut other = Bitmap::default();
        other.insert(3);
        assert_ne!(set, other);
        other.insert(200);
        assert_eq!(set, other);
        other.remove(3);
        other.remove(200);
        assert!(other.is_empty() && other.iter().next().is_none());
    }
}
