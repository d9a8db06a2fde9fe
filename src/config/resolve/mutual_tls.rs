//! `client_cert_file` and `client_key_file`: who bursar is in mutual TLS.

use std::{fs, sync::Arc, time::Duration};

use super::file::{Files, path};
use crate::{
    clock::{Clock as _, SystemClock},
    config::{
        problem::ProblemCode,
        reader::{Reader, Table},
        value::Fault,
    },
    tls::Identity,
};

const CERTIFICATE: &str = "client_cert_file";
const KEY: &str = "client_key_file";

/// Time to have a new certificate issued.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The TLS configuration for the roots that `ca_file` names, towards a server that may ask for a certificate.
pub(super) fn tls(
    reader: &mut Reader,
    files: &mut Files,
    table: &Table,
    ca_only: bool,
) -> Option<Arc<rustls::ClientConfig>> {
    let identity = identity(reader, files, table);
    // Made also where the identity is wrong: the roots may be, too.
    let config = files.tls_as(
        reader,
        table,
        ca_only,
        identity.as_ref().and_then(Option::as_ref),
    );
    config.filter(|_| identity.is_some())
}

/// The identity, if one is set. The outer `None`: a problem was noted.
#[expect(
    clippy::option_option,
    reason = "absent and invalid are different here, and the inner one is the parameter"
)]
fn identity(reader: &mut Reader, files: &Files, table: &Table) -> Option<Option<Identity>> {
    let (has_certificate, has_key) = (table.has(CERTIFICATE), table.has(KEY));
    if !has_certificate && !has_key {
        return Some(None);
    }
    let chain = chain(reader, table);
    let key = files.lines(reader, table, KEY);
    if !has_certificate {
        reader.missing(table, CERTIFICATE, "name the file of the key's certificate");
    }
    if !has_key {
        reader.missing(table, KEY, "name the file of the certificate's private key");
    }
    match Identity::from_pem(&chain?, &key?) {
        Ok(identity) => {
            if let Some(fault) = expiring(&identity, SystemClock.now().wall) {
                reader.fault(table, CERTIFICATE, fault.warning());
            }
            Some(Some(identity))
        }
        Err(error) => {
            let (name, help) = if error.is_about_key() {
                (
                    KEY,
                    "name the key that the certificate was issued for, without a password; the certificate itself stands first \
                     in client_cert_file",
                )
            } else {
                (
                    CERTIFICATE,
                    "name a PEM file with the certificate, and behind it those of the authorities between it and the root",
                )
            };
            let fault = Fault::new(ProblemCode::IdentityUnusable, error.to_string(), help);
            reader.fault(table, name, fault);
            None
        }
    }
}

fn chain(reader: &mut Reader, table: &Table) -> Option<String> {
    let path = path(reader, table, CERTIFICATE)?;
    match fs::read_to_string(&path) {
        Ok(chain) => Some(chain),
        Err(error) => {
            let fault = Fault::new(
                ProblemCode::IdentityUnusable,
                format!("cannot read {}: {error}", path.display()),
                "check the name, and that it is mounted",
            );
            reader.fault(table, CERTIFICATE, fault);
            None
        }
    }
}

/// `now`: Unix time.
fn expiring(identity: &Identity, now: Duration) -> Option<Fault> {
    let validity = identity.validity()?;
    let span = |span: Duration| {
        let hour = 60 * 60;
        humantime::format_duration(Duration::from_secs(span.as_secs().div_ceil(hour) * hour))
    };
    let what = if now > validity.until {
        format!("the certificate expired {} ago", span(now - validity.until))
    } else if now < validity.from {
        format!(
            "the certificate is valid only in {}",
            span(validity.from - now)
        )
    } else if validity.until - now < SOON {
        format!("the certificate expires in {}", span(validity.until - now))
    } else {
        return None;
    };
    Some(Fault::new(
        ProblemCode::CertificateExpiring,
        what,
        "have a new one issued and replace both files; is the clock of this machine right?",
    ))
}
