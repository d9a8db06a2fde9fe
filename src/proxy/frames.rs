//! The heads of the frames of HTTP/2 in a stream of bytes (RFC 9113 section 4.1). Nothing of what they carry is looked at.

/// Bytes of a head.
const HEAD: u8 = 9;

/// The types of frames that are told apart (RFC 9113 section 6).
pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const GOAWAY: u8 = 0x7;

/// An error code (RFC 9113 section 7).
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// The head of a frame, without its flags, which nobody here asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes that follow it.
    pub(super) length: u32,
    pub(super) kind: u8,
    /// 0: the connection.
    pub(super) stream: u32,
}

/// Finds the heads, however the bytes are cut into pieces.
#[derive(Debug)]
pub(super) struct Heads {
    /// Bytes that come before the next head.
    skip: u32,
    /// What has come of it, and how many bytes that is.
    head: u128,
    have: u8,
}

impl Heads {
    /// Of a stream in which `start` bytes come before the first frame.
    pub(super) const fn after(start: u32) -> Self {
        Self {
            skip: start,
            head: 0,
            have: 0,
        }
    }

    /// Reads on, and tells each head that is complete now.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(Head)) {
        loop {
            let skipped = bytes.len().min(self.skip as usize);
            bytes = bytes.get(skipped..).unwrap_or_default();
            // No more than `skip`.
            self.skip -= skipped as u32;
            while self.have < HEAD {
                let Some((&byte, rest)) = bytes.split_first() else {
                    return;
                };
                self.head = self.head << 8 | u128::from(byte);
                self.have += 1;
                bytes = rest;
            }
            let [.., a, b, c, kind, _flags, d, e, f, g] = self.head.to_be_bytes();
            let head = Head {
                length: u32::from_be_bytes([0, a, b, c]),
                kind,
                stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
            };
            self.skip = head.length;
            self.have = 0;
            found(head);
        }
    }

    /// Whether the last frame is complete and no other has begun.
    pub(super) const fn is_between(&self) -> bool {
        self.skip == 0 && self.have == 0
    }
}

/// A frame of its own: GOAWAY (RFC 9113 section 6.8), because the peer behaves badly.
pub(super) fn calm_down(last_stream: u32) -> [u8; 17] {
    let [a, b, c, d] = last_stream.to_be_bytes();
    let [e, f, g, h] = ENHANCE_YOUR_CALM.to_be_bytes();
    [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(length: u32, kind: u8, stream: u32) -> Vec<u8> {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0xff]);
        bytes.extend((stream | 0x8000_0000).to_be_bytes());
        bytes.extend(vec![0x55; length as usize]);
        bytes
    }

    fn heads_of(pieces: &[&[u8]]) -> (Vec<Head>, bool) {
        let (mut heads, mut found) = (Heads::after(3), Vec::new());
        for piece in pieces {
            heads.read(piece, |head| found.push(head));
        }
        (found, heads.is_between())
    }

    #[test]
    fn the_last_word_is_a_frame() {
        let mut found = Vec::new();
        let bytes = calm_down(7);
        let mut heads = Heads::after(0);
        heads.read(&bytes, |head| found.push(head));
        assert!(heads.is_between());
        let head = Head {
            length: 8,
            kind: GOAWAY,
            stream: 0,
        };
        assert_eq!(found, [head]);
        assert_eq!(bytes[9..], [0, 0, 0, 7, 0, 0, 0, 0xb]);
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_same_heads_are_found(
            frames in prop::collection::vec((0_u32..40, any::<u8>(), 0_u32..0x8000_0000), 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
            cut_off in 0_usize..50,
        ) {
            let mut bytes = b"pre".to_vec();
            for (length, kind, stream) in &frames {
                bytes.extend(frame(*length, *kind, *stream));
            }
            let (whole, is_between) = heads_of(&[&bytes]);
            let sent = frames.iter().map(|&(length, kind, stream)| Head { length, kind, stream });
            prop_assert_eq!(&whole, &sent.collect::<Vec<_>>());
            prop_assert!(is_between);

            bytes.truncate(bytes.len() - cut_off.min(bytes.len()));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(heads_of(&pieces), heads_of(&[&bytes]));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Heads::after(24).read(&bytes, |head| assert!(head.stream < 0x8000_0000));
        }
    }
}
