//! What Keras' generator draws for one image.

use serde::{Deserialize, Serialize};

/// One draw of an [`ImageDataGenerator`](crate::ImageDataGenerator): the parameters that Keras'
/// `get_random_transform` returns. The default is the identity.
///
/// A draw that was serialised and read back gives the same bytes again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KerasDraw {
    /// Rotation in degrees; positive turns the picture clockwise on the screen.
    pub theta: f32,
    /// Shift in pixels, drawn from `height_shift_range`. Positive moves the picture to the *left*: Keras exchanges the
    /// axes between drawing and applying.
    pub tx: f32,
    /// Shift in pixels, drawn from `width_shift_range`. Positive moves the picture *up*, see [`tx`](Self::tx).
    pub ty: f32,
    /// Shear angle in degrees.
    pub shear: f32,
    /// Zoom of the columns; above 1 shows more than the image.
    pub zx: f32,
    /// Zoom of the rows; above 1 shows more than the image.
    pub zy: f32,
    /// Mirror left to right.
    pub flip_horizontal: bool,
    /// Mirror top to bottom.
    pub flip_vertical: bool,
    /// Levels (of 255) added to all channels, if any: `channel_shift_intensity` in Keras.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_shift: Option<f32>,
    /// Factor of brightness, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brightness: Option<f32>,
}

impl Default for KerasDraw {
    fn default() -> Self {
        Self {
            theta: 0.0,
            tx: 0.0,
            ty: 0.0,
            shear: 0.0,
            zx: 1.0,
            zy: 1.0,
            flip_horizontal: false,
            flip_vertical: false,
            channel_shift: None,
            brightness: None,
        }
    }
}

impl KerasDraw {
    /// Whether rotation, shift, shear and zoom are all off.
    pub(crate) fn moves_nothing(&self) -> bool {
        (self.theta, self.tx, self.ty, self.shear) == (0.0, 0.0, 0.0, 0.0) && (self.zx, self.zy) == (1.0, 1.0)
    }
}
