//! Unix sockets: where, and for whom.

use std::{os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

use figment::value::{Num, Value};

use super::{
    Fault, FromValue, list,
    shape::{self, Shape},
    string, wrong_type,
};
use crate::{config::tree::parse_value, socket::MAX_PATH};

/// What stands before the path.
pub(super) const PREFIX: &str = "unix:";

/// The path of a socket, as written behind [`PREFIX`].
pub(super) fn path(text: &str) -> Result<Arc<Path>, Fault> {
    let path = Path::new(text);
    let length = path.as_os_str().as_bytes().len();
    let fault = |what: String| {
        Fault::invalid(
            what,
            r#"write a whole path to the socket that bursar makes, as in "unix:/run/bursar/proxy.sock""#,
        )
    };
    if !path.is_absolute() || path.file_name().is_none() || text.ends_with('/') {
        return Err(fault(format!("{text:?} is not the whole path of a file")));
    }
    if text.chars().any(char::is_control) {
        return Err(fault("holds a control character".to_owned()));
    }
    if length > MAX_PATH {
        return Err(fault(format!(
            "the path has {length} bytes; the system takes at most {MAX_PATH}"
        )));
    }
    Ok(path.into())
}

/// The permissions of a Unix socket.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct SocketMode(pub(in crate::config) u32);

impl FromValue for SocketMode {
    const SHAPE: Shape = Shape::Text(shape::MODE);

    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = string(value, r#"a mode such as "0660""#)?;
        let is_octal =
            matches!(text.len(), 3..=4) && text.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u32::from_str_radix(text, 8).ok();
        // Without the owner's bits nobody could connect; execute bits mean nothing.
        let mode = mode.filter(|mode| is_octal && mode & 0o600 == 0o600 && mode & !0o666 == 0);
        mode.map(Self).ok_or_else(|| {
            Fault::invalid(
                format!("{text:?} is not the mode of a socket"),
                r#""0600": only the user that bursar runs as; "0660": its group too; "0666": everybody, whom `allowed_uids` may narrow"#,
            )
        })
    }
}

/// Users by number.
#[derive(Clone, Debug)]
pub(in crate::config) struct Uids(pub(in crate::config) Vec<u32>);

impl FromValue for Uids {
    const SHAPE: Shape = Shape::Numbers {
        min: 0,
        max: MAX_UID,
    };

    fn from_text(text: &str) -> Value {
        let text = text.trim();
        let words = text.split_whitespace().collect::<Vec<_>>().join(", ");
        let list = if text.starts_with('[') {
            text.to_owned()
        } else {
            format!("[{words}]")
        };
        parse_value(&list).unwrap_or_else(|| Value::from(text))
    }

    fn from_value(value: &Value) -> Result<Self, Fault> {
        list(value)?
            .iter()
            .map(uid)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The system's "no user" is the number after it.
const MAX_UID: u32 = u32::MAX - 1;

fn uid(value: &Value) -> Result<u32, Fault> {
    let number = match value {
        Value::Num(_, Num::F32(_) | Num::F64(_)) => None,
        Value::Num(_, number) => number
            .to_u128()
            .or_else(|| number.to_i128()?.try_into().ok()),
        _ => {
            return Err(wrong_type(
                "a list of user ids, which are whole numbers",
                value,
            ));
        }
    };
    let uid = number.and_then(|number| u32::try_from(number).ok());
    uid.filter(|uid| *uid <= MAX_UID).ok_or_else(|| {
        Fault::invalid(
            "holds a number that is no user id",
            "`id -u NAME` prints one",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_whole_path_that_the_system_can_hold() {
        assert_eq!(
            &*path("/run/bursar.sock").unwrap(),
            Path::new("/run/bursar.sock")
        );
        let long = format!("/{}", "a".repeat(MAX_PATH - 1));
        assert!(path(&long).is_ok());
        for wrong in [
            "",
            "/",
            "bursar.sock",
            "./a",
            "@abstract",
            "/run/",
            "/a\nb",
            &format!("{long}a"),
        ] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mode_gives_the_owner_access_and_has_no_odd_bits() {
        let of = |text: &str| {
            SocketMode::from_value(&Value::from(text))
                .ok()
                .map(|mode| mode.0)
        };
        assert_eq!(of("0600"), Some(0o600));
        assert_eq!(of("660"), Some(0o660));
        assert_eq!(of("0666"), Some(0o666));
        for wrong in [
            "", "0060", "0777", "4660", "06600", "+660", "rw-", "0o660", "0698",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn user_ids_are_numbers_in_a_list() {
        let of = |text: &str| {
            Uids::from_value(&Uids::from_text(text))
                .ok()
                .map(|uids| uids.0)
        };
        assert_eq!(of("1000 65532"), Some(vec![1000, 65532]));
        assert_eq!(of("[0]"), Some(vec![0]));
        assert_eq!(of(""), Some(vec![]));
        for wrong in ["alice", "-1", "1.5", "4294967295", "[\"1000\"]"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
