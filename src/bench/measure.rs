//! One visit to a row: one gradient and one pass at a time, as many pairs as a precision or a time needs.

use std::time::{Duration, Instant};

use super::statistics::interval_of_median;
use crate::error::Result;
use crate::optimizers::StepTimes;
use crate::signals::Stop;

/// Pairs before the interval's width is looked at.
const LEAST_ROUNDS: usize = 7;
/// Pairs after which a visit gains nothing by more.
const MOST_ROUNDS: usize = 1000;
/// Nor is it looked at before so many seconds of pairs: passes of some microseconds have ratios that jump within tenths
/// of a second.
const LEAST_SECONDS: f64 = 0.5;
/// Samples of the bootstrap while measuring.
const RESAMPLES_MEANWHILE: usize = 200;
/// A second pair warms up where one takes no longer than this.
const WARM_UP_TWICE: f64 = 0.5;

/// The time of one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timed {
    /// In all.
    pub seconds: f64,
    /// Of a step: what follows the pass, part by part; zero without a step.
    pub step: StepTimes,
}

/// What is timed in turn.
pub trait Pair {
    /// What comes before the rounds beside a pair: steps until the running mean has full rank.
    ///
    /// # Errors
    /// What libtorch says.
    fn warm_up(&mut self) -> Result<()>;

    /// The seconds of the plain gradient.
    ///
    /// # Errors
    /// What libtorch says.
    fn gradient(&mut self) -> Result<f64>;

    /// The time of what is compared with it.
    ///
    /// # Errors
    /// What libtorch says.
    fn pass(&mut self) -> Result<Timed>;
}

/// When a visit ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Exactly so many pairs.
    pub rounds: Option<usize>,
    /// Where no number of pairs is given: until half of the interval's width is below this share of the ratio,
    pub precision: f64,
    /// or until this time is over, the warm-up included; at least one pair.
    pub time: Duration,
}

/// The times of a visit's pairs, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// Of the gradient, in seconds.
    pub gradient: Vec<f64>,
    /// Of what is compared.
    pub pass: Vec<Timed>,
}

impl Times {
    /// The seconds of all pairs together.
    pub fn seconds(&self) -> f64 {
        self.gradient.iter().sum::<f64>() + self.pass.iter().map(|pass| pass.seconds).sum::<f64>()
    }

    /// For each pair, the second over the first.
    pub fn ratios(&self) -> Vec<f64> {
        self.pass.iter().zip(&self.gradient).map(|(pass, gradient)| pass.seconds / gradient).collect()
    }
}

/// Times pairs after a warm-up, which is the gradient's alone where there was a pass already, which took so long (`warm`).
/// None where it was asked to stop meanwhile.
///
/// # Errors
/// The first one of the pair.
pub fn measure(pair: &mut dyn Pair, limits: &Limits, warm: Option<Duration>, stop: &Stop) -> Result<Option<Times>> {
    let began = Instant::now();
    pair.warm_up()?;
    let first = Instant::now();
    let before = match warm {
        Some(pass) => {
            pair.gradient()?;
            pass
        }
        None => {
            both(pair, 0)?;
            Duration::ZERO
        }
    };
    if (before + first.elapsed()).as_secs_f64() < WARM_UP_TWICE {
        both(pair, 1)?;
    }
    let mut times = Times::default();
    let mut longest = Duration::ZERO;
    while !stop.is_requested() {
        let start = Instant::now();
        let (gradient, pass) = both(pair, times.pass.len())?;
        longest = longest.max(start.elapsed());
        times.gradient.push(gradient);
        times.pass.push(pass);
        if is_enough(&times, limits, began.elapsed() + longest) {
            return Ok(Some(times));
        }
    }
    Ok(None)
}

/// Whether no further pair is needed, which would end at `next`.
fn is_enough(times: &Times, limits: &Limits, next: Duration) -> bool {
    let count = times.pass.len();
    if let Some(rounds) = limits.rounds {
        return count >= rounds;
    }
    if next > limits.time || count >= MOST_ROUNDS {
        return true;
    }
    if times.seconds() < LEAST_SECONDS {
        return false;
    }
    // Not after each pair: the more there are, the less another one changes, and looking takes time.
    count >= LEAST_ROUNDS
        && count.is_multiple_of((count / 10).max(1))
        && interval_of_median(&times.ratios(), RESAMPLES_MEANWHILE, count as u64).relative_half_width()
            <= limits.precision
}

/// A pair; the two take turns in going first, so that neither always finds the other's data in the cache.
fn both(pair: &mut dyn Pair, round: usize) -> Result<(f64, Timed)> {
    if round.is_multiple_of(2) {
        let gradient = pair.gradient()?;
        Ok((gradient, pair.pass()?))
    } else {
        let pass = pair.pass()?;
        Ok((pair.gradient()?, pass))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, LogNormal};

    /// A clock without work: the pass takes 1.7 times as long, with noise.
    struct Noisy {
        noise: f64,
        generator: ChaCha8Rng,
        order: String,
        nap: Duration,
    }

    impl Noisy {
        fn new(noise: f64) -> Self {
            let generator = ChaCha8Rng::seed_from_u64(5);
            Noisy { noise, generator, order: String::new(), nap: Duration::ZERO }
        }

        fn draw(&mut self) -> f64 {
            LogNormal::new(0.0, self.noise).unwrap().sample(&mut self.generator)
        }
    }

    impl Pair for Noisy {
        fn warm_up(&mut self) -> Result<()> {
            self.order.push('w');
            Ok(())
        }

        fn gradient(&mut self) -> Result<f64> {
            self.order.push('g');
            Ok(0.1 * self.draw())
        }

        fn pass(&mut self) -> Result<Timed> {
            self.order.push('p');
            std::thread::sleep(self.nap);
            Ok(Timed { seconds: 0.17 * self.draw(), step: Default::default() })
        }
    }

    const LIMITS: Limits = Limits { rounds: None, precision: 0.02, time: Duration::from_secs(60) };

    fn run(pair: &mut Noisy, limits: Limits) -> Times {
        measure(pair, &limits, None, &Stop::never()).unwrap().unwrap()
    }

    #[test]
    fn a_number_of_rounds_is_that_number_of_pairs_after_a_warm_up() {
        let mut pair = Noisy::new(0.1);
        let times = run(&mut pair, Limits { rounds: Some(3), ..LIMITS });
        assert_eq!((times.gradient.len(), times.pass.len()), (3, 3));
        assert_eq!(pair.order, "wgppggppggp");
        let mut pair = Noisy::new(0.1);
        let limits = Limits { rounds: Some(2), ..LIMITS };
        measure(&mut pair, &limits, Some(Duration::ZERO), &Stop::never()).unwrap();
        assert_eq!(pair.order, "wgpggppg");
        let mut pair = Noisy::new(0.1);
        measure(&mut pair, &limits, Some(Duration::from_secs(9)), &Stop::never()).unwrap();
        assert_eq!(pair.order, "wggppg", "a long pass is not made twice before it is timed");
    }

    #[test]
    fn more_noise_takes_more_rounds_to_the_same_precision() {
        let (mut calm, mut noisy) = (Noisy::new(0.01), Noisy::new(0.1));
        let (few, many) = (run(&mut calm, LIMITS), run(&mut noisy, LIMITS));
        assert_eq!(few.pass.len(), LEAST_ROUNDS);
        assert!(many.pass.len() > 4 * LEAST_ROUNDS, "{}", many.pass.len());
        for times in [few, many] {
            let interval = interval_of_median(&times.ratios(), 2000, 1);
            assert!(interval.relative_half_width() < 0.025, "{interval:?}");
            assert!((interval.estimate / 1.7 - 1.0).abs() < 0.04, "{interval:?}");
        }
    }

    #[test]
    fn the_time_ends_it_after_at_least_one_pair() {
        let mut pair = Noisy::new(0.5);
        pair.nap = Duration::from_millis(2);
        let times = run(&mut pair, Limits { time: Duration::ZERO, ..LIMITS });
        assert_eq!(times.pass.len(), 1);
    }

    #[test]
    fn a_signal_ends_it() {
        let stop = Stop::never();
        stop.request();
        assert_eq!(measure(&mut Noisy::new(0.1), &LIMITS, None, &stop).unwrap(), None);
    }
}
