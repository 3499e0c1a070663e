//! Which instruction set the kernels use, chosen when a plan is built.

use crate::KernelError;

/// An instruction set that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SimdLevel {
    /// Plain Rust, on every processor. Multiplication and addition round separately.
    Scalar,
    /// NEON, on 64-bit ARM.
    Neon,
    /// AVX2 and FMA, on x86-64.
    Avx2,
    /// AVX-512F, on x86-64.
    Avx512,
}

impl SimdLevel {
    /// Values in a vector of the scalar level: as many as the commonest vectors have, so that both lay memory out alike.
    pub(crate) const SCALAR_LANES: usize = 8;

    /// Every level, slowest first.
    pub const ALL: [SimdLevel; 4] = [SimdLevel::Scalar, SimdLevel::Neon, SimdLevel::Avx2, SimdLevel::Avx512];

    /// The levels this processor can run, slowest first. Never empty.
    pub fn available() -> Vec<SimdLevel> {
        Self::ALL.into_iter().filter(|level| level.is_available()).collect()
    }

    /// Whether this processor can run the level.
    pub fn is_available(self) -> bool {
        match self {
            SimdLevel::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => crate::simd::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => crate::simd::Avx512::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => crate::simd::Neon::detect().is_some(),
            #[allow(unreachable_patterns, reason = "which levels remain depends on the target")]
            _ => false,
        }
    }

    /// The level that plans use: the one named by the environment variable `FIREBRICK_SIMD` (`scalar`, `neon`, `avx2` or
    /// `avx512`), or the fastest available where the variable is unset or empty.
    ///
    /// # Errors
    /// [`KernelError::UnknownLevel`] and [`KernelError::UnavailableLevel`]: a forced level is never replaced silently.
    pub fn from_environment() -> Result<SimdLevel, KernelError> {
        match std::env::var("FIREBRICK_SIMD") {
            Ok(value) if !value.is_empty() => value.parse::<SimdLevel>()?.require(),
            Err(std::env::VarError::NotUnicode(value)) => {
                Err(KernelError::UnknownLevel { value: value.to_string_lossy().into_owned() })
            }
            _ => Ok(Self::available().pop().expect("the scalar level is always available")),
        }
    }

    /// The level of [`from_environment`](SimdLevel::from_environment), asked for once in the life of the process: what
    /// operations on tensors use, which are too many to read the environment each time and cannot return its errors.
    ///
    /// # Panics
    /// If `FIREBRICK_SIMD` names no level or one that the processor lacks. A program that wants to report that asks
    /// `from_environment` first.
    pub fn in_use() -> SimdLevel {
        static LEVEL: std::sync::OnceLock<SimdLevel> = std::sync::OnceLock::new();
        *LEVEL.get_or_init(|| Self::from_environment().unwrap_or_else(|error| panic!("{error}")))
    }

    /// Runs `work` on this level.
    ///
    /// # Panics
    /// If the processor does not have it.
    pub(crate) fn run<W: crate::chain::Work>(self, work: W) -> W::Output {
        const UNAVAILABLE: &str = "the level was required to be available";
        match self {
            SimdLevel::Scalar => work.run(crate::simd::Scalar::<{ Self::SCALAR_LANES }>),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => work.run(crate::simd::Avx2::detect().expect(UNAVAILABLE)),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => work.run(crate::simd::Avx512::detect().expect(UNAVAILABLE)),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => work.run(crate::simd::Neon::detect().expect(UNAVAILABLE)),
            #[allow(unreachable_patterns, reason = "which levels remain depends on the target")]
            _ => panic!("{UNAVAILABLE}"),
        }
    }

    /// Values in a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            SimdLevel::Scalar => Self::SCALAR_LANES,
            SimdLevel::Neon => 4,
            SimdLevel::Avx2 => 8,
            SimdLevel::Avx512 => 16,
        }
    }

    /// This level, if the processor has it.
    pub(crate) fn require(self) -> Result<SimdLevel, KernelError> {
        if self.is_available() {
            Ok(self)
        } else {
            Err(KernelError::UnavailableLevel { asked: self, available: Self::available() })
        }
    }
}

impl std::fmt::Display for SimdLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SimdLevel::Scalar => "scalar",
            SimdLevel::Neon => "neon",
            SimdLevel::Avx2 => "avx2",
            SimdLevel::Avx512 => "avx512",
        })
    }
}

impl std::str::FromStr for SimdLevel {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Self, KernelError> {
        Self::ALL
            .into_iter()
            .find(|level| level.to_string().eq_ignore_ascii_case(name))
            .ok_or_else(|| KernelError::UnknownLevel { value: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_name_it_prints() {
        for level in SimdLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("AVX2".parse(), Ok(SimdLevel::Avx2));
    }

    #[test]
    fn refuses_a_level_that_does_not_exist() {
        let error = "sse9".parse::<SimdLevel>().unwrap_err();
        assert_eq!(error, KernelError::UnknownLevel { value: "sse9".to_owned() });
        assert!(error.to_string().contains("sse9") && error.to_string().contains("avx2"), "{error}");
    }

    #[test]
    fn refuses_a_level_of_another_processor() {
        let foreign = if cfg!(target_arch = "aarch64") { SimdLevel::Avx2 } else { SimdLevel::Neon };
        let error = foreign.require().unwrap_err();
        assert_eq!(
            error,
            KernelError::UnavailableLevel { asked: foreign, available: SimdLevel::available() }
        );
        assert!(error.to_string().contains("scalar"), "{error}");
    }

    #[test]
    fn always_has_the_scalar_level() {
        assert_eq!(SimdLevel::available()[0], SimdLevel::Scalar);
    }
}
