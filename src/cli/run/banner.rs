//! What a person at a terminal sees first: the URL to paste.

use crate::{app::Addresses, cli::output::Paint, config::Config, socket::Address};

/// What of the configuration goes into the banner.
pub(super) struct Banner {
    upstreams: Vec<Line>,
}

struct Line {
    name: String,
    base_url: String,
    credential: String,
    has_own_listener: bool,
}

impl Banner {
    pub(super) fn new(config: &Config) -> Self {
        let upstreams = config
            .upstreams
            .iter()
            .map(|upstream| {
                let origin = &upstream.params.dialer.origin;
                let scheme = if origin.tls { "https" } else { "http" };
                Line {
                    name: upstream.params.name.to_string(),
                    base_url: format!("{scheme}://{}", origin.authority()),
                    credential: upstream.tokens.credential.name.to_string(),
                    has_own_listener: upstream.params.listen.is_some(),
                }
            })
            .collect();
        Self { upstreams }
    }

    pub(super) fn render(&self, addresses: &Addresses, paint: Paint) -> String {
        let mut listeners = addresses.proxy.iter();
        let main = listeners.next();
        let mut text = format!("\nbursar {} serves\n", crate::admin::build::VERSION);
        for upstream in &self.upstreams {
            let listener = if upstream.has_own_listener {
                listeners.next()
            } else {
                main
            };
            let Some(listener) = listener else { continue };
            text.push_str(&format!(
                "  {}  {}  ->  {}  (credential {})\n",
                upstream.name,
                paint.bold(&url(listener)),
                upstream.base_url,
                upstream.credential
            ));
        }
        text.push_str(&format!(
            "Give the application that URL as the address of its LMS, and no credential.\n\
             Metrics: {}/metrics   What is going on: bursar status   Ctrl-C drains and stops.\n\n",
            url(&addresses.admin.into())
        ));
        text
    }
}

/// A URL that works when pasted. A Unix socket has none: it is shown as it is configured.
fn url(address: &Address) -> String {
    match address.to_reach() {
        Address::Tcp(address) => format!("http://{address}"),
        unix @ Address::Unix(_) => unix.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, has_own_listener: bool) -> Line {
        Line {
            name: name.to_owned(),
            base_url: format!("https://{name}.example.edu"),
            credential: "key".to_owned(),
            has_own_listener,
        }
    }

    #[test]
    fn each_upstream_is_shown_with_the_url_that_leads_to_it() {
        let banner = Banner {
            upstreams: vec![line("lms", false), line("dap", true), line("files", true)],
        };
        let tcp = |text: &str| text.parse().unwrap();
        let address = |text: &str| Address::Tcp(tcp(text));
        let text = banner.render(
            &Addresses {
                proxy: vec![
                    address("0.0.0.0:8080"),
                    address("[::1]:8082"),
                    Address::Unix(std::path::Path::new("/run/files").into()),
                ],
                admin: tcp("[::]:9464"),
                control: address("127.0.0.1:9465"),
                jwks: None,
            },
            Paint { is_on: false },
        );
        for part in [
            "lms  http://127.0.0.1:8080  ->  https://lms.example.edu  (credential key)",
            "dap  http://[::1]:8082  ->  https://dap.example.edu",
            "files  unix:/run/files  ->  https://files.example.edu",
            "http://[::1]:9464/metrics",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
