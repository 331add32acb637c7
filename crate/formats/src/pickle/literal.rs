//! Numbers and strings as the textual opcodes spell them, and integers of any length.

use super::Value;

/// The argument of INT: decimal, or `00` and `01` for booleans.
pub(super) fn int(line: &[u8]) -> Option<Value> {
    match line {
        b"00" => Some(Value::Bool(false)),
        b"01" => Some(Value::Bool(true)),
        _ => std::str::from_utf8(line).ok()?.parse().ok().map(Value::Int),
    }
}

/// The argument of LONG: decimal with an `L`.
pub(super) fn long(line: &[u8]) -> Option<i128> {
    std::str::from_utf8(line.strip_suffix(b"L").unwrap_or(line)).ok()?.parse().ok()
}

/// The argument of FLOAT.
pub(super) fn float(line: &[u8]) -> Option<f64> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// The argument of LONG1 and LONG4: two's complement, little-endian; at most 16 bytes.
pub(super) fn long_bytes(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.last().is_some_and(|&top| top >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(wide))
}

/// The argument of UNICODE: Latin-1 with `\uXXXX` and `\UXXXXXXXX` (raw-unicode-escape).
pub(super) fn unicode(line: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut rest = line;
    while let [byte, tail @ ..] = rest {
        let digits = match tail.first() {
            Some(b'u') if *byte == b'\\' => 4,
            Some(b'U') if *byte == b'\\' => 8,
            _ => 0,
        };
        if digits == 0 {
            text.push(char::from(*byte));
            rest = tail;
        } else {
            let code = std::str::from_utf8(tail.get(1..=digits)?).ok()?;
            text.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
            rest = &tail[digits + 1..];
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_those_of_python() {
        assert_eq!(int(b"01"), Some(Value::Bool(true)));
        assert_eq!(int(b"-7"), Some(Value::Int(-7)));
        assert_eq!(long(b"18446744073709551615L"), Some(u64::MAX.into()));
        assert_eq!(float(b"1e-05"), Some(1e-5));
        assert!(float(b"nan").unwrap().is_nan());
        assert_eq!(long_bytes(b""), Some(0));
        assert_eq!(long_bytes(b"\x00\xff"), Some(-256));
        assert_eq!(long_bytes(&[1; 17]), None);
        assert_eq!(unicode(b"a\\u20acb\xe9").as_deref(), Some("a\u{20ac}b\u{e9}"));
        assert_eq!(unicode(b"\\u12"), None);
    }
}
