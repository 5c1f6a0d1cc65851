//! What the browser brought back from the provider, or a person copied from it (RFC 6749 §4.1.2, RFC 9207).
//! It never believes anything in it: the state parameter must be known, and the code is redeemed.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Longest code, state or issuer that is looked at, in bytes: Microsoft's codes have up to 2 KB.
const PARAMETER_LIMIT: usize = 8 * 1024;

/// What the browser brought back.
pub struct Answer {
    pub(super) state: SecretString,
    pub(super) code: Option<SecretString>,
    pub(super) error: Option<String>,
    pub(super) error_description: String,
    pub(super) iss: Option<String>,
}

impl Answer {
    /// Reads the query of a redirect.
    pub fn from_query(query: &str) -> Option<Self> {
        if query.len() > 4 * PARAMETER_LIMIT {
            return None;
        }
        let mut answer = Self {
            state: SecretString::default(),
            code: None,
            error: None,
            error_description: String::new(),
            iss: None,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if value.len() > PARAMETER_LIMIT {
                return None;
            }
            match name.as_ref() {
                "state" => answer.state = value.as_ref().into(),
                "code" => answer.code = Some(value.as_ref().into()),
                "error" => answer.error = Some(value.into_owned()),
                "error_description" => answer.error_description = value.into_owned(),
                "iss" => answer.iss = Some(value.into_owned()),
                _ => {}
            }
        }
        let is_whole = !answer.state.expose_secret().is_empty() && (answer.code.is_some() || answer.error.is_some());
        is_whole.then_some(answer)
    }

    /// Reads what a person copied: the redirected address, or its query alone.
    pub fn from_paste(text: &str) -> Option<Self> {
        let text = text.trim();
        match Url::parse(text) {
            Ok(url) => Self::from_query(url.query()?),
            Err(_) => Self::from_query(text.trim_start_matches('?')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_from_an_address_or_its_query() {
        for text in [
            "http://127.0.0.1:1/oauth/callback/idp?code=a%2Fb&state=s",
            " code=a%2Fb&state=s\n",
            "?state=s&code=a/b",
        ] {
            let answer = Answer::from_paste(text).unwrap();
            assert_eq!(answer.code.unwrap().expose_secret(), "a/b", "{text}");
            assert_eq!(answer.state.expose_secret(), "s", "{text}");
        }
        for text in ["", "code=a", "state=s", "http://127.0.0.1:1/", "hello"] {
            assert!(Answer::from_paste(text).is_none(), "{text}");
        }
        let long = format!("state=s&code={}", "a".repeat(PARAMETER_LIMIT + 1));
        assert!(Answer::from_query(&long).is_none());
    }
}
