//! The codes of what can be wrong with a configuration: one table.

use std::fmt;

macro_rules! problem_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)*) => {
        /// What kind of problem it is. A code, once published, keeps its meaning and is never used again
        /// for another; `bursar explain CODE` says more.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ProblemCode {
            $($(#[$doc])* $variant,)*
        }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as people see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

problem_codes! {
    /// No configuration file was found.
    NoFile = "BUR1001";
    /// The configuration file cannot be read.
    FileUnreadable = "BUR1002";
    /// The file is not TOML.
    Syntax = "BUR1003";
    /// A key that does not exist.
    UnknownKey = "BUR1004";
    /// An environment variable with `__` that names no key.
    UnknownVariable = "BUR1005";
    /// A key that must be set is not.
    MissingKey = "BUR1006";
    /// A string where a number belongs, and the like.
    WrongType = "BUR1007";
    /// The right type, but not a value that the key can have.
    InvalidValue = "BUR1008";
    /// Two settings that exclude each other.
    Conflict = "BUR1009";
    /// A key that has no meaning beside the others.
    NoEffect = "BUR1010";
    /// The name of a credential, an upstream or a route.
    InvalidName = "BUR1011";
    /// A value that comes with a later version.
    Unsupported = "BUR1012";
    /// A setting that a running bursar cannot take over.
    NeedsRestart = "BUR1013";
    /// A listener off loopback.
    ExposedListener = "BUR1101";
    /// Two listeners on one address.
    ListenerConflict = "BUR1102";
    /// A secret's file cannot be read.
    SecretUnreadable = "BUR1201";
    /// A secret's file can be read by others (exit code 77).
    SecretExposed = "BUR1202";
    /// What is in a secret's file, or in the value itself, cannot be a secret.
    SecretUnusable = "BUR1203";
    /// The private key cannot sign client assertions.
    KeyUnusable = "BUR1204";
    /// The CA file is of no use.
    CaUnusable = "BUR1205";
    /// `http://` where only `https://` is safe.
    PlainHttp = "BUR1206";
    /// A URL that is none, or has parts that it must not have.
    InvalidUrl = "BUR1207";
    /// `token_params` or `token_headers` sets what the protocol sets.
    ProtocolField = "BUR1208";
    /// A credential that no upstream uses (a warning).
    UnusedCredential = "BUR1209";
    /// A directory of keys, or the name of a file in it.
    KeysDirectory = "BUR1210";
    /// The certificate or the key of mutual TLS is of no use.
    IdentityUnusable = "BUR1211";
    /// The certificate of mutual TLS has expired, will soon, or is not valid yet (a warning).
    CertificateExpiring = "BUR1212";
    /// No upstream at all, or one without any route.
    NothingAllowed = "BUR1301";
    /// `credential` names none.
    UnknownCredential = "BUR1302";
    /// Two upstreams claim one name.
    NameConflict = "BUR1303";
    /// The upstream is this bursar itself.
    Loop = "BUR1304";
    /// A method that is none, or never forwarded.
    InvalidMethod = "BUR1305";
    /// The path template of a route.
    InvalidPath = "BUR1306";
    /// Two routes match the same requests.
    AmbiguousRoutes = "BUR1307";
    /// Not a scope.
    InvalidScope = "BUR1308";
    /// A scope that probably does not do what was meant (a warning).
    SuspiciousScope = "BUR1309";
    /// A route that the allowlist never covers (a warning).
    UncoveredRoute = "BUR1310";
    /// The policy cannot be built for another reason.
    InvalidPolicy = "BUR1311";
    /// Policy is not enforced (a warning).
    ReportMode = "BUR1312";
    /// A function that calls others, which no list sees (a warning).
    IndirectFunction = "BUR1313";
}

impl ProblemCode {
    /// Whether the problem is that something is not there. After a syntax error that may be a consequence of it.
    pub(in crate::config) const fn is_absence(self) -> bool {
        matches!(
            self,
            Self::MissingKey
                | Self::NothingAllowed
                | Self::UnknownCredential
                | Self::UnusedCredential
                | Self::UncoveredRoute
        )
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
