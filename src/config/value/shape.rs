//! The form of a value, as an editor can check it before bursar does.

/// What a value looks like: what [`FromValue`](super::FromValue) accepts always has this form, but not all that has it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Shape {
    /// `true` or `false`.
    Flag,
    /// A whole number between two bounds, both included.
    Number {
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A string.
    Text(Pattern),
    /// A string that is one of these.
    Words(&'static [&'static str]),
    /// A list of whole numbers between two bounds, both included.
    Numbers {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// A list of strings.
    List {
        /// Of each.
        items: Pattern,
        /// How many there are at least.
        min: usize,
    },
}

/// A regular expression (ECMA-262), anchored at both ends.
pub(in crate::config) type Pattern = &'static str;

/// Something, without control characters.
pub(in crate::config) const TEXT: Pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// A number with its unit, or several.
pub(in crate::config) const DURATION: Pattern = r"^(0|([0-9][0-9. ]*[A-Za-zµ]+ *)+)$";

/// A share of 100, or a duration.
pub(in crate::config) const SHARE_OR_DURATION: Pattern =
    r"^([0-9+.eE]+%|0|([0-9][0-9. ]*[A-Za-zµ]+ *)+)$";

/// A number of bytes.
pub(in crate::config) const SIZE: Pattern = r"^[0-9]+\s*(B|KiB|MiB|GiB|kB|MB|GB)$";

/// Which requests get a line in the log.
pub(in crate::config) const REQUESTS: Pattern = r"^(denied|all|1/\+?[0-9]+)$";

/// An address and a port.
pub(in crate::config) const LISTEN: Pattern =
    r"^(localhost|[0-9.]+|\[[0-9A-Za-z:.%]+\]):\+?[0-9]+$";

/// An address and a port, or the path of a Unix socket.
pub(in crate::config) const LISTEN_OR_UNIX: Pattern =
    r"^((localhost|[0-9.]+|\[[0-9A-Za-z:.%]+\]):\+?[0-9]+|unix:/.*[^/])$";

/// The permissions of a Unix socket.
pub(in crate::config) const MODE: Pattern = r"^0?6[0246][0246]$";

/// Scheme, host and port.
pub(in crate::config) const ORIGIN: Pattern = r"^[hH][tT][tT][pP][sS]?://[^/?#@\s\\]+/?$";

/// An absolute URL.
pub(in crate::config) const URL: Pattern = r"^[hH][tT][tT][pP][sS]?://[^#\s\\]+$";

/// A method of HTTP.
pub(in crate::config) const METHOD: Pattern = r"^[!#$%&'*+.^_`|~0-9A-Z-]+$";

/// RFC 6749 section 3.3.
pub(in crate::config) const SCOPE: Pattern = r"^[!#-\[\]-~]+$";
