//! `Bursar-Request-Id`: what the response, the problem and the log line of one request share.

use std::cell::Cell;

use http::{HeaderName, HeaderValue};

use crate::{problem, random};

/// The response field.
pub(super) const FIELD: HeaderName = problem::REQUEST_ID;

/// 128 bits as 32 lower-case hexadecimal digits. Unique, not secret: the lower half counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId([u8; 32]);

/// Makes the ids of one worker: a random half of its own, and a counter. No system call per request.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: [u8; 16],
    next: Cell<u64>,
}

impl RequestIds {
    /// With a fresh random half.
    pub(super) fn new() -> Self {
        let mut seed = [0_u8; 8];
        random::fill(&mut seed);
        Self {
            prefix: hex(u64::from_be_bytes(seed)),
            next: Cell::new(0),
        }
    }

    /// The next id.
    pub(super) fn next(&self) -> RequestId {
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        let mut digits = [0_u8; 32];
        let (upper, lower) = digits.split_at_mut(16);
        upper.copy_from_slice(&self.prefix);
        lower.copy_from_slice(&hex(count));
        RequestId(digits)
    }
}

impl RequestId {
    /// The digits.
    pub(super) fn as_str(&self) -> &str {
        // Hexadecimal digits are always UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The field value.
    pub(super) fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static(""))
    }
}

fn hex(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; 16];
    let mut rest = number;
    for place in text.iter_mut().rev() {
        *place = DIGITS
            .get((rest & 0xf) as usize)
            .copied()
            .unwrap_or_default();
        rest >>= 4;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_hexadecimal_digits_and_differs_each_time() {
        let ids = RequestIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert_eq!(first.as_str().len(), 32);
        assert!(first.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(first, second);
        assert_eq!(first.value(), first.as_str());
    }

    #[test]
    fn two_workers_do_not_share_ids() {
        assert_ne!(RequestIds::new().next(), RequestIds::new().next());
    }
}
