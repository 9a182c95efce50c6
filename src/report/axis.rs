//! Axes: what range is shown, linear or logarithmic, and where the ticks are.

use super::svg::{Anchor, Svg};
use super::text::significant;

/// The size of the numbers at ticks.
pub const TICK_SIZE: f64 = 10.5;
/// The size of axis titles and legends.
pub const LABEL_SIZE: f64 = 11.5;

/// An axis' range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The value at the start.
    pub low: f64,
    /// The value at the end.
    pub high: f64,
    /// Whether equal distances are equal ratios.
    pub log: bool,
}

impl Scale {
    /// The range of the finite values, a little wider; logarithmic only where all are positive.
    pub fn of(values: impl Iterator<Item = f64> + Clone, log: bool) -> Self {
        let log = log && values.clone().filter(|v| v.is_finite()).all(|v| v > 0.0);
        let finite = values.filter(|value| value.is_finite());
        let map = |value: f64| if log { value.log10() } else { value };
        let (low, high) = finite
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(map(value)), high.max(map(value))));
        let (low, high) = match (low <= high, high - low) {
            (false, _) => (0.0, 1.0),
            (true, 0.0) if log => (low - 0.5, high + 0.5),
            (true, 0.0) => (low - 0.05 * low.abs().max(0.1), high + 0.05 * high.abs().max(0.1)),
            (true, width) => (low - 0.04 * width, high + 0.04 * width),
        };
        let back = |value: f64| if log { 10f64.powf(value) } else { value };
        Scale { low: back(low), high: back(high), log }
    }

    /// A range as it is.
    pub fn linear(low: f64, high: f64) -> Self {
        Scale { low, high: if high > low { high } else { low + 1.0 }, log: false }
    }

    /// Where a value lies, 0 at the start and 1 at the end.
    pub fn place(&self, value: f64) -> f64 {
        if self.log {
            let (low, high) = (self.low.log10(), self.high.log10());
            return (value.max(f64::MIN_POSITIVE).log10() - low) / (high - low);
        }
        (value - self.low) / (self.high - self.low)
    }

    /// Values with a tick, about `wanted` of them, and what is written there.
    pub fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let values = if self.log { self.log_ticks(wanted) } else { self.linear_ticks(wanted) };
        values.into_iter().map(|value| (value, significant(value, 4))).collect()
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|s| s * power).find(|s| *s >= rough * 0.999).unwrap_or(rough);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }

    fn log_ticks(&self, wanted: usize) -> Vec<f64> {
        let (low, high) = (self.low.log10(), self.high.log10());
        let decades: Vec<i32> = (low.floor() as i32..=high.ceil() as i32).collect();
        let within = |value: &f64| *value >= self.low * 0.999 && *value <= self.high * 1.001;
        for digits in [&[1.0][..], &[1.0, 3.0], &[1.0, 2.0, 5.0]] {
            let values = decades.iter().flat_map(|d| digits.iter().map(move |digit| digit * 10f64.powi(*d)));
            let values: Vec<f64> = values.filter(within).collect();
            if values.len() >= 4 {
                let stride = values.len().div_ceil(wanted.max(1) + 1);
                return values.into_iter().step_by(stride).collect();
            }
        }
        // Too narrow for round ratios; equal steps lie closer together towards the upper end.
        self.linear_ticks(wanted + 2)
    }
}

/// A rectangle in which data are drawn, with its axes.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The left edge.
    pub x: f64,
    /// The upper edge.
    pub y: f64,
    /// The width.
    pub width: f64,
    /// The height.
    pub height: f64,
    /// What lies along it.
    pub horizontal: Scale,
    /// What lies along its height, low values below.
    pub vertical: Scale,
}

impl Frame {
    /// Where a pair of values lies.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let place = |value: f64| value.clamp(-10.0, 10.0);
        (
            self.x + self.width * place(self.horizontal.place(x)),
            self.y + self.height * (1.0 - place(self.vertical.place(y))),
        )
    }

    /// The rectangle itself.
    pub fn rectangle(&self) -> [f64; 4] {
        [self.x, self.y, self.width, self.height]
    }

    /// Draws grid lines, ticks and the axes' titles.
    pub fn draw_axes(&self, svg: &mut Svg, x_title: &str, y_title: &str) {
        let (bottom, right) = (self.y + self.height, self.x + self.width);
        for (value, text) in self.vertical.ticks((self.height / 30.0) as usize) {
            let (_, y) = self.at(self.horizontal.low, value);
            svg.line((self.x, y), (right, y), "stroke=\"#e4e4e4\" stroke-width=\"0.7\"");
            svg.text((self.x - 4.0, y + TICK_SIZE * 0.36), TICK_SIZE, Anchor::End, "", &text);
        }
        for (value, text) in self.horizontal.ticks((self.width / 40.0) as usize) {
            let (x, _) = self.at(value, self.vertical.low);
            svg.line((x, self.y), (x, bottom), "stroke=\"#e4e4e4\" stroke-width=\"0.7\"");
            svg.line((x, bottom), (x, bottom + 3.0), "stroke=\"#000\" stroke-width=\"0.8\"");
            svg.text((x, bottom + 4.0 + TICK_SIZE), TICK_SIZE, Anchor::Middle, "", &text);
        }
        svg.rect(self.rectangle(), "fill=\"none\" stroke=\"#000\" stroke-width=\"0.8\"");
        if !x_title.is_empty() {
            let middle = self.x + self.width / 2.0;
            svg.text((middle, bottom + 9.0 + TICK_SIZE + LABEL_SIZE), LABEL_SIZE, Anchor::Middle, "", x_title);
        }
        if !y_title.is_empty() {
            svg.upright((self.x - 42.0, self.y + self.height / 2.0), LABEL_SIZE, y_title);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(scale: Scale, wanted: usize) -> Vec<String> {
        scale.ticks(wanted).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(values(Scale::linear(0.0, 50.0), 5), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(values(Scale::linear(0.86, 0.94), 4), ["0.86", "0.88", "0.9", "0.92", "0.94"]);
        assert_eq!(values(Scale { low: 1e-4, high: 1.0, log: true }, 5), ["0.0001", "0.001", "0.01", "0.1", "1"]);
        assert_eq!(values(Scale { low: 0.2, high: 2.5, log: true }, 5), ["0.2", "0.5", "1", "2"]);
    }

    #[test]
    fn a_logarithmic_scale_needs_positive_values() {
        assert!(Scale::of([1.0, 10.0].into_iter(), true).log);
        assert!(!Scale::of([0.0, 10.0].into_iter(), true).log);
        let scale = Scale::of([1.0, 100.0].into_iter(), true);
        assert!((scale.place(10.0) - 0.5).abs() < 1e-12);
        assert_eq!(Scale::of([f64::NAN].into_iter(), false), Scale::linear(0.0, 1.0));
    }
}
