//! Axes: what range is shown, linear or logarithmic, and where the ticks are.

use super::svg::{Anchor, Svg, text_width};
use super::text::decades;
use crate::digits::significant;

/// The size of the numbers at ticks: 6.5 points where a figure is printed 8.5 cm wide, a column of a paper.
pub const TICK_SIZE: f64 = 12.5;
/// The size of axis titles and legends.
pub const LABEL_SIZE: f64 = 13.5;

/// An axis' range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The value at the start.
    pub low: f64,
    /// The value at the end.
    pub high: f64,
    /// Whether equal distances are equal ratios.
    pub log: bool,
    /// Whether values are counts, so that ticks stand at whole numbers alone.
    pub whole: bool,
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
        Scale { low: back(low), high: back(high), log, whole: false }
    }

    /// A range as it is.
    pub fn linear(low: f64, high: f64) -> Self {
        Scale { low, high: if high > low { high } else { low + 1.0 }, log: false, whole: false }
    }

    /// The same for counts.
    pub fn whole(self) -> Self {
        Scale { whole: true, ..self }
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
        if self.log
            && let Some(texts) = decades(&values)
        {
            return values.into_iter().zip(texts).collect();
        }
        let texts: Vec<String> = values.iter().map(|value| significant(*value, 4)).collect();
        if self.log || texts.iter().any(|text| text.contains('e')) {
            return values.into_iter().zip(texts).collect();
        }
        // Steps are equal, so their digits are.
        let behind = texts.iter().map(|text| text.split_once('.').map_or(0, |(_, digits)| digits.len())).max();
        values.into_iter().map(|value| (value, format!("{value:.*}", behind.unwrap_or(0)))).collect()
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|s| s * power);
        let fits = |step: &f64| *step >= rough * 0.999 && (!self.whole || step.fract() == 0.0);
        let step = if self.whole && rough < 1.0 { 1.0 } else { steps.into_iter().find(fits).unwrap_or(rough) };
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }

    fn log_ticks(&self, wanted: usize) -> Vec<f64> {
        let (low, high) = (self.low.log10(), self.high.log10());
        let decades: Vec<i32> = (low.floor() as i32..=high.ceil() as i32).collect();
        let within = |value: &f64| {
            *value >= self.low * 0.999 && *value <= self.high * 1.001 && (!self.whole || value.fract() == 0.0)
        };
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

    /// Whether a pair of values lies within the frame.
    pub fn holds(&self, x: f64, y: f64) -> bool {
        let within = |scale: &Scale, value: f64| (-1e-9..=1.0 + 1e-9).contains(&scale.place(value));
        within(&self.horizontal, x) && within(&self.vertical, y)
    }

    /// The rectangle itself.
    pub fn rectangle(&self) -> [f64; 4] {
        [self.x, self.y, self.width, self.height]
    }

    /// As many ticks along the horizontal axis as have room for what is written at them.
    pub fn horizontal_ticks(&self) -> Vec<(f64, String)> {
        let most = (self.width / 24.0) as usize;
        let tries = (1..=most.max(1)).rev().map(|wanted| self.horizontal.ticks(wanted));
        tries.reduce(|best, other| if self.fits(&best) { best } else { other }).unwrap_or_default()
    }

    /// Ticks at these values, without those that come too close to the one before.
    pub fn ticks_at(&self, values: &[f64]) -> Vec<(f64, String)> {
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for value in values {
            ticks.push((*value, significant(*value, 4)));
            if !self.fits(&ticks) {
                ticks.pop();
            }
        }
        ticks
    }

    /// Whether no text at a tick touches the next one's.
    fn fits(&self, ticks: &[(f64, String)]) -> bool {
        let half = |text: &str| text_width(text, TICK_SIZE) / 2.0;
        ticks.windows(2).all(|pair| {
            let [(first, left), (second, right)] = pair else { return true };
            let distance = self.width * (self.horizontal.place(*second) - self.horizontal.place(*first));
            distance >= half(left) + half(right) + 6.0
        })
    }

    /// Draws grid lines, ticks and the axes' titles.
    pub fn draw_axes(&self, svg: &mut Svg, x_title: &str, y_title: &str) {
        self.draw_axes_with(svg, &self.horizontal_ticks(), x_title, y_title);
    }

    /// The same with given ticks along the horizontal axis.
    pub fn draw_axes_with(&self, svg: &mut Svg, ticks: &[(f64, String)], x_title: &str, y_title: &str) {
        let (bottom, right) = (self.y + self.height, self.x + self.width);
        for (value, text) in self.vertical.ticks((self.height / 30.0) as usize) {
            let (_, y) = self.at(self.horizontal.low, value);
            svg.line((self.x, y), (right, y), "stroke=\"#e4e4e4\" stroke-width=\"0.7\"");
            svg.text((self.x - 4.0, y + TICK_SIZE * 0.36), TICK_SIZE, Anchor::End, "", &text);
        }
        for (value, text) in ticks {
            let (x, _) = self.at(*value, self.vertical.low);
            svg.line((x, self.y), (x, bottom), "stroke=\"#e4e4e4\" stroke-width=\"0.7\"");
            svg.line((x, bottom), (x, bottom + 3.0), "stroke=\"#000\" stroke-width=\"0.8\"");
            svg.text((x, bottom + 4.0 + TICK_SIZE), TICK_SIZE, Anchor::Middle, "", text);
        }
        svg.rect(self.rectangle(), "fill=\"none\" stroke=\"#000\" stroke-width=\"0.8\"");
        if !x_title.is_empty() {
            let middle = self.x + self.width / 2.0;
            svg.text((middle, bottom + 9.0 + TICK_SIZE + LABEL_SIZE), LABEL_SIZE, Anchor::Middle, "", x_title);
        }
        if !y_title.is_empty() {
            // A long title may reach a little beyond its axis, and no further.
            let size = LABEL_SIZE.min(LABEL_SIZE * (self.height + 10.0) / text_width(y_title, LABEL_SIZE));
            svg.upright((self.x - 48.0, self.y + self.height / 2.0), size, y_title);
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
        assert_eq!(values(Scale::linear(0.86, 0.94), 4), ["0.86", "0.88", "0.90", "0.92", "0.94"]);
        assert_eq!(
            values(Scale { low: 1e-4, high: 1.0, log: true, whole: false }, 5),
            ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]
        );
        assert_eq!(values(Scale::linear(0.0, 3.0).whole(), 6), ["0", "1", "2", "3"]);
        assert_eq!(values(Scale::linear(0.0, 5.0).whole(), 2), ["0", "5"]);
        assert_eq!(values(Scale { low: 0.9, high: 33.0, log: true, whole: true }, 6), ["1", "3", "10", "30"]);
        assert_eq!(values(Scale { low: 0.2, high: 2.5, log: true, whole: false }, 5), ["0.2", "0.5", "1", "2"]);
    }

    #[test]
    fn ticks_keep_apart() {
        let frame = |horizontal: Scale| Frame {
            x: 0.0,
            y: 0.0,
            width: 170.0,
            height: 100.0,
            horizontal,
            vertical: Scale::linear(0.0, 1.0),
        };
        let texts = |ticks: Vec<(f64, String)>| ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(frame(Scale::linear(0.0, 50.0)).horizontal_ticks()), ["0", "10", "20", "30", "40", "50"]);
        let narrow = frame(Scale::linear(0.0, 100_000.0));
        assert!(narrow.horizontal_ticks().len() >= 2 && narrow.fits(&narrow.horizontal_ticks()));
        let sizes = Scale { low: 2.0, high: 256.0, log: true, whole: false };
        assert_eq!(texts(frame(sizes).ticks_at(&[2.0, 32.0, 33.0, 256.0])), ["2", "32", "256"]);
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
