//! The device on which a model is trained.

/// Where training computes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) inner: burn::tensor::Device,
    /// Whether convolutions and poolings are quicker on images that lie one after the other than on gathered windows: on GPUs, where the
    /// gradient of a gathering adds row to row.
    pub(crate) by_images: bool,
}

/// A device that this program cannot train on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No device has this name.
    #[error("unknown device \"{name}\": the devices are \"cpu\", \"cuda\" and \"wgpu\"")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The device exists, but this program was built without it.
    #[error(
        "this program was built without \"{name}\": build it with `--features {name}` or set device = \"cpu\""
    )]
    NotBuilt {
        /// The name, which is also that of the cargo feature.
        name: &'static str,
    },
    /// Nothing answers under this name.
    #[error(
        "no GPU answers as \"{name}\": install its driver and, for wgpu, a Vulkan loader with what the driver loads (in Debian libvulkan1, \
         and libegl1 and libxext6 for NVIDIA's), or set device = \"cpu\""
    )]
    NoAnswer {
        /// The name.
        name: &'static str,
    },
}

impl Device {
    /// The CPU: always there, single-threaded, reproducible to the bit.
    pub fn cpu() -> Self {
        Self {
            inner: burn::tensor::Device::flex(),
            by_images: false,
        }
    }

    /// The device with a name from a configuration file: `cpu`, `cuda` (the first CUDA device) or `wgpu` (the default adapter).
    ///
    /// The GPU devices need the cargo feature of the same name.
    pub fn by_name(name: &str) -> Result<Self, DeviceError> {
        match name {
            "cpu" => Ok(Self::cpu()),
            #[cfg(feature = "cuda")]
            "cuda" => Self::gpu("cuda", burn::tensor::Device::cuda(0)),
            #[cfg(not(feature = "cuda"))]
            "cuda" => Err(DeviceError::NotBuilt { name: "cuda" }),
            #[cfg(feature = "wgpu")]
            "wgpu" => Self::gpu(
                "wgpu",
                burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
            ),
            #[cfg(not(feature = "wgpu"))]
            "wgpu" => Err(DeviceError::NotBuilt { name: "wgpu" }),
            _ => Err(DeviceError::Unknown {
                name: name.to_owned(),
            }),
        }
    }

    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn gpu(name: &'static str, inner: burn::tensor::Device) -> Result<Self, DeviceError> {
        if !answers(&inner) {
            return Err(DeviceError::NoAnswer { name });
        }
        Ok(Self {
            inner,
            by_images: true,
        })
    }
}

/// Whether a device computes. burn looks for a GPU when it first computes, and panics if there is none.
#[cfg(any(test, feature = "cuda", feature = "wgpu"))]
fn answers(inner: &burn::tensor::Device) -> bool {
    use std::panic;
    let report = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let answer = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let ones = burn::tensor::Tensor::<1>::ones([2], inner);
        ones.sum().into_scalar::<f32>()
    }));
    panic::set_hook(report);
    answer.is_ok_and(|sum| sum == 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_answers() {
        assert!(answers(&Device::cpu().inner));
    }

    #[test]
    fn names() {
        assert!(Device::by_name("cpu").is_ok());
        let error = Device::by_name("gpu").unwrap_err().to_string();
        assert!(error.contains("\"gpu\"") && error.contains("cuda"), "{error}");
    }

    /// On a machine without one, the error says what to do; on others, it computes.
    #[cfg(feature = "wgpu")]
    #[test]
    fn a_gpu_answers_or_is_said_to_be_missing() {
        if let Err(error) = Device::by_name("wgpu") {
            assert_eq!(error, DeviceError::NoAnswer { name: "wgpu" });
            assert!(error.to_string().contains("libvulkan1"), "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_was_not_built_says_how_to_build_it() {
        let error = Device::by_name("cuda").unwrap_err();
        assert_eq!(error, DeviceError::NotBuilt { name: "cuda" });
        assert!(error.to_string().contains("--features cuda"), "{error}");
    }
}
