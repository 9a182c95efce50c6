//! The colours of values from low to high.

/// Colours from low to high, from cividis (Nunez, Anderton, Renslow 2018), which colour-blind readers see alike.
const COLOURS: [[f64; 3]; 6] = [
    [0.0, 34.0, 78.0],
    [53.0, 69.0, 108.0],
    [102.0, 105.0, 112.0],
    [148.0, 142.0, 119.0],
    [200.0, 184.0, 102.0],
    [254.0, 232.0, 56.0],
];

/// The colour of a place from 0 to 1.
pub(super) fn colour(place: f64) -> String {
    let place = place.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f64;
    let below = (place.floor() as usize).min(COLOURS.len() - 2);
    let part = place - below as f64;
    let mixed = |i: usize| (COLOURS[below][i] + (COLOURS[below + 1][i] - COLOURS[below][i]) * part).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mixed(0), mixed(1), mixed(2))
}
