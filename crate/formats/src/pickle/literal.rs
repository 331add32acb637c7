//! Numbers and strings as the textual opcodes spell them, and integers of any length.

/// Bytes of an integer whose digits are written out.
const DIGITS_BYTES: usize = 1024;

/// An integer of any length.
#[derive(Debug, PartialEq)]
pub(super) enum Whole {
    Small(i64),
    /// Its decimal digits, or of a very long one its size.
    Large(String),
}

/// The argument of INT: decimal, or `00` and `01` for booleans.
pub(super) fn boolean(line: &[u8]) -> Option<bool> {
    match line {
        b"00" => Some(false),
        b"01" => Some(true),
        _ => None,
    }
}

/// The argument of INT and LONG: decimal, the latter with an `L`.
pub(super) fn whole(line: &[u8]) -> Option<Whole> {
    let text = std::str::from_utf8(line.strip_suffix(b"L").unwrap_or(line)).ok()?;
    if let Ok(value) = text.parse() {
        return Some(Whole::Small(value));
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    decimal.then(|| match digits.len() {
        0..=DIGITS_BYTES => Whole::Large(text.into()),
        len => Whole::Large(format!("an integer of {len} digits")),
    })
}

/// The argument of LONG1 and LONG4: two's complement, little-endian.
pub(super) fn long_bytes(bytes: &[u8]) -> Whole {
    let negative = bytes.last().is_some_and(|&top| top >= 0x80);
    if bytes.len() <= 8 {
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        return Whole::Small(i64::from_le_bytes(wide));
    }
    if bytes.len() > DIGITS_BYTES {
        return Whole::Large(format!("an integer of {} bytes", bytes.len()));
    }
    // The magnitude in 32-bit limbs, divided by 10^9 until nothing is left.
    let mut carry = u16::from(negative);
    let magnitude = bytes.iter().map(|&byte| {
        let sum = u16::from(if negative { !byte } else { byte }) + carry;
        carry = sum >> 8;
        sum as u8
    });
    let mut limbs: Vec<u32> = Vec::new();
    for (at, byte) in magnitude.enumerate() {
        if at % 4 == 0 {
            limbs.push(0);
        }
        if let Some(limb) = limbs.last_mut() {
            *limb |= u32::from(byte) << (8 * (at % 4));
        }
    }
    let mut groups = Vec::new();
    while limbs.iter().any(|&limb| limb > 0) {
        let mut rest = 0u64;
        for limb in limbs.iter_mut().rev() {
            let value = rest << 32 | u64::from(*limb);
            *limb = (value / 1_000_000_000) as u32;
            rest = value % 1_000_000_000;
        }
        groups.push(rest);
    }
    let mut text = String::from(if negative { "-" } else { "" });
    let first = groups.pop().unwrap_or(0);
    text += &first.to_string();
    groups.iter().rev().for_each(|group| text += &format!("{group:09}"));
    text.parse().map_or(Whole::Large(text), Whole::Small)
}

/// The argument of STRING: in quotes, with Python's escapes.
pub(super) fn quoted(line: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = line.trim_ascii_end().split_first()?;
    let body = rest.strip_suffix(std::slice::from_ref(first)).filter(|_| matches!(first, b'\'' | b'"'))?;
    let mut out = Vec::new();
    let mut bytes = body.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'x' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some(out)
}

/// The argument of FLOAT.
pub(super) fn float(line: &[u8]) -> Option<f64> {
    std::str::from_utf8(line).ok()?.parse().ok()
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
            // Half of a surrogate pair is no character, but Python's strings may hold one.
            let code = u32::from_str_radix(code, 16).ok()?;
            text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
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
        assert_eq!((boolean(b"01"), boolean(b"1")), (Some(true), None));
        assert_eq!(whole(b"-7"), Some(Whole::Small(-7)));
        assert_eq!(whole(b"18446744073709551615L"), Some(Whole::Large("18446744073709551615".into())));
        assert_eq!(whole(b"12a"), None);
        assert_eq!(whole(&[b'9'; 5000]), Some(Whole::Large("an integer of 5000 digits".into())));
        assert_eq!(float(b"1e-05"), Some(1e-5));
        assert!(float(b"nan").unwrap().is_nan());
        assert_eq!(quoted(b"'a\\n\\x41\\''"), Some(b"a\nA'".to_vec()));
        assert_eq!(quoted(b"'a"), None);
        assert_eq!(unicode(b"a\\u20acb\xe9").as_deref(), Some("a\u{20ac}b\u{e9}"));
        assert_eq!(unicode(b"\\udc80").as_deref(), Some("\u{fffd}"));
        assert_eq!(unicode(b"\\u12"), None);
    }

    #[test]
    fn integers_of_any_length_are_their_digits() {
        assert_eq!(long_bytes(b""), Whole::Small(0));
        assert_eq!(long_bytes(b"\x00\xff"), Whole::Small(-256));
        assert_eq!(long_bytes(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"), Whole::Small(-1));
        // 2 ** 200 and its opposite, by Python.
        let digits = "1606938044258990275541962092341162602522202993782792835301376";
        let mut bytes = vec![0; 25];
        bytes.push(1);
        assert_eq!(long_bytes(&bytes), Whole::Large(digits.into()));
        bytes[25] = 0xff;
        assert_eq!(long_bytes(&bytes), Whole::Large(format!("-{digits}")));
        assert_eq!(long_bytes(&[1; 2000]), Whole::Large("an integer of 2000 bytes".into()));
    }
}
