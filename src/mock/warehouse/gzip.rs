//! A gzip file (RFC 1952) whose data is stored, not compressed: enough for a few rows, without a library.

/// The most that one stored block holds (RFC 1951 section 3.2.4).
const MAX_BLOCK: usize = 65_535;

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    // Magic, deflate, no flags, no time, no level, unknown system.
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = data.chunks(MAX_BLOCK).len().max(1);
    for index in 0..blocks {
        let start = index * MAX_BLOCK;
        let end = data.len().min(start + MAX_BLOCK);
        let block = data.get(start..end).unwrap_or_default();
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        file.push(u8::from(index + 1 == blocks));
        file.extend(length.to_le_bytes());
        file.extend((!length).to_le_bytes());
        file.extend(block);
    }
    file.extend(crc32(data).to_le_bytes());
    // Modulo 2^32, as the RFC wants it.
    let size = u32::try_from(data.len() & 0xffff_ffff).unwrap_or(0);
    file.extend(size.to_le_bytes());
    file
}

/// ISO 3309, bit by bit.
fn crc32(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let is_odd = crc & 1 == 1;
            crc >>= 1;
            if is_odd {
                crc ^= 0xedb8_8320;
            }
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_file_is_head_blocks_and_tail() {
        let file = gzip(b"abc");
        assert_eq!(
            file.get(10..18).unwrap(),
            [1, 3, 0, 252, 255, b'a', b'b', b'c']
        );
        assert_eq!(file.len(), 10 + 5 + 3 + 8);
        assert_eq!(gzip(b"").len(), 10 + 5 + 8);
        let two_blocks = gzip(&vec![0; MAX_BLOCK + 1]);
        assert_eq!(two_blocks.len(), 10 + 5 + MAX_BLOCK + 5 + 1 + 8);
        assert_eq!(two_blocks.get(10), Some(&0));
    }
}
