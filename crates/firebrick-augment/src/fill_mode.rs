//! What lies outside an image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::AugmentError;

/// What an affine transform finds outside the image, under Keras' names and with the behaviour of
/// `scipy.ndimage.affine_transform`, which Keras calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FillMode {
    /// The nearest pixel of the edge: `aaaa|abcd|dddd`. Keras' default.
    #[default]
    Nearest,
    /// The value `cval`: `kkkk|abcd|kkkk`. There is no blending with it: a position between the last pixel's centre and
    /// `cval`'s first is wholly `cval`.
    Constant,
    /// The image mirrored about its edges, the edge pixels repeated: `dcba|abcd|dcba`.
    Reflect,
    /// The image repeated. The first and the last pixel coincide, so that the period is one pixel less than the side:
    /// this is SciPy's `wrap`, not its `grid-wrap`.
    Wrap,
}

const NAMES: [(FillMode, &str); 4] = [
    (FillMode::Nearest, "nearest"),
    (FillMode::Constant, "constant"),
    (FillMode::Reflect, "reflect"),
    (FillMode::Wrap, "wrap"),
];

impl fmt::Display for FillMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(mode, _)| mode == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

impl FromStr for FillMode {
    type Err = AugmentError;

    fn from_str(name: &str) -> Result<Self, AugmentError> {
        let found = NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(mode, _)| *mode).ok_or_else(|| AugmentError::UnknownName {
            kind: "fill mode",
            value: name.to_owned(),
            known: "nearest, constant, reflect, wrap",
        })
    }
}

/// Maps a coordinate along an axis to one in `0.0..=last`, where `last` is the index of the axis' last pixel; `None`
/// means that the pixel is `cval`. One type a mode, so that the sampling loop is compiled for each.
pub(crate) trait Boundary {
    fn map(at: f64, last: f64) -> Option<f64>;
}

pub(crate) struct Nearest;
pub(crate) struct Constant;
pub(crate) struct Reflect;
pub(crate) struct Wrap;

/// `at` brought into `0.0..=last`, a NaN to 0. Written as two selections, which are one instruction each.
#[inline(always)]
fn clamp(at: f64, last: f64) -> f64 {
    let at = if at > 0.0 { at } else { 0.0 };
    if at < last { at } else { last }
}

/// Whole multiples of `period` in `at >= 0`.
#[inline]
fn whole_periods(at: f64, period: f64) -> f64 {
    (at / period) as i64 as f64
}

impl Boundary for Nearest {
    #[inline(always)]
    fn map(at: f64, last: f64) -> Option<f64> {
        Some(clamp(at, last))
    }
}

impl Boundary for Constant {
    #[inline(always)]
    fn map(at: f64, last: f64) -> Option<f64> {
        (at >= 0.0 && at <= last).then_some(at)
    }
}

impl Boundary for Reflect {
    #[inline(always)]
    fn map(at: f64, last: f64) -> Option<f64> {
        if at >= 0.0 && at <= last {
            return Some(at);
        }
        // Positions from half a pixel outside the image to the first pixel's centre lie between two copies of the edge
        // pixel, hence the clamp.
        let period = 2.0 * (last + 1.0);
        let from_edge = if at < 0.0 { -at - 1.0 } else { at };
        let within = from_edge - period * whole_periods(from_edge.max(0.0), period);
        Some(clamp(if within > last { period - within - 1.0 } else { within }, last))
    }
}

impl Boundary for Wrap {
    #[inline(always)]
    fn map(at: f64, last: f64) -> Option<f64> {
        if at >= 0.0 && at <= last {
            return Some(at);
        }
        if last < 1.0 {
            return Some(0.0);
        }
        // The order of the operations matters: at whole positions the last bit decides between the first and the last
        // pixel.
        let within = if at < 0.0 {
            at + last * (whole_periods(-at, last) + 1.0)
        } else {
            at - last * whole_periods(at, last)
        };
        Some(clamp(within, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions on an axis of four pixels and where SciPy 1.17's `map_coordinates(order=1)` looked them up, found by
    /// giving the pixels the values 0, 1, 2, 3.
    #[test]
    fn maps_positions_as_scipy_does() {
        for (at, reflect, wrap) in [
            (-0.25, 0.0, 2.75),
            (-1.5, 0.5, 1.5),
            (-4.0, 3.0, 2.0),
            (-8.0, 0.0, 1.0),
            (-12.0, 3.0, 3.0),
            (3.0, 3.0, 3.0),
            (3.5, 3.0, 0.5),
            (4.0, 3.0, 1.0),
            (8.0, 0.0, 2.0),
            (12.0, 3.0, 0.0),
        ] {
            assert_eq!(Reflect::map(at, 3.0), Some(reflect), "reflect of {at}");
            assert_eq!(Wrap::map(at, 3.0), Some(wrap), "wrap of {at}");
            let inside = (0.0..=3.0).contains(&at);
            assert_eq!(Constant::map(at, 3.0), inside.then_some(at), "constant of {at}");
            assert_eq!(Nearest::map(at, 3.0), Some(at.clamp(0.0, 3.0)), "nearest of {at}");
        }
    }

    #[test]
    fn stays_on_the_axis_for_any_position() {
        for at in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1e18, -1e18, -1e-17] {
            for last in [0.0, 1.0, 6.0] {
                for mapped in [
                    Nearest::map(at, last),
                    Constant::map(at, last),
                    Reflect::map(at, last),
                    Wrap::map(at, last),
                ] {
                    assert!(
                        mapped.is_none_or(|m| (0.0..=last).contains(&m)),
                        "{at} on 0..={last} went to {mapped:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn reads_back_the_names_it_writes() {
        for (mode, name) in NAMES {
            assert_eq!(mode.to_string(), name);
            assert_eq!(name.parse(), Ok(mode));
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{name}\""));
        }
        let error = "mirror".parse::<FillMode>().unwrap_err().to_string();
        assert_eq!(error, "unknown fill mode `mirror`: choose one of nearest, constant, reflect, wrap");
    }
}
