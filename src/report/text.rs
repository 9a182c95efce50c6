//! Numbers and names as people read them, the same in tables, figures and sentences.

use crate::digits::significant;
use crate::study::experiment::Metric;

/// Small numbers as words.
pub(super) fn number_word(n: usize) -> String {
    let words =
        ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    words.get(n).map_or_else(|| n.to_string(), |word| (*word).to_owned())
}

/// Three significant digits, without an exponent where that is short; at least four digits behind the point below 1.
pub(super) fn plain(value: f64) -> String {
    // A zero has no sign for people.
    let value = value + 0.0;
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let digits = (2 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.*}", if size < 1.0 { digits.max(4) } else { digits })
}

/// A value as a table's cell: four digits behind the point as in the paper's tables.
pub(super) fn cell(value: f64) -> String {
    if value.is_finite() && value.abs() < 1e4 { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// `= 0.0020`, or that it is less than what can be told.
pub(super) fn p_value(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("= {}", significant(p, 2)) }
}

/// A ratio with three significant digits, zeros at its end included; above 1000 whole.
pub(super) fn ratio(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// Seconds in the unit in which they are read best.
pub(super) fn seconds(value: f64) -> String {
    match value {
        value if value >= 5400.0 => format!("{} h", significant(value / 3600.0, 3)),
        value if value >= 90.0 => format!("{} min", significant(value / 60.0, 3)),
        value if value >= 0.1 => format!("{} s", significant(value, 3)),
        value => format!("{} ms", significant(1000.0 * value, 3)),
    }
}

/// Bytes in the unit in which they are read best.
pub(super) fn bytes(value: u64) -> String {
    bytesize::ByteSize(value).to_string()
}

/// Ticks at powers of ten, in one form for all of them: as powers where one is far from 1. None where a value is no power
/// of ten.
pub(super) fn decades(values: &[f64]) -> Option<Vec<String>> {
    let exponent = |value: &f64| {
        let exponent = value.log10().round();
        (*value > 0.0 && (value / 10f64.powf(exponent) - 1.0).abs() < 1e-9).then_some(exponent as i32)
    };
    let exponents: Vec<i32> = values.iter().map(exponent).collect::<Option<_>>()?;
    if exponents.iter().all(|exponent| (-2..=3).contains(exponent)) {
        return Some(values.iter().map(|value| significant(*value, 1)).collect());
    }
    let raised = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
    };
    Some(
        exponents
            .iter()
            .map(|exponent| format!("10{}", exponent.to_string().chars().map(raised).collect::<String>()))
            .collect(),
    )
}

/// With a capital letter first.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// "test loss".
pub(super) fn metric_title(metric: Metric) -> &'static str {
    match metric {
        Metric::TrainLosses => "train loss",
        Metric::TrainAccuracies => "train accuracy",
        Metric::ValidLosses => "validation loss",
        Metric::ValidAccuracies => "validation accuracy",
        Metric::TestLosses => "test loss",
        Metric::TestAccuracies => "test accuracy",
    }
}

// What the built-in problems are called where people read.

/// Titles of the built-in problems.
const TITLES: [(&str, &str); 17] = [
    ("cifar100_3c3d", "CIFAR-100, 3c3d"),
    ("cifar100_allcnnc", "CIFAR-100, All-CNN-C"),
    ("cifar10_3c3d", "CIFAR-10, 3c3d"),
    ("cifar10_3c3d_sigmoid", "CIFAR-10, 3c3d with sigmoids"),
    ("cifar10_resnet20", "CIFAR-10, ResNet-20"),
    ("cifar10_vit", "CIFAR-10, vision transformer"),
    ("fmnist_2c2d", "Fashion-MNIST, 2c2d"),
    ("fmnist_autoencoder", "Fashion-MNIST, autoencoder"),
    ("fmnist_logreg", "Fashion-MNIST, logistic regression"),
    ("fmnist_mlp", "Fashion-MNIST, MLP"),
    ("mnist_2c2d", "MNIST, 2c2d"),
    ("mnist_autoencoder", "MNIST, autoencoder"),
    ("mnist_logreg", "MNIST, logistic regression"),
    ("mnist_mlp", "MNIST, MLP"),
    ("svhn_3c3d", "SVHN, 3c3d"),
    ("text_gpt", "Text, GPT"),
    ("text_lstm", "Text, LSTM"),
];

/// "Fashion-MNIST, MLP" for `fmnist_mlp`; a user's own problem keeps its name.
pub fn problem_title(name: &str) -> &str {
    TITLES.iter().find(|(known, _)| *known == name).map_or(name, |(_, title)| title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(plain(0.0033), "0.00330");
        assert_eq!(plain(0.123456), "0.1235");
        assert_eq!(plain(2.34567), "2.35");
        assert_eq!(plain(-12345.6), "-12346");
        assert_eq!([plain(0.0), plain(-0.0)], ["0", "0"]);
        assert_eq!(p_value(2.0 / 1024.0), "= 0.002");
        assert_eq!(p_value(1e-6), "< 0.0001");
        assert_eq!(number_word(10), "ten");
        assert_eq!(number_word(21), "21");
        assert_eq!([1.1, 9.996, 35.166, 217.4, f64::NAN].map(ratio), ["1.10", "10.0", "35.2", "217", "-"]);
        assert_eq!(decades(&[1e-4, 1e-2, 1.0]).unwrap(), ["10⁻⁴", "10⁻²", "10⁰"]);
        assert_eq!(decades(&[0.01, 0.1, 10.0]).unwrap(), ["0.01", "0.1", "10"]);
        assert_eq!(decades(&[1.0, 3.0]), None);
        assert_eq!(
            [0.0123, 0.585, 89.0, 421.0, 7200.0].map(seconds),
            ["12.3 ms", "0.585 s", "89 s", "7.02 min", "2 h"]
        );
    }

    #[test]
    fn every_built_in_problem_has_a_title() {
        for name in crate::problems::definition::built_in_names() {
            assert_ne!(problem_title(name), name);
        }
        assert_eq!(problem_title("my_net"), "my_net");
    }
}
