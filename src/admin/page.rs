//! `/`: the status page, one document that asks for nothing but `/status`.
//! Takes its parts from `page/`, gives HTML and the policy under which a browser runs it.
//! Surprise: the policy names the hashes of our own style and script, so that whatever else might get into the page would not run.

use http::StatusCode;
use once_cell::sync::Lazy;
use openssl::base64::encode_block;
use openssl::sha::sha256;

use super::Page;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str =
    concat!(include_str!("page/words.js"), include_str!("page/plots.js"), include_str!("page/page.js"));

static DOCUMENT: Lazy<String> = Lazy::new(|| {
    include_str!("page/index.html").replacen("{style}", STYLE, 1).replacen("{script}", SCRIPT, 1)
});

static POLICY: Lazy<String> = Lazy::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", encode_block(&sha256(text.as_bytes())));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

pub fn page() -> Page {
    Page { status: StatusCode::OK, content_type: "text/html; charset=utf-8", body: DOCUMENT.clone() }
}

/// The value of `Content-Security-Policy`.
pub fn policy() -> &'static str {
    &POLICY
}
