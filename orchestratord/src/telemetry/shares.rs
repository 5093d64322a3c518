//! Shares of what was served lately: moved by ended tasks, and still without them.

use std::collections::BTreeMap;

/// By how much an ended task counts more than the one before it, so that about the last hundred
/// matter.
const GROWTH: f64 = 1.01;
/// Past this the sums are scaled back; only their proportions mean something.
const SCALE_MAX: f64 = 1e100;

/// Exponentially fading sums by key.
#[derive(Debug)]
pub(super) struct Fading<K> {
    sums: BTreeMap<K, f64>,
    /// What one unit counts now.
    scale: f64,
}

impl<K> Default for Fading<K> {
    fn default() -> Self {
        Self { sums: BTreeMap::new(), scale: 1.0 }
    }
}

impl<K: Ord + Clone> Fading<K> {
    pub(super) fn add(&mut self, key: &K, amount: f64) {
        self.scale *= GROWTH;
        let added = amount * self.scale;
        match self.sums.get_mut(key) {
            Some(sum) => *sum += added,
            None => {
                self.sums.insert(key.clone(), added);
            }
        }
        if SCALE_MAX < self.scale {
            self.sums.values_mut().for_each(|it| *it /= self.scale);
            self.scale = 1.0;
        }
    }

    /// Each key's part of all sums; empty while they are zero.
    pub(super) fn shares(&self) -> impl Iterator<Item = (&K, f64)> {
        let all: f64 = self.sums.values().sum();
        self.sums.iter().filter(move |_| 0.0 < all).map(move |(key, sum)| (key, sum / all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(fading: &Fading<&'static str>, key: &str) -> f64 {
        fading.shares().find(|it| *it.0 == key).unwrap().1
    }

    // ORCH-3077
    #[test]
    fn what_was_long_ago_fades() {
        let mut fading = Fading::default();
        assert_eq!(fading.shares().count(), 0);
        (0..50).for_each(|_| fading.add(&"old", 10.0));
        fading.add(&"new", 10.0);
        assert!(share(&fading, "new") < 0.05);
        (0..500).for_each(|_| fading.add(&"new", 10.0));
        assert!(0.99 < share(&fading, "new"));
        (0..100_000).for_each(|_| fading.add(&"new", 1e6));
        assert!(share(&fading, "new").is_finite());
    }
}
