//! Seeded numbers that are the same on every machine: integers, and software floating point.

/// `SplitMix64` (Steele, Lea and Flood 2014): small, seedable, and good enough to draw loads from. A
/// generator of a crate may change its stream with a version, and the golden timeline with it.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Streams of one run differ by `purpose`, so that adding a draw to one leaves the others alone.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut it =
            Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd1b5_4a32));
        it.next();
        it
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 up to, not including, `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Above 0, up to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(self.unit())
    }

    /// `mean` is that of the distribution, not of its logarithm.
    pub(crate) fn lognormal(&mut self, mean: f64, sigma: f64) -> f64 {
        // Box and Muller 1958.
        let radius = libm::sqrt(-2.0 * libm::log(self.unit()));
        let normal = radius * libm::cos(std::f64::consts::TAU * self.unit());
        libm::exp(libm::log(mean) - sigma * sigma / 2.0 + sigma * normal)
    }

    /// 1, 2, 3 …
    pub(crate) fn geometric(&mut self, mean: f64) -> f64 {
        libm::ceil(libm::log(self.unit()) / libm::log(1.0 - 1.0 / mean)).max(1.0)
    }
}

/// Lengths in tokens, clipped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    pub(crate) prompt_mean: f64,
    pub(crate) prompt_sigma: f64,
    pub(crate) prompt_max: f64,
    pub(crate) output_mean: f64,
    pub(crate) output_max: f64,
}

impl Lengths {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clipped above")]
    pub(crate) fn draw(&self, random: &mut Random) -> (u32, u32) {
        let prompt = random.lognormal(self.prompt_mean, self.prompt_sigma);
        let output = random.geometric(self.output_mean);
        (
            libm::round(prompt).clamp(1.0, self.prompt_max) as u32,
            output.clamp(1.0, self.output_max) as u32,
        )
    }

    /// Means after clipping, measured.
    pub(crate) fn means(&self) -> (f64, f64) {
        const DRAWS: u32 = 100_000;
        let mut random = Random::new(0, 99);
        let (mut prompts, mut outputs) = (0.0, 0.0);
        for _ in 0..DRAWS {
            let (prompt, output) = self.draw(&mut random);
            prompts += f64::from(prompt);
            outputs += f64::from(output);
        }
        (prompts / f64::from(DRAWS), outputs / f64::from(DRAWS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut(&mut Random) -> f64) -> f64 {
        let mut random = Random::new(7, 7);
        (0..200_000).map(|_| draw(&mut random)).sum::<f64>() / 200_000.0
    }

    #[test]
    fn samplers_have_the_means_they_are_asked_for() {
        let close = |found: f64, wanted: f64| {
            assert!((found / wanted - 1.0).abs() < 0.02, "{found} instead of {wanted}");
        };
        close(mean(|it| it.exponential(3.0)), 3.0);
        close(mean(|it| it.lognormal(400.0, 1.0)), 400.0);
        close(mean(|it| it.geometric(200.0)), 200.0);
        close(mean(|it| it.uniform(1.0, 3.0)), 2.0);
    }
}
