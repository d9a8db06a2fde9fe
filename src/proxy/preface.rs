//! Which protocol a connection speaks: HTTP/2 is known by its preface (RFC 9113 section 3.4), and
//! everything else is HTTP/1.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of the preface.
pub(super) const LENGTH: u32 = PREFACE.len() as u32;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Too little yet: all of it could be the start of the preface.
    Open,
    /// No preface.
    Http1,
    /// The preface, and perhaps more.
    Http2,
}

impl Opening {
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(PREFACE) {
            Self::Http2
        } else if PREFACE.starts_with(bytes) {
            Self::Open
        } else {
            Self::Http1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_http_2_from_the_last_byte_of_the_preface_on() {
        for end in 0..PREFACE.len() {
            assert_eq!(Opening::of(&PREFACE[..end]), Opening::Open);
        }
        assert_eq!(Opening::of(PREFACE), Opening::Http2);
        assert_eq!(Opening::of(&[PREFACE, b"\0\0\0"].concat()), Opening::Http2);
        for other in [
            "GET / HTTP/1.1\r\n",
            "PUT / HTTP/1.1\r\n",
            "PRI / HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            "\r\n",
        ] {
            assert_eq!(Opening::of(other.as_bytes()), Opening::Http1, "{other}");
        }
    }
}
