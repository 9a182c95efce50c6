//! Padding of images, as it is asked for and in pixels.

/// Zero padding around the two spatial axes of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Padding {
    /// Columns before the first.
    pub left: i64,
    /// Columns after the last.
    pub right: i64,
    /// Rows above the first.
    pub top: i64,
    /// Rows below the last.
    pub bottom: i64,
}

/// Padding as it is asked for, before the input's size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaddingChoice {
    /// These pixels.
    Explicit(Padding),
    /// TensorFlow's `same`: the output has ceil(input / stride) pixels, an odd pixel goes right and below.
    Same,
}

impl Default for PaddingChoice {
    fn default() -> Self {
        PaddingChoice::Explicit(Padding::default())
    }
}

impl Padding {
    /// The same number of pixels above and below, left and right.
    pub fn symmetric(height: i64, width: i64) -> Self {
        Padding { left: width, right: width, top: height, bottom: height }
    }

    /// Whether opposite sides are padded alike.
    pub fn is_symmetric(&self) -> bool {
        self.left == self.right && self.top == self.bottom
    }

    /// Whether nothing is padded.
    pub fn is_zero(&self) -> bool {
        *self == Padding::default()
    }

    /// `[left, right, top, bottom]`, the order of libtorch's `constant_pad_nd`.
    pub fn list(&self) -> [i64; 4] {
        [self.left, self.right, self.top, self.bottom]
    }
}

/// `[left, right, top, bottom]`, as [`Padding::list`] gives them.
impl From<[i64; 4]> for Padding {
    fn from([left, right, top, bottom]: [i64; 4]) -> Self {
        Padding { left, right, top, bottom }
    }
}

impl PaddingChoice {
    /// The pixels for an input of this height and width.
    pub fn resolve(&self, input: [i64; 2], kernel: [i64; 2], stride: [i64; 2], dilation: [i64; 2]) -> Padding {
        match self {
            PaddingChoice::Explicit(padding) => *padding,
            PaddingChoice::Same => {
                let total = |axis: usize| {
                    let output = (input[axis] + stride[axis] - 1) / stride[axis];
                    let reach = dilation[axis] * (kernel[axis] - 1) + 1;
                    ((output - 1) * stride[axis] + reach - input[axis]).max(0)
                };
                let (rows, columns) = (total(0), total(1));
                Padding { left: columns / 2, right: columns - columns / 2, top: rows / 2, bottom: rows - rows / 2 }
            }
        }
    }
}
