//! Pictures as numpy arrays. Each array owns its samples: it outlives its picture, and may be written to.

use std::sync::Mutex;

use braidcast_av::{ConvertError, Converter, Picture, PictureError, PixelFormat, Samples, yuv420p_bytes};
use numpy::{Element, PyArray1, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::errors;

/// Converters kept for the next picture: one for each thread that converts at a time, up to a few.
const CONVERTERS_MAX: usize = 4;

/// What a program may ask a picture to be converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One array.
    Packed(PixelFormat),
    /// Three planes.
    Yuv420p,
}

impl Format {
    /// Reads a format's name.
    pub(crate) fn parse(name: &str) -> PyResult<Self> {
        match name {
            "rgb24" => Ok(Self::Packed(PixelFormat::Rgb24)),
            "bgr24" => Ok(Self::Packed(PixelFormat::Bgr24)),
            "gray8" => Ok(Self::Packed(PixelFormat::Gray8)),
            "yuv420p" => Ok(Self::Yuv420p),
            other => Err(PyValueError::new_err(format!(
                "format is '{other}', and must be 'rgb24', 'bgr24', 'gray8' or 'yuv420p'"
            ))),
        }
    }
}

/// The converters of one video: what FFmpeg prepared for its pictures is used again.
#[derive(Debug, Default)]
pub(crate) struct Converters {
    idle: Mutex<Vec<Converter>>,
}

impl Converters {
    /// The picture in another format.
    pub(crate) fn convert<'py>(
        &self,
        py: Python<'py>,
        picture: &Picture,
        format: Format,
    ) -> PyResult<Bound<'py, PyAny>> {
        match format {
            Format::Packed(format) => {
                let samples = py.detach(|| self.packed(picture, format)).map_err(|error| errors::of_convert(&error))?;
                shaped(py, samples, picture.height() as usize, picture.width() as usize, format.pixel_bytes())
            }
            Format::Yuv420p => {
                let planes = py.detach(|| self.yuv420p(picture)).map_err(|error| errors::of_convert(&error))?;
                Ok(PyTuple::new(py, rows_of_yuv420p(py, picture, planes)?)?.into_any())
            }
        }
    }

    fn packed(&self, picture: &Picture, format: PixelFormat) -> Result<Vec<u8>, ConvertError> {
        let stride = picture.width() as usize * format.pixel_bytes();
        let mut samples = vec![0; stride * picture.height() as usize];
        self.with(|converter| converter.convert_into(picture, format, &mut samples, stride))?;
        Ok(samples)
    }

    fn yuv420p(&self, picture: &Picture) -> Result<[Vec<u8>; 3], ConvertError> {
        let mut y = vec![0; yuv420p_bytes(picture.width(), picture.height())];
        self.with(|converter| converter.convert_yuv420p(picture, &mut y))?;
        let luma = picture.width() as usize * picture.height() as usize;
        let mut u = y.split_off(luma);
        let v = u.split_off(u.len() / 2);
        Ok([y, u, v])
    }

    fn with<T>(&self, work: impl FnOnce(&mut Converter) -> T) -> T {
        let idle = || self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut converter = idle().pop().unwrap_or_default();
        let outcome = work(&mut converter);
        let mut idle = idle();
        if idle.len() < CONVERTERS_MAX {
            idle.push(converter);
        }
        outcome
    }
}

/// The picture's own planes.
pub(crate) fn planes<'py>(py: Python<'py>, picture: &Picture) -> PyResult<Bound<'py, PyTuple>> {
    let copied = py.detach(|| {
        let planes = picture.planes()?;
        let copied = planes.iter().map(|plane| ([plane.height, plane.width, plane.components], plane.samples()));
        Ok(copied.collect::<Vec<_>>())
    });
    let copied = copied.map_err(|error: PictureError| errors::of_convert(&error.into()))?;
    let arrays = copied.into_iter().map(|([height, width, components], samples)| match samples {
        Samples::Bytes(bytes) => shaped(py, bytes, height, width, components),
        Samples::Words(words) => shaped(py, words, height, width, components),
    });
    PyTuple::new(py, arrays.collect::<PyResult<Vec<_>>>()?)
}

fn rows_of_yuv420p<'py>(
    py: Python<'py>,
    picture: &Picture,
    [y, u, v]: [Vec<u8>; 3],
) -> PyResult<[Bound<'py, PyAny>; 3]> {
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    let (half_height, half_width) = (height.div_ceil(2), width.div_ceil(2));
    Ok([
        shaped(py, y, height, width, 1)?,
        shaped(py, u, half_height, half_width, 1)?,
        shaped(py, v, half_height, half_width, 1)?,
    ])
}

/// An array that owns `samples`: height x width, or height x width x components where there are several.
fn shaped<T: Element>(
    py: Python<'_>,
    samples: Vec<T>,
    height: usize,
    width: usize,
    components: usize,
) -> PyResult<Bound<'_, PyAny>> {
    let flat = PyArray1::from_vec(py, samples);
    if components == 1 {
        Ok(flat.reshape([height, width])?.into_any())
    } else {
        Ok(flat.reshape([height, width, components])?.into_any())
    }
}
