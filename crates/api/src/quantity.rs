//! Kubernetes quantities (`500m`, `2`, `1.5Gi`, `3e2`) as exact integers of thousandths.
//!
//! Syntax and meaning:
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths of its unit: `1` is 1000, `500m` is 500.
pub type Milli = i128;

/// The longest text read as a quantity, in bytes.
pub const TEXT_LENGTH_MAX: usize = 64;

/// Reads a quantity; fractions of a thousandth are rounded up, away from giving too little.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse(text: &str) -> Result<Milli, String> {
    let wrong = || format!("`{text}` is not a quantity; write it like 500m, 2, 1.5, 512Mi or 10Gi");
    if text.is_empty() || text.len() > TEXT_LENGTH_MAX {
        return Err(wrong());
    }
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number_end = body.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(body.len());
    let (number, suffix) = body.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(wrong());
    }
    // value = digits * numerator / denominator, in thousandths
    let mut digits: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        digits = digits.checked_mul(10).and_then(|d| d.checked_add(i128::from(digit - b'0'))).ok_or_else(wrong)?;
    }
    let mut denominator: i128 = 10_i128.checked_pow(u32::try_from(fraction.len()).map_err(|_| wrong())?).ok_or_else(wrong)?;
    let mut numerator: i128 = 1000;
    match suffix {
        "" => {}
        "n" => denominator = denominator.checked_mul(1_000_000_000).ok_or_else(wrong)?,
        "u" => denominator = denominator.checked_mul(1_000_000).ok_or_else(wrong)?,
        "m" => denominator = denominator.checked_mul(1_000).ok_or_else(wrong)?,
        "k" => numerator *= 1_000,
        "M" => numerator *= 1_000_000,
        "G" => numerator *= 1_000_000_000,
        "T" => numerator *= 1_000_000_000_000,
        "P" => numerator *= 1_000_000_000_000_000,
        "E" => numerator *= 1_000_000_000_000_000_000,
        "Ki" => numerator <<= 10,
        "Mi" => numerator <<= 20,
        "Gi" => numerator <<= 30,
        "Ti" => numerator <<= 40,
        "Pi" => numerator <<= 50,
        "Ei" => numerator <<= 60,
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or_else(wrong)?;
            let exponent: i32 = exponent.parse().map_err(|_| wrong())?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs()).ok_or_else(wrong)?;
            if exponent >= 0 {
                numerator = numerator.checked_mul(power).ok_or_else(wrong)?;
            } else {
                denominator = denominator.checked_mul(power).ok_or_else(wrong)?;
            }
        }
    }
    let scaled = digits.checked_mul(numerator).ok_or_else(wrong)?;
    let value = scaled / denominator + i128::from(scaled % denominator != 0);
    Ok(if negative { -value } else { value })
}

/// Reads a quantity of the API, which admission has checked; a wrong one counts as zero.
pub fn milli(quantity: &Quantity) -> Milli {
    parse(&quantity.0).unwrap_or(0)
}

/// Whole units, rounded up: bytes of memory, cards.
pub fn units(quantity: &Quantity) -> i128 {
    let milli = milli(quantity);
    milli / 1000 + i128::from(milli % 1000 > 0)
}

/// Writes a count of thousandths of `resource` the way people read it: cores with their
/// thousandths, bytes in the largest binary unit that is exact or three digits long.
pub fn format(resource: &str, value: Milli) -> String {
    let bytes = resource == "memory" || resource.ends_with("storage");
    if !bytes {
        return if value % 1000 == 0 { (value / 1000).to_string() } else { format!("{value}m") };
    }
    let bytes = value / 1000;
    for (shift, unit) in [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
        let one = 1_i128 << shift;
        if bytes.abs() >= one {
            let tenths = (bytes * 10) / one;
            return if tenths % 10 == 0 || tenths.abs() >= 1000 {
                format!("{}{unit}", tenths / 10)
            } else {
                format!("{}.{}{unit}", tenths / 10, (tenths % 10).abs())
            };
        }
    }
    bytes.to_string()
}

/// Writes a count of thousandths of `resource` exactly: bytes in the largest binary unit that
/// loses nothing.
pub fn exact(resource: &str, value: Milli) -> String {
    let bytes = resource == "memory" || resource.ends_with("storage");
    if !bytes || value % 1000 != 0 {
        return if value % 1000 == 0 { (value / 1000).to_string() } else { format!("{value}m") };
    }
    let bytes = value / 1000;
    let unit = [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")]
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes % (1_i128 << shift) == 0);
    match unit {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact() {
        for (text, milli) in [
            ("500m", 500),
            ("2", 2000),
            ("1.5", 1500),
            ("1Gi", 1_073_741_824_000),
            ("1.5Gi", 1_610_612_736_000),
            ("1G", 1_000_000_000_000),
            ("3e2", 300_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("2E3", 2_000_000),
            ("1u", 1),
            ("-1", -1000),
            (".5", 500),
        ] {
            assert_eq!(parse(text), Ok(milli), "{text}");
        }
    }

    #[test]
    fn wrong_quantities_are_refused() {
        for text in ["", "x", "1x", "1.2.3", "--1", "1 Gi", "1e", "e3", "1e999", "99999999999999999999999999999999999999999", "Gi", "."] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn exact_amounts_lose_nothing() {
        for text in ["1500Mi", "1Gi", "1536Mi", "100m", "2", "1001", "0", "3Ti"] {
            let resource = if text.ends_with('m') || text == "2" { "cpu" } else { "memory" };
            assert_eq!(exact(resource, parse(text).expect("a quantity")), text);
        }
        assert_eq!(exact("memory", parse("1.5Gi").expect("a quantity")), "1536Mi");
    }

    #[test]
    fn amounts_read_well() {
        assert_eq!(format("cpu", 1500), "1500m");
        assert_eq!(format("cpu", 2000), "2");
        assert_eq!(format("memory", 1_610_612_736_000), "1.5Gi");
        assert_eq!(format("memory", 512 * 1024 * 1000), "512Ki");
        assert_eq!(format("memory", 5_000), "5");
    }
}
