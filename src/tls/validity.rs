//! From when to when a certificate is valid (RFC 5280 section 4.1.2.5): the one thing about its own certificate that bursar tells
//! people, and that no library at hand reads.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// `notBefore`.
    pub from: Duration,
    /// `notAfter`.
    pub until: Duration,
}

/// The tags of DER that stand on the way (X.690 section 8).
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const VERSION: u8 = 0xa0;
}

/// Reads it from a certificate in DER; `None` when that is no certificate, or a time before 1970.
pub(super) fn of(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = expect(certificate, tag::SEQUENCE)?;
    let (mut rest, _) = expect(certificate, tag::SEQUENCE)?;
    if let Some((_, after)) = expect(rest, tag::VERSION) {
        rest = after;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [tag::INTEGER, tag::SEQUENCE, tag::SEQUENCE] {
        (_, rest) = expect(rest, tag)?;
    }
    let (validity, _) = expect(rest, tag::SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some(Validity { from, until })
}

/// The content of the element at the start, if it has this tag, and what follows it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // So many bytes of length follow; no certificate has more than three.
        let count = usize::from(first & 0x7f);
        let (digits, rest) = rest.split_at_checked(count).filter(|_| count <= 3)?;
        let length = digits
            .iter()
            .fold(0_usize, |length, digit| (length << 8) | usize::from(*digit));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(bytes: &[u8]) -> Option<(Duration, &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    let text = std::str::from_utf8(content).ok()?;
    let digits = text.strip_suffix('Z')?;
    let (century, digits) = match tag {
        // RFC 5280 section 4.1.2.5.1: 1950 to 2049.
        tag::UTC_TIME if digits < "50" => ("20", digits),
        tag::UTC_TIME => ("19", digits),
        tag::GENERALIZED_TIME => digits.split_at_checked(2)?,
        _ => return None,
    };
    let part = |at: usize| digits.get(at..at + 2);
    if digits.len() != 12 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let text = format!(
        "{century}{}-{}-{}T{}:{}:{}Z",
        part(0)?,
        part(2)?,
        part(4)?,
        part(6)?,
        part(8)?,
        part(10)?
    );
    let time: SystemTime = humantime::parse_rfc3339(&text).ok()?;
    Some((time.duration_since(UNIX_EPOCH).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["x.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn seconds(text: &str) -> Duration {
        humantime::parse_rfc3339(text)
            .unwrap()
            .duration_since(UNIX_EPOCH)
            .unwrap()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        // From 2050 on a time is written with four digits of the year.
        let read = of(&certificate((2026, 2, 28), (2051, 12, 31))).unwrap();
        assert_eq!(
            read,
            Validity {
                from: seconds("2026-02-28T00:00:00Z"),
                until: seconds("2051-12-31T00:00:00Z"),
            }
        );
        let read = of(&certificate((1999, 1, 1), (2049, 1, 2))).unwrap();
        assert_eq!(read.from, seconds("1999-01-01T00:00:00Z"));
        assert_eq!(read.until, seconds("2049-01-02T00:00:00Z"));
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x00",
            b"\x30\x84\xff\xff\xff\xff",
            b"no DER",
        ] {
            assert_eq!(of(bytes), None, "{bytes:?}");
        }
        let whole = certificate((2026, 1, 1), (2027, 1, 1));
        for end in 0..120 {
            assert_eq!(of(&whole[..end]), None, "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = of(&bytes);
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0_usize..300, byte: u8) {
            let mut bytes = certificate((2026, 1, 1), (2027, 1, 1));
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = of(&bytes);
        }
    }
}
