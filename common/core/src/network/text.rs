//! Layers in a few words.

use super::{Extent, Layer};
use std::fmt;

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [vertical, horizontal] = self.pair();
        write!(f, "{vertical}x{horizontal}")
    }
}

/// The layer's kind and settings in a few words, such as `conv2d 5 of 5x5, step 2x2`.
impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let window = |f: &mut fmt::Formatter<'_>, stride: &Extent, padding: &Extent| -> fmt::Result {
            if *stride != Extent::ONE {
                write!(f, ", step {stride}")?;
            }
            if padding.pair() != [0, 0] {
                write!(f, ", margin {padding}")?;
            }
            Ok(())
        };
        match self {
            Self::Dense { outputs } => write!(f, " {outputs}"),
            Self::Residual {
                outputs,
                scale,
                power,
            } => write!(f, " {outputs}, {scale} x^{power}"),
            Self::Conv2d {
                channels,
                kernel,
                stride,
                padding,
                groups,
            } => {
                write!(f, " {channels} of {kernel}")?;
                window(f, stride, padding)?;
                if *groups == 1 {
                    Ok(())
                } else {
                    write!(f, ", {groups} groups")
                }
            }
            Self::AveragePool {
                kernel,
                stride,
                padding,
            }
            | Self::SumPool {
                kernel,
                stride,
                padding,
            } => {
                write!(f, " {kernel}")?;
                window(f, &stride.unwrap_or(*kernel), padding)
            }
            Self::MaxPool { kernel, stride } => {
                write!(f, " {kernel}")?;
                window(f, &stride.unwrap_or(*kernel), &Extent::ZERO)
            }
            Self::Dropout { rate } => write!(f, " {rate}"),
            Self::Power { scale, power } => write!(f, " {scale} x^{power}"),
            Self::Polynomial { degree, per } => {
                let per = format!("{per:?}").to_lowercase();
                write!(f, " of degree {degree} per {per}")
            }
            Self::FixedPolynomial { coefficients } => {
                write!(f, " of degree {}", coefficients.len().saturating_sub(1))
            }
            _ => Ok(()),
        }
    }
}
