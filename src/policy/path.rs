//! A path with exactly one reading, or none.
//!
//! Between bursar and the LMS's own code stand servers that decode, fold and trim paths, each in its
//! own way. A path that two of them could read differently is refused here, before anything is matched;
//! so the bytes that were matched are the bytes that are sent, and nothing is ever rewritten.

use std::borrow::Cow;

/// How the server behind an upstream reads paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// IIS with ASP.NET (Brightspace): folds case, knows session segments and NTFS streams.
    AspNet,
    /// Any other.
    Other,
}

/// A canonical path.
#[derive(Debug)]
pub struct CanonicalPath<'a> {
    reading: Cow<'a, str>,
    has_encoded_slash: bool,
}

/// Why a path has more than one reading. The text goes to the application, so it holds none of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// `OPTIONS *`, or no path at all.
    #[error("The path must start with a slash.")]
    NotAbsolute,
    /// Servers merge `//`, or do not.
    #[error("The path has an empty segment (two slashes in a row).")]
    EmptySegment,
    /// Dot segments are resolved, and Windows drops dots and spaces at the end of a name.
    #[error(
        "A path segment ends with a dot or a space; dot segments must be resolved before sending."
    )]
    TrailingDotOrSpace,
    /// `;` starts path parameters on some servers.
    #[error("The path holds a semicolon.")]
    Semicolon,
    /// Windows takes `\` for `/`.
    #[error("The path holds a backslash.")]
    Backslash,
    /// Also NUL and DEL, raw or encoded.
    #[error("The path holds a control character.")]
    Control,
    /// What RFC 3986 section 3.3 does not allow in a path.
    #[error("The path holds a character that must be percent-encoded.")]
    NotAllowed,
    /// `%zz`, `%4`, `%u002e`.
    #[error("The path holds a percent sign without two hexadecimal digits after it.")]
    BadEscape,
    /// `%252e`: the second decoder sees another path than the first.
    #[error("The path is percent-encoded twice.")]
    DoubleEncoding,
    /// Overlong forms among them.
    #[error("The path does not decode to UTF-8.")]
    NotUtf8,
    /// Letters that a case-folding server takes for ASCII ones.
    #[error("The path holds a letter that folds to another one.")]
    FoldsToAscii,
    /// ASP.NET cuts `(S(…))`, `(A(…))` and `(F(…))` out of paths.
    #[error("The path holds what ASP.NET takes for a session identifier.")]
    SessionSegment,
    /// `::$DATA` names an NTFS stream.
    #[error("The path names a file stream.")]
    FileStream,
}

impl<'a> CanonicalPath<'a> {
    /// Reads a path as it came in the request line, without query.
    ///
    /// # Errors
    ///
    /// [`PathProblem`]: it has more than one reading.
    pub fn parse(raw: &'a str, server: Server) -> Result<Self, PathProblem> {
        if is_plain(raw) {
            return Ok(Self {
                reading: Cow::Borrowed(raw),
                has_encoded_slash: false,
            });
        }
        if !raw.starts_with('/') {
            return Err(PathProblem::NotAbsolute);
        }
        let has_escapes = check_bytes(raw)?;
        let (reading, has_encoded_slash) = if has_escapes {
            let (reading, has_encoded_slash) = decode(raw)?;
            (Cow::Owned(reading), has_encoded_slash)
        } else {
            (Cow::Borrowed(raw), false)
        };
        check_segments(&reading)?;
        if has_encoded_slash {
            check_segments(&split_encoded_slashes(&reading))?;
        }
        if server == Server::AspNet {
            check_asp_net(&reading)?;
        }
        Ok(Self {
            reading,
            has_encoded_slash,
        })
    }

    /// What is matched: the path with every escape decoded once, except that an encoded slash
    /// stands as `%2F`.
    pub(super) fn reading(&self) -> &str {
        &self.reading
    }

    /// Where the path holds an encoded slash: how a server reads it that decodes before it splits.
    pub(super) fn other_reading(&self) -> Option<String> {
        self.has_encoded_slash
            .then(|| split_encoded_slashes(&self.reading))
    }
}

/// A short cut for nearly every path: one pass finds nothing that any check could be about.
fn is_plain(raw: &str) -> bool {
    let mut previous = None;
    for byte in raw.bytes() {
        let is_harmless = match byte {
            b'/' => !matches!(previous, Some(b'/' | b'.')),
            b'.' | b'-' | b'_' => true,
            byte => byte.is_ascii_alphanumeric(),
        };
        if !is_harmless {
            return false;
        }
        previous = Some(byte);
    }
    raw.starts_with('/') && previous != Some(b'.')
}

/// `%2F` in a reading can only be an encoded slash: a literal percent sign before two digits is refused
/// as double encoding.
const ENCODED_SLASH: &str = "%2F";

fn split_encoded_slashes(reading: &str) -> String {
    reading.replace(ENCODED_SLASH, "/")
}

/// Refuses raw bytes that may not stand in a path; tells whether there are escapes to decode.
fn check_bytes(raw: &str) -> Result<bool, PathProblem> {
    let mut has_escapes = false;
    for byte in raw.bytes() {
        match byte {
            b'%' => has_escapes = true,
            b';' => return Err(PathProblem::Semicolon),
            b'\\' => return Err(PathProblem::Backslash),
            0x00..=0x1f | 0x7f => return Err(PathProblem::Control),
            byte if !is_path_byte(byte) => return Err(PathProblem::NotAllowed),
            _ => {}
        }
    }
    Ok(has_escapes)
}

/// `pchar` of RFC 3986 section 3.3 and the slash.
const fn is_path_byte(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' | b':' | b'@'
        | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=')
}

/// Decodes every escape once; tells whether there was an encoded slash.
fn decode(raw: &str) -> Result<(String, bool), PathProblem> {
    let mut decoded: Vec<u8> = Vec::with_capacity(raw.len());
    let mut has_encoded_slash = false;
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            escaped(&mut bytes).ok_or(PathProblem::BadEscape)?
        } else if byte == b'/' {
            decoded.push(b'/');
            continue;
        } else {
            byte
        };
        match byte {
            b'/' => {
                has_encoded_slash = true;
                decoded.extend_from_slice(ENCODED_SLASH.as_bytes());
            }
            b';' => return Err(PathProblem::Semicolon),
            b'\\' => return Err(PathProblem::Backslash),
            _ if completes_an_escape(&decoded, byte) => return Err(PathProblem::DoubleEncoding),
            _ => decoded.push(byte),
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PathProblem::NotUtf8)?;
    if decoded.chars().any(char::is_control) {
        return Err(PathProblem::Control);
    }
    Ok((decoded, has_encoded_slash))
}

/// The byte that the two digits after a percent sign stand for.
pub(super) fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

/// Whether decoding has brought forth `%XX` or `%u`, which a second decoder would take for an escape.
fn completes_an_escape(decoded: &[u8], next: u8) -> bool {
    match decoded {
        [.., b'%'] => matches!(next, b'u' | b'U'),
        [.., b'%', digit] => digit.is_ascii_hexdigit() && next.is_ascii_hexdigit(),
        _ => false,
    }
}

/// Refuses empty segments (one slash at the end is fine) and those that end with a dot or a space, dot
/// segments among them.
fn check_segments(path: &str) -> Result<(), PathProblem> {
    if path.contains("//") {
        return Err(PathProblem::EmptySegment);
    }
    if path.split('/').any(|segment| segment.ends_with(['.', ' '])) {
        return Err(PathProblem::TrailingDotOrSpace);
    }
    Ok(())
}

fn check_asp_net(reading: &str) -> Result<(), PathProblem> {
    let is_session =
        |bytes: &[u8]| matches!(bytes, [b'(', letter, b'('] if letter.is_ascii_alphabetic());
    if reading.as_bytes().windows(3).any(is_session) {
        return Err(PathProblem::SessionSegment);
    }
    if reading.contains("::$") {
        return Err(PathProblem::FileStream);
    }
    if reading.contains(FOLD_TO_ASCII) {
        return Err(PathProblem::FoldsToAscii);
    }
    Ok(())
}

/// All letters outside ASCII whose simple case mappings lead into ASCII: long s, Kelvin sign,
/// dotted I and dotless i.
const FOLD_TO_ASCII: [char; 4] = ['\u{17f}', '\u{212a}', '\u{130}', '\u{131}'];

#[cfg(test)]
mod tests;
