//! How wide a text is in the report's font, by the font's own metrics.

use std::sync::LazyLock;

use ttf_parser::Face;

static FACE: LazyLock<Face<'static>> =
    LazyLock::new(|| Face::parse(dejavu::sans::regular(), 0).expect("the font that is built in is well-formed"));

/// The width of a text of this size, in the size's unit.
pub fn text_width(text: &str, size: f64) -> f64 {
    // A letter that the font lacks is drawn as a box, which is its first glyph.
    let advance = |letter| FACE.glyph_hor_advance(FACE.glyph_index(letter).unwrap_or_default()).unwrap_or(0);
    let units: f64 = text.chars().map(|letter| f64::from(advance(letter))).sum();
    units * size / f64::from(FACE.units_per_em())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Advances of DejaVu Sans: W 2025, i 569, of 2048.
    #[test]
    fn widths_are_the_fonts_own() {
        assert!((text_width("W", 2048.0) - 2025.0).abs() < 1e-9);
        assert!((text_width("ii", 2048.0) - 1138.0).abs() < 1e-9);
        assert!(text_width("\u{7db2}", 12.0) > 0.0);
        assert_eq!(text_width("", 12.0), 0.0);
    }
}
