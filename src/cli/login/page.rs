//! What the browser shows at the end. No code and no token is in it, nothing is loaded, nothing runs.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::Full;

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:4rem auto;padding:0 1rem;\
color:#222;background:#fff}p{white-space:pre-line;overflow-wrap:anywhere}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}}";

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    status: StatusCode,
    title: String,
    text: String,
}

impl Page {
    pub(super) fn new(status: StatusCode, title: &str, text: impl Into<String>) -> Self {
        Self {
            status,
            title: title.to_owned(),
            text: text.into(),
        }
    }

    /// All went well.
    pub(super) fn done(text: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, "Logged in", text)
    }

    /// The login is over, and there is nothing to show for it.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Not logged in", text)
    }

    /// As an answer.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let (title, text) = (escaped(&self.title), escaped(&self.text));
        let html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>bursar: {title}</title>\
             <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<p>{text}</p></body></html>\n"
        );
        let mut response = Response::new(Full::from(html));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
            // The address of the page holds the code.
            (REFERRER_POLICY, "no-referrer"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(policy) = HeaderValue::try_from(policy()) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

/// Nothing but this one style sheet (Content Security Policy 3 section 6.7.3).
fn policy() -> String {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(character),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    use super::*;

    fn html(page: &Page) -> String {
        let body = page.response().into_body();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_page_is_kept_by_nobody_and_loads_nothing() {
        let response = Page::done("You can close this tab.").response();
        let headers = response.headers();
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        assert_eq!(headers[REFERRER_POLICY], "no-referrer");
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(policy.contains("frame-ancestors 'none'"));
        let html = html(&Page::done("x"));
        for forbidden in ["<script", "href", "src=", "http"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn what_a_server_says_is_text_and_not_markup() {
        let html = html(&Page::failed(
            "<script>alert(\"1\")</script> & 'more' <img src=x>",
        ));
        assert!(html.contains(
            "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;more&#39; &lt;img"
        ));
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_paragraph(text in "[<>&\"'a-z/ =]{0,60}") {
            let html = html(&Page::failed(text.clone()));
            let (_, rest) = html.split_once("<p>").unwrap();
            let (inside, _) = rest.split_once("</p>").unwrap();
            prop_assert!(!inside.contains(['<', '>', '"', '\'']));
            let back = inside
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&#39;", "'")
                .replace("&amp;", "&");
            prop_assert_eq!(back, text);
        }
    }
}
