//! A picture of a film.

use std::sync::Arc;

use braidcast_player::ShownPicture;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{self, Converters, Format};

/// A decoded picture of a film.
#[pyclass(frozen, module = "braidcast")]
pub(crate) struct Frame {
    shown: ShownPicture,
    converters: Arc<Converters>,
}

impl Frame {
    pub(crate) fn new(shown: ShownPicture, converters: Arc<Converters>) -> Self {
        Self { shown, converters }
    }
}

#[pymethods]
impl Frame {
    /// Number of the picture in the order in which pictures are shown, from 0.
    #[getter]
    fn index(&self) -> u64 {
        self.shown.index
    }

    /// Presentation time as it stands in the file, in units of `Video.time_base`; None where it has none.
    #[getter]
    fn pts(&self) -> Option<i64> {
        self.shown.pts
    }

    /// Seconds from the film's first picture.
    #[getter]
    fn time(&self) -> f64 {
        self.shown.time
    }

    /// The picture was coded without reference to others.
    #[getter]
    fn key_frame(&self) -> bool {
        self.shown.key_frame
    }

    /// Width in pixels.
    #[getter]
    fn width(&self) -> u32 {
        self.shown.picture.width()
    }

    /// Height in pixels.
    #[getter]
    fn height(&self) -> u32 {
        self.shown.picture.height()
    }

    /// FFmpeg's name of the format in which the picture was coded, as in "yuv420p".
    #[getter]
    fn format(&self) -> &str {
        self.shown.picture.format()
    }

    /// The picture as an array of its own, converted with FFmpeg's default scaler.
    #[pyo3(signature = (format = "rgb24"))]
    fn to_ndarray<'py>(&self, py: Python<'py>, format: &str) -> PyResult<Bound<'py, PyAny>> {
        self.converters.convert(py, &self.shown.picture, Format::parse(format)?)
    }

    /// The planes of the picture as it was coded, each an array of its own.
    fn planes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        arrays::planes(py, &self.shown.picture)
    }

    /// What `to_ndarray("rgb24")` gives, for `numpy.asarray`.
    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            return Err(PyValueError::new_err("copy is False, and a frame's array is always a copy"));
        }
        let array = self.to_ndarray(py, "rgb24")?;
        match dtype {
            Some(dtype) => array.call_method1("astype", (dtype,)),
            None => Ok(array),
        }
    }

    fn __repr__(&self) -> String {
        let (picture, key) = (&self.shown.picture, if self.shown.key_frame { ", key" } else { "" });
        let (width, height, format) = (picture.width(), picture.height(), picture.format());
        format!("<braidcast.Frame {} at {:.3} s: {width}x{height} {format}{key}>", self.shown.index, self.shown.time)
    }
}
