//! What computes: the one place that names burn's backends. To add one: a variant here, and what makes its device.

use burn::tensor::Device as BurnDevice;

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The CPU, by burn-flex: pure Rust with SIMD.
    Flex,
    /// The CPU, by burn-ndarray, which burn-flex is the successor of.
    #[cfg(feature = "ndarray")]
    NdArray,
}

impl Device {
    /// Every one that is built in, the fastest first.
    pub const ALL: &[Self] = &[
        Self::Flex,
        #[cfg(feature = "ndarray")]
        Self::NdArray,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            #[cfg(feature = "ndarray")]
            Self::NdArray => "ndarray",
        }
    }

    /// Where tensors lie; without gradients.
    pub(crate) fn burn(self) -> BurnDevice {
        match self {
            Self::Flex => BurnDevice::flex(),
            #[cfg(feature = "ndarray")]
            #[expect(
                deprecated,
                reason = "burn keeps it for those who ask for it, and names flex its successor"
            )]
            Self::NdArray => BurnDevice::ndarray(),
        }
    }
}
