//! The CRC-32 of zip, PNG and Ethernet (IEEE 802.3), eight bytes a step.

/// `TABLES[k][byte]`: what `byte` does to the remainder when `k` more bytes follow it.
const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = (rest >> 1) ^ (0xedb8_8320 * (rest & 1));
            bit += 1;
        }
        tables[0][byte] = rest;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ tables[0][(before & 255) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

/// The checksum of `bytes`.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let (steps, rest) = bytes.as_chunks::<8>();
    let crc = steps.iter().fold(!0u32, |crc, step| {
        let [a, b, c, d] = crc.to_le_bytes();
        let mixed = [step[0] ^ a, step[1] ^ b, step[2] ^ c, step[3] ^ d, step[4], step[5], step[6], step[7]];
        (0..8).fold(0, |crc, k| crc ^ TABLES[7 - k][mixed[k] as usize])
    });
    !rest.iter().fold(crc, |crc, byte| (crc >> 8) ^ TABLES[0][((crc ^ u32::from(*byte)) & 255) as usize])
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn it_is_the_checksum_of_zip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value of every catalogue");
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"The quick brown fox jumps over the lazy dog"), 0x414f_a339);
    }
}
