//! Zip archives put together by hand, so that they can be wrong in any place.

/// A zip archive of stored members; `patch` may spoil each entry of its directory.
pub fn zip(members: &[(&str, &[u8])], patch: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in members {
        let header = out.len() as u32;
        out.extend(b"PK\x03\x04");
        out.extend([0; 22]);
        out.extend((name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
        out.extend(name.as_bytes());
        out.extend(*data);
        let mut entry = b"PK\x01\x02".to_vec();
        entry.extend([0; 16]);
        entry.extend((data.len() as u32).to_le_bytes());
        entry.extend((data.len() as u32).to_le_bytes());
        entry.extend((name.len() as u16).to_le_bytes());
        entry.extend([0; 12]);
        entry.extend(header.to_le_bytes());
        entry.extend(name.as_bytes());
        patch(&mut entry);
        directory.extend(entry);
    }
    let at = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0; 2]);
    out
}
