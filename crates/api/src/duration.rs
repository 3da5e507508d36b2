//! Spans of time as people write them: `90s`, `2h30m`, `1d`.

use std::time::Duration;

/// The longest span accepted anywhere: ten years.
pub const SPAN_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Reads a span made of whole numbers with the units d, h, m, s, each at most once and in
/// that order.
///
/// # Errors
/// Says which part is wrong and how a span is written.
pub fn parse(text: &str) -> Result<Duration, String> {
    const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    let hint = "write it like 90s, 15m, 2h30m or 7d";
    let mut seconds: u64 = 0;
    let mut allowed = &UNITS[..];
    let mut rest = text;
    if rest.is_empty() {
        return Err(format!("a span of time is empty; {hint}"));
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| format!("`{text}` has no unit at its end; {hint}"))?;
        let number: u64 = rest[..digits].parse().map_err(|_| format!("`{text}` is not a span of time; {hint}"))?;
        let unit = rest[digits..].chars().next().unwrap_or_default();
        let place = allowed
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(|| format!("`{text}`: `{unit}` is not expected there; {hint}"))?;
        seconds = number
            .checked_mul(allowed[place].1)
            .and_then(|part| seconds.checked_add(part))
            .filter(|total| *total <= SPAN_MAX.as_secs())
            .ok_or_else(|| format!("`{text}` is longer than ten years"))?;
        allowed = &allowed[place + 1..];
        rest = &rest[digits + unit.len_utf8()..];
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_written() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h30m", 9000), ("1d1s", 86_401), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn wrong_spans_say_how_to_write_one() {
        for text in ["", "5", "h", "-5s", "5x", "5s5m", "1h1h", "99999999999999999999s", "400000d", "5é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
