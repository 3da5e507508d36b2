//! Kubernetes quantities, exact to a billionth.

use std::cmp::Ordering;

/// An amount, in billionths of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

/// The longest text read.
const BYTES_MAX: usize = 64;
const NANOS: i128 = 1_000_000_000;

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl Quantity {
    /// Reads `500m`, `1.5Gi`, `1e3`; fractions of a billionth are rounded away from zero, as in
    /// Kubernetes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
        let (numerator, mut exponent) = match BINARY.iter().find(|(name, _)| *name == suffix) {
            Some((_, bits)) => (digits.checked_mul(1 << bits)?, 0),
            None => match DECIMAL.iter().find(|(name, _)| *name == suffix) {
                Some((_, exponent)) => (digits, *exponent),
                None => (digits, exponent_of(suffix)?),
            },
        };
        exponent += 9 - i32::try_from(fraction.len()).ok()?;
        let nanos = if exponent >= 0 {
            numerator.checked_mul(10_i128.checked_pow(exponent.unsigned_abs())?)?
        } else {
            match 10_i128.checked_pow(exponent.unsigned_abs()) {
                Some(divisor) => numerator / divisor + i128::from(numerator % divisor != 0),
                None => i128::from(numerator != 0),
            }
        };
        Some(Self { nanos: if negative { -nanos } else { nanos } })
    }

    pub(crate) fn of_int(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANOS }
    }

    /// The amount, if it is a whole number of 64 bits.
    pub(crate) fn as_int(self) -> Option<i64> {
        if self.nanos % NANOS == 0 { i64::try_from(self.nanos / NANOS).ok() } else { None }
    }

    pub(crate) fn as_double(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    pub(crate) fn sign(self) -> i64 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        self.nanos.checked_add(other.nanos).map(|nanos| Self { nanos })
    }

    pub(crate) fn minus(self, other: Self) -> Option<Self> {
        self.nanos.checked_sub(other.nanos).map(|nanos| Self { nanos })
    }
}

/// `e3`, `E-6`
fn exponent_of(suffix: &str) -> Option<i32> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let value: i32 = digits.parse().ok()?;
    // Anything beyond is out of range either way.
    (value.abs() <= 60).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (one, two) in
            [("1", "1000m"), ("1Ki", "1024"), ("1.5Gi", "1536Mi"), ("1e3", "1k"), ("0.1", "100m"), ("1E", "1000P"), ("-1", "-1000m")]
        {
            assert_eq!(Quantity::parse(one), Quantity::parse(two), "{one} {two}");
            assert!(Quantity::parse(one).is_some());
        }
        assert!(Quantity::parse("1Gi") > Quantity::parse("1G"));
        for bad in ["", "Gi", "1 Gi", "1.2.3", "one", "1e", "--1", "1e99", "."] {
            assert_eq!(Quantity::parse(bad), None, "{bad}");
        }
        assert_eq!(Quantity::parse("2").and_then(Quantity::as_int), Some(2));
        assert_eq!(Quantity::parse("2500m").and_then(Quantity::as_int), None);
    }
}
