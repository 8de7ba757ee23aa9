//! Which instructions the kernels use: found out once at run time, or stated.

#[cfg(target_arch = "x86_64")]
use super::ifma;
use core::fmt;
use std::sync::OnceLock;
use thiserror::Error;

/// The environment variable that states a backend instead of leaving the choice to detection.
pub const ENVIRONMENT_VARIABLE: &str = "GALEN_KERNEL";

/// A set of instructions that the kernels are written for. All give the same residues bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// AVX-512 with 52-bit integer multiply-add: eight lanes.
    Ifma,
    /// AVX2 and FMA: four lanes, products in doubles and in 25-bit halves.
    Avx2,
    /// Integer code for any CPU.
    Portable,
}

impl Backend {
    /// All backends, the fastest first.
    pub const ALL: [Self; 3] = [Self::Ifma, Self::Avx2, Self::Portable];

    /// The name, as in [`ENVIRONMENT_VARIABLE`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ifma => "ifma",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether this CPU runs it.
    #[must_use]
    pub fn is_supported(self) -> bool {
        Token::detect(self).is_some()
    }

    /// The fastest that this CPU runs.
    #[must_use]
    pub fn detect() -> Self {
        Self::ALL
            .into_iter()
            .find(|backend| backend.is_supported())
            .unwrap_or(Self::Portable)
    }

    fn needs(self) -> &'static str {
        match self {
            Self::Ifma => "AVX-512 F, BW, CD, DQ, VL and IFMA",
            Self::Avx2 => "AVX2, FMA, BMI1, BMI2 and LZCNT",
            Self::Portable => "nothing",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::str::FromStr for Backend {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Self, BackendError> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| BackendError::Unknown {
                name: name.to_owned(),
            })
    }
}

/// Why a stated backend cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BackendError {
    /// There is none of this name.
    #[error("no kernel backend is called {name:?}; {ENVIRONMENT_VARIABLE} is one of ifma, avx2, portable")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The CPU lacks instructions.
    #[error("this CPU does not run the kernel backend {backend}, which needs {}", .backend.needs())]
    Unsupported {
        /// What was asked for.
        backend: Backend,
    },
}

/// The backend that [`ENVIRONMENT_VARIABLE`] states, or the fastest that this CPU runs where it is unset or empty.
///
/// # Errors
/// [`BackendError`] where the variable states what does not exist or does not run here. [`active`] then goes by
/// detection, so a program that takes the variable seriously calls this once at its start and reports the error.
pub fn select() -> Result<Backend, BackendError> {
    match std::env::var_os(ENVIRONMENT_VARIABLE) {
        Some(name) if !name.is_empty() => {
            let backend: Backend = name.to_string_lossy().parse()?;
            if backend.is_supported() {
                Ok(backend)
            } else {
                Err(BackendError::Unsupported { backend })
            }
        }
        _ => Ok(Backend::detect()),
    }
}

/// The backend in use: decided by [`select`] on the first call, by detection alone where that is an error.
#[must_use]
pub fn active() -> Backend {
    Token::active().backend()
}

/// What to say about the kernels of this process: backend, why it was chosen, what the CPU has.
#[must_use]
pub fn describe() -> String {
    let reason = match (std::env::var_os(ENVIRONMENT_VARIABLE), select()) {
        (Some(name), Ok(_)) if !name.is_empty() => format!("stated by {ENVIRONMENT_VARIABLE}"),
        (_, Ok(_)) => "the fastest that this CPU runs".to_owned(),
        (_, Err(error)) => format!("by detection: {error}"),
    };
    let supported: Vec<&str> = Backend::ALL
        .into_iter()
        .filter(|backend| backend.is_supported())
        .map(Backend::name)
        .collect();
    format!(
        "kernels: {} ({reason})\nkernels that this CPU runs: {}\nCPU features: {}\nnumber-theoretic transforms: \
         tfhe-ntt, which chooses its instructions by itself",
        active(),
        supported.join(", "),
        features()
    )
}

#[cfg(target_arch = "x86_64")]
fn features() -> String {
    let features = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::arch::is_x86_feature_detected!("avx512bw")),
        ("avx512cd", std::arch::is_x86_feature_detected!("avx512cd")),
        ("avx512dq", std::arch::is_x86_feature_detected!("avx512dq")),
        ("avx512vl", std::arch::is_x86_feature_detected!("avx512vl")),
        ("avx512ifma", std::arch::is_x86_feature_detected!("avx512ifma")),
    ];
    let present: Vec<&str> = features
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect();
    format!("x86_64 {}", present.join(" "))
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> String {
    std::env::consts::ARCH.to_owned()
}

/// A backend with the proof that this CPU runs it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Token {
    #[cfg(target_arch = "x86_64")]
    Ifma(ifma::Ifma),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    Portable,
}

impl Token {
    pub(super) fn detect(backend: Backend) -> Option<Self> {
        match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Ifma => ifma::Ifma::try_new().map(Self::Ifma),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => pulp::x86::V3::try_new().map(Self::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            Backend::Ifma | Backend::Avx2 => None,
            Backend::Portable => Some(Self::Portable),
        }
    }

    #[inline]
    pub(super) fn active() -> Self {
        static ACTIVE: OnceLock<Token> = OnceLock::new();
        *ACTIVE.get_or_init(|| {
            let backend = select().unwrap_or_else(|_| Backend::detect());
            Self::detect(backend).unwrap_or(Self::Portable)
        })
    }

    pub(super) fn backend(self) -> Backend {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(_) => Backend::Ifma,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Backend::Avx2,
            Self::Portable => Backend::Portable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for backend in Backend::ALL {
            assert_eq!(backend.name().parse(), Ok(backend));
            assert_eq!(backend.to_string(), backend.name());
        }
        let error = "AVX2".parse::<Backend>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no kernel backend is called \"AVX2\"; GALEN_KERNEL is one of ifma, avx2, portable"
        );
    }

    #[test]
    fn the_portable_one_runs_everywhere() {
        assert!(Backend::Portable.is_supported());
        assert!(active().is_supported());
        assert!(describe().contains(active().name()));
    }

    #[test]
    fn what_the_cpu_lacks_is_said() {
        let error = BackendError::Unsupported {
            backend: Backend::Ifma,
        };
        assert_eq!(
            error.to_string(),
            "this CPU does not run the kernel backend ifma, which needs AVX-512 F, BW, CD, DQ, VL and IFMA"
        );
    }
}
