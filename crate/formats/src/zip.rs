//! The directory of a zip archive, and where the bytes of its stored members lie.
//!
//! Sizes come from the central directory, because torch leaves those of local headers at zero.
//! Compressed members are refused: torch stores, and a bomb cannot hide in what is not unpacked.
//! Source: PKWARE APPNOTE 6.3, sections 4.3 and 4.5.3 (zip64).

use statepress_core::words::counted;
use std::collections::BTreeMap;

use statepress_core::Source;
use statepress_core::index::Extent;
use statepress_core::limits::HEADER_BYTES;

use crate::FormatError;
use crate::cursor::{Cursor, range_end, read};

const PART: &str = "zip directory";

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const ZIP64_END: [u8; 4] = *b"PK\x06\x06";
const ZIP64_LOCATOR: [u8; 4] = *b"PK\x06\x07";

/// Bytes of a local header without its name, of the end record without its comment, of the zip64
/// locator and of the zip64 end record.
const LOCAL_BYTES: u64 = 30;
const END_BYTES: u64 = 22;
const LOCATOR_BYTES: u64 = 20;
const ZIP64_END_BYTES: u64 = 56;

/// The extra field that holds 64-bit sizes and offsets.
const ZIP64_EXTRA: u16 = 1;

/// An archive by its directory.
pub(crate) struct Archive<'a> {
    source: &'a dyn Source,
    members: BTreeMap<String, Member>,
}

struct Member {
    encrypted: bool,
    method: u16,
    packed: u64,
    size: u64,
    /// Offset of the local header.
    header: u64,
}

impl<'a> Archive<'a> {
    /// Reads the directory.
    pub(crate) fn open(source: &'a dyn Source) -> Result<Self, FormatError> {
        let (count, size, offset) = find_directory(source)?;
        if size > HEADER_BYTES {
            let what = "bytes of the zip directory".into();
            return Err(FormatError::TooLarge { what, value: size, limit: HEADER_BYTES });
        }
        let mut cursor = Cursor::new(source, PART, offset, size)?;
        let mut members = BTreeMap::new();
        for _ in 0..count {
            let (name, member) = read_member(&mut cursor)?;
            if members.contains_key(&name) {
                return Err(FormatError::malformed(PART, format!("`{name}` occurs twice")));
            }
            members.insert(name, member);
        }
        if cursor.left() > 0 {
            let why = format!("it has {} after its last entry", counted(cursor.left(), "byte", "bytes"));
            return Err(FormatError::malformed(PART, why));
        }
        Ok(Self { source, members })
    }

    /// The names of all members, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Where the bytes of a member lie, if there is such a member.
    pub(crate) fn extent(&self, name: &str) -> Result<Option<Extent>, FormatError> {
        let Some(member) = self.members.get(name) else { return Ok(None) };
        if member.encrypted || member.method != 0 {
            let how = if member.encrypted { "encrypted" } else { "compressed" };
            return Err(FormatError::unsupported(
                format!("the zip member `{name}` is {how} (method {})", member.method),
                "torch.save and numpy.savez (not savez_compressed) store members as they are: unpack the archive and pack it again with `zip -0`",
            ));
        }
        let wrong = |why: &str| FormatError::malformed(PART, format!("`{name}`: {why}"));
        if member.packed != member.size {
            return Err(wrong("it is stored, but its two sizes differ"));
        }
        // One read for what is expected: each may cost a call into the platform.
        let expected = LOCAL_BYTES.saturating_add(name.len() as u64);
        let local = read(self.source, "a local zip header", member.header, expected)?;
        let (fixed, local_name) = local.split_at(LOCAL_BYTES as usize);
        if fixed[..4] != LOCAL {
            return Err(wrong("there is no local header at its offset"));
        }
        let short = |at: usize| u64::from(u16::from_le_bytes([fixed[at], fixed[at + 1]]));
        if short(26) != name.len() as u64 || local_name != name.as_bytes() {
            return Err(wrong("its local header has another name"));
        }
        let offset = member.header.saturating_add(expected).saturating_add(short(28));
        range_end(self.source, &format!("the zip member `{name}`"), offset, member.size)?;
        Ok(Some(Extent { offset, len: member.size }))
    }

    /// The bytes of a small member, if there is such a member.
    pub(crate) fn read_small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, FormatError> {
        let Some(extent) = self.extent(name)? else { return Ok(None) };
        if extent.len > limit {
            let what = format!("bytes of the zip member `{name}`");
            return Err(FormatError::TooLarge { what, value: extent.len, limit });
        }
        read(self.source, name, extent.offset, extent.len).map(Some)
    }
}

/// The number of members, and the size and offset of the central directory.
///
/// The comment of the end record ends the file. Where no record is like that, bytes were appended (a newline, the zeros
/// of a tape): the last record counts whose directory lies before it, as torch's reader has it.
fn find_directory(source: &dyn Source) -> Result<(u64, u64, u64), FormatError> {
    let tail_len = source.len().min(END_BYTES + u64::from(u16::MAX) + 1);
    let tail_at = source.len() - tail_len;
    let tail = read(source, PART, tail_at, tail_len)?;
    let number = |at: usize, len: usize| {
        tail[at..at + len].iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte))
    };
    let places = || {
        let all = (0..tail.len().saturating_sub(END_BYTES as usize - 1)).rev();
        all.filter(|&at| tail[at..at + 4] == END)
    };
    let ends_file = |&at: &usize| at as u64 + END_BYTES + number(at + 20, 2) == tail_len;
    let is_behind = |&at: &usize| {
        let (size, offset) = (number(at + 12, 4), number(at + 16, 4));
        let wide = offset == u64::from(u32::MAX) || size == u64::from(u32::MAX);
        size > 0 && (wide || offset + size <= tail_at + at as u64)
    };
    let Some(at) = places().find(ends_file).or_else(|| places().find(is_behind)) else {
        let what = "a zip archive without its central directory".into();
        return Err(FormatError::Truncated { what, len: source.len() });
    };
    let end_at = tail_at + at as u64;
    let mut end = Cursor::new(source, PART, end_at + 10, 10)?;
    let (count, size, offset) = (u64::from(end.u16()?), u64::from(end.u32()?), u64::from(end.u32()?));
    let saturated =
        count == u64::from(u16::MAX) || size == u64::from(u32::MAX) || offset == u64::from(u32::MAX);
    if !saturated {
        return Ok((count, size, offset));
    }
    let missing = || FormatError::malformed(PART, "its zip64 end record is missing");
    let locator_at = end_at.checked_sub(LOCATOR_BYTES).ok_or_else(missing)?;
    let mut locator = Cursor::new(source, PART, locator_at, LOCATOR_BYTES)?;
    if locator.array()? != ZIP64_LOCATOR {
        return Err(missing());
    }
    locator.u32()?;
    let mut end = Cursor::new(source, PART, locator.u64()?, ZIP64_END_BYTES)?;
    if end.array()? != ZIP64_END {
        return Err(missing());
    }
    end.array::<28>()?;
    Ok((end.u64()?, end.u64()?, end.u64()?))
}

/// One entry of the central directory.
fn read_member(cursor: &mut Cursor<'_>) -> Result<(String, Member), FormatError> {
    if cursor.array()? != CENTRAL {
        return Err(FormatError::malformed(PART, "an entry does not begin with its signature"));
    }
    cursor.array::<4>()?;
    let encrypted = cursor.u16()? & 1 != 0;
    let method = cursor.u16()?;
    cursor.array::<8>()?;
    let (packed, size) = (cursor.u32()?, cursor.u32()?);
    let (name_len, extra_len, comment_len) = (cursor.u16()?, cursor.u16()?, cursor.u16()?);
    cursor.array::<8>()?;
    let header = cursor.u32()?;
    let name = String::from_utf8_lossy(&cursor.take(name_len.into())?).into_owned();
    let extra = cursor.take(extra_len.into())?;
    cursor.take(comment_len.into())?;

    // Saturated fields are in the zip64 extra field, in this order.
    let mut wide = zip64_values(&extra);
    let mut resolve = |narrow: u32| match narrow {
        u32::MAX => wide.next().ok_or_else(|| {
            FormatError::malformed(PART, format!("`{name}` has no zip64 field for its size or offset"))
        }),
        _ => Ok(u64::from(narrow)),
    };
    let size = resolve(size)?;
    let packed = resolve(packed)?;
    let header = resolve(header)?;
    Ok((name, Member { encrypted, method, packed, size, header }))
}

/// The numbers of the zip64 extra field.
fn zip64_values(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut field: &[u8] = &[];
    while let [id_low, id_high, len_low, len_high, rest @ ..] = extra {
        let len = usize::from(u16::from_le_bytes([*len_low, *len_high])).min(rest.len());
        let (data, next) = rest.split_at(len);
        if u16::from_le_bytes([*id_low, *id_high]) == ZIP64_EXTRA {
            field = data;
        }
        extra = next;
    }
    field.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect::<Vec<_>>().into_iter()
}
