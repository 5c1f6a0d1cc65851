//! The page that a browser shows at the end of a sign-in: what happened, and what to do next.
//! It runs nothing, loads nothing, is kept nowhere, and tells no other site where it was.

use std::sync::LazyLock;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// All is well.
    Good,
    /// Nothing was changed; somebody may try again.
    Bad,
}

/// What a page says. All of it is text, never markup; what stands between backticks is shown as something to type.
pub(super) struct Page<'a> {
    pub(super) mood: Mood,
    pub(super) title: &'a str,
    pub(super) text: &'a str,
    /// What to do next.
    pub(super) next: &'a str,
}

/// The whole look: large enough for a phone, light or dark as the reader has it. No file beside it.
const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#f4f5f7;--card:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d8dee4;--good:#1a7f37;--bad:#b42318}\
@media(prefers-color-scheme:dark){:root{--paper:#101418;--card:#1a1f25;--ink:#e6edf3;--soft:#9aa4af;--line:#30363d;--good:#3fb950;--bad:#ff7b72}}\
*{box-sizing:border-box}\
body{margin:0;padding:1.25rem;min-height:100vh;display:grid;place-items:center;background:var(--paper);color:var(--ink);font:1.0625rem/1.55 system-ui,sans-serif}\
main{width:100%;max-width:36rem;padding:1.75rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem;border-top:.3rem solid var(--bad)}\
main.good{border-top-color:var(--good)}\
h1{margin:0 0 .75rem;font-size:1.5rem;line-height:1.25;color:var(--bad)}\
.good h1{color:var(--good)}\
p{margin:0 0 1rem;overflow-wrap:anywhere}\
.next{padding:.75rem 1rem;background:var(--paper);border-radius:.5rem}\
code{font:.95em ui-monospace,monospace}\
footer{color:var(--soft);font-size:.875rem}";

/// Nothing but the style above, known by its hash, may take effect (CSP Level 3 §6.6.2.2).
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
    )
});

impl Page<'_> {
    /// The page as an answer.
    pub(super) fn answer(&self, status: StatusCode) -> Response {
        let mut answer = (status, headers(), self.html()).into_response();
        // Its characters are those of base64 and of the text above.
        if let Ok(policy) = HeaderValue::from_str(&POLICY) {
            answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        answer
    }

    fn html(&self) -> String {
        let (class, mark) = match self.mood {
            Mood::Good => ("good", "✓"),
            Mood::Bad => ("bad", "✗"),
        };
        let title = escape(self.title);
        let next = match self.next {
            "" => String::new(),
            next => format!(
                "<p class=\"next\"><strong>Next:</strong> {}</p>\n",
                marked(&sentence(next))
            ),
        };
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"robots\" content=\"noindex\">\n<title>{title} – mailintake</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<main class=\"{class}\">\n\
             <h1><span aria-hidden=\"true\">{mark}</span> {title}</h1>\n<p>{}</p>\n{next}\
             <footer>mailintake</footer>\n</main>\n</body>\n</html>\n",
            marked(&sentence(self.text))
        )
    }
}

fn headers() -> [(HeaderName, &'static str); 8] {
    [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CONNECTION, "close"),
    ]
}

/// A text with a capital at its beginning and a full stop at its end.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let Some(first) = rest.next() else {
        return String::new();
    };
    let rest = rest.as_str();
    // What begins with an address, a command or a name of ours stays as it is written.
    let is_word = rest.starts_with(|c: char| c.is_ascii_lowercase() || c == ' ')
        && !first_word(text).contains(['@', '-', '_', '.', ':']);
    let first = if is_word {
        first.to_uppercase().to_string()
    } else {
        first.to_string()
    };
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{rest}{end}")
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// The text, safe to show, with what stands between backticks as code.
fn marked(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return escape(text);
    }
    let part = |(index, part): (usize, &&str)| match index % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    };
    parts.iter().enumerate().map(part).collect()
}

fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_text_and_runs_none_of_it() {
        for (text, shown) in [
            ("<b a='\"'>&", "&lt;b a=&#39;&quot;&#39;&gt;&amp;"),
            ("type `a <b>`", "type <code>a &lt;b&gt;</code>"),
            ("one ` alone", "one ` alone"),
        ] {
            assert_eq!(marked(text), shown);
        }
    }

    #[test]
    fn a_message_becomes_a_sentence() {
        for (text, shown) in [
            ("signed in at idp as ann", "Signed in at idp as ann."),
            ("access_denied", "access_denied."),
            ("ann@example.org is another", "ann@example.org is another."),
            ("Done.", "Done."),
            ("", ""),
        ] {
            assert_eq!(sentence(text), shown);
        }
    }

    #[test]
    fn the_style_is_the_only_thing_that_takes_effect() {
        let page = Page {
            mood: Mood::Good,
            title: "T",
            text: "x",
            next: "y",
        };
        let html = page.html();
        assert!(!html.contains("style=") && !html.contains("<script") && !html.contains("src="));
        let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        assert!(POLICY.contains(&STANDARD.encode(Sha256::digest(style))));
        assert!(!POLICY.contains("unsafe"));
    }
}
