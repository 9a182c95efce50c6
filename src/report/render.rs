//! A figure's three forms: SVG with its text as outlines (so that it looks the same everywhere), PNG, and PDF with the
//! font embedded. A library without the program's crates has the SVG alone, with text as text.

use std::path::Path;
#[cfg(feature = "program")]
use std::sync::Arc;

#[cfg(feature = "program")]
use resvg::{tiny_skia, usvg};

use crate::atomic::{self, Durability};
#[cfg(feature = "program")]
use crate::error::Error;
use crate::error::Result;

/// Pixels of the PNG for each of the figure's.
#[cfg(feature = "program")]
const PNG_SCALE: f32 = 2.5;

/// Turns figures into files; holds the font.
#[derive(Debug)]
pub struct Renderer {
    #[cfg(feature = "program")]
    options: usvg::Options<'static>,
}

impl Default for Renderer {
    fn default() -> Self {
        Self::new()
    }
}

impl Renderer {
    /// With the font that the program carries; the machine's fonts are not looked at, so figures are the same everywhere.
    #[cfg(feature = "program")]
    pub fn new() -> Self {
        let mut options = usvg::Options { font_family: "DejaVu Sans".to_owned(), ..Default::default() };
        let fonts = Arc::make_mut(&mut options.fontdb);
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.load_font_data(dejavu::sans::bold().to_vec());
        Renderer { options }
    }

    /// Without a font.
    #[cfg(not(feature = "program"))]
    pub fn new() -> Self {
        Renderer {}
    }

    /// Writes STEM.svg into `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    #[cfg(not(feature = "program"))]
    pub fn write(&self, folder: &Path, stem: &str, svg: &str, title: &str) -> Result<()> {
        atomic::write(&folder.join(format!("{stem}.svg")), with_title(svg, title).as_bytes(), Durability::Process)
    }

    /// Writes STEM.svg, STEM.png and STEM.pdf into `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    #[cfg(feature = "program")]
    pub fn write(&self, folder: &Path, stem: &str, svg: &str, title: &str) -> Result<()> {
        let broken = |error: &dyn std::fmt::Display| Error::Environment(format!("figure {stem}: {error}"));
        let tree = usvg::Tree::from_str(svg, &self.options).map_err(|error| broken(&error))?;
        let put = |ending: &str, bytes: &[u8]| {
            atomic::write(&folder.join(format!("{stem}.{ending}")), bytes, Durability::Process)
        };
        let outlines = tree.to_string(&usvg::WriteOptions { preserve_text: false, ..Default::default() });
        put("svg", with_title(&outlines, title).as_bytes())?;

        let size = tree.size();
        let pixels = |length: f32| (length * PNG_SCALE).ceil() as u32;
        let mut image = tiny_skia::Pixmap::new(pixels(size.width()), pixels(size.height()))
            .ok_or_else(|| broken(&"its size is zero"))?;
        let scale = tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE);
        resvg::render(&tree, scale, &mut image.as_mut());
        put("png", &image.encode_png().map_err(|error| broken(&error))?)?;

        let pdf = svg2pdf::to_pdf(&tree, svg2pdf::ConversionOptions::default(), svg2pdf::PageOptions::default());
        put("pdf", &pdf.map_err(|error| broken(&error))?)
    }
}

/// The outlines carry no words; the title tells what they show.
fn with_title(svg: &str, title: &str) -> String {
    let title = format!("<title>{}</title>", super::escape::markup(title));
    match svg.find("<svg").and_then(|start| svg[start..].find('>').map(|end| start + end + 1)) {
        Some(end) => format!("{}{title}{}", &svg[..end], &svg[end..]),
        None => svg.to_owned(),
    }
}
