//! Random numbers, all from the one crypto library.

/// 128 random bits in lower-case hexadecimal: request ids, `jti` values (RFC 7519 section 4.1.7).
#[must_use]
pub fn id128() -> String {
    let mut bytes = [0_u8; 16];
    fill(&mut bytes);
    bytes
        .iter()
        .fold(String::with_capacity(32), |mut text, byte| {
            text.push(hex_digit(byte >> 4));
            text.push(hex_digit(byte & 0x0f));
            text
        })
}

/// A number in `0.0..1.0`, for jitter.
#[must_use]
pub fn fraction() -> f64 {
    let mut bytes = [0_u8; 4];
    fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// Fills `bytes` from the operating system's generator.
///
/// # Panics
///
/// When the generator fails. There is no safe way on without random numbers, and the library does
/// not fail once it has started.
pub fn fill(bytes: &mut [u8]) {
    #[expect(
        clippy::expect_used,
        reason = "documented: no safe way on without random numbers"
    )]
    aws_lc_rs::rand::fill(bytes).expect("the random number generator works");
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_hexadecimal_digits_and_differs_each_time() {
        let id = id128();
        assert_eq!(id.len(), 32);
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(id, id128());
    }

    #[test]
    fn a_fraction_lies_below_one() {
        for _ in 0..1_000 {
            let fraction = fraction();
            assert!((0.0..1.0).contains(&fraction));
        }
    }
}
