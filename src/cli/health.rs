//! `bursar health`: for exec probes, where the image has no shell.

use std::net::SocketAddr;

use super::{Exit, admin_client, output};
use crate::causes::with_causes;

pub(super) fn run(listen: SocketAddr, ready: bool) -> Exit {
    let path = if ready { "/readyz" } else { "/livez" };
    match admin_client::get(listen, path) {
        Ok(answer) if answer.status.is_success() => Exit::Done,
        Ok(answer) => {
            output::tell(&format!(
                "bursar: {path} answers {}\n{}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            ));
            Exit::Failed
        }
        Err(error) => {
            output::tell(&format!(
                "bursar: {}\nIs it running? `bursar run` starts it; the address is admin.listen.\n",
                with_causes(&error)
            ));
            Exit::Failed
        }
    }
}
