//! Authentication-Results (RFC 8601), read strictly: what does not parse proves nothing.
//! It never reads a field from below the border of the receiving organization.

use super::Mail;

/// One result: `dmarc=pass header.from=example.org`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MethodResult {
    /// The method, in lower case.
    pub(crate) method: String,
    /// Its result, in lower case.
    pub(crate) result: String,
    properties: Vec<(String, String)>,
}

impl MethodResult {
    /// A property such as `header.from`.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The results in the topmost field of a trusted server. Servers put the field above or right below their own
/// Received (Exchange the first, Gmail the second), so the search goes down through Received fields of the trusted
/// organization and internal hops, and ends at the second field `by` a trusted server or at any other server's.
pub(crate) fn trusted(mail: &Mail, ids: &[String]) -> Option<Vec<MethodResult>> {
    let mut is_border_passed = false;
    for (name, value) in &mail.headers {
        if name.eq_ignore_ascii_case("Received") {
            let by = received_by(value);
            if is_border_passed || by.as_deref().is_some_and(|by| !is_internal(by, ids)) {
                return None;
            }
            is_border_passed = by.is_some_and(|by| ids.iter().any(|id| id.eq_ignore_ascii_case(&by)));
        } else if name.eq_ignore_ascii_case("Authentication-Results")
            && let Some((id, results)) = read(value)
            && ids.iter().any(|known| known.eq_ignore_ascii_case(&id))
        {
            return Some(results);
        }
    }
    None
}

/// The host in the `by` clause of a Received field.
fn received_by(value: &str) -> Option<String> {
    let plain = without_comments(value)?;
    let mut words = plain.split_whitespace();
    words.find(|word| word.eq_ignore_ascii_case("by"))?;
    words
        .next()
        .map(|host| host.trim_matches(['[', ']', ';']).to_ascii_lowercase())
}

/// Whether a host belongs to the organization of a trusted server, or is a bare IP address of an internal hop.
fn is_internal(host: &str, ids: &[String]) -> bool {
    let is_address = host.parse::<std::net::IpAddr>().is_ok() || host.contains(':');
    let is_sibling = |id: &String| organization(id).is_some_and(|domain| organization(host) == Some(domain));
    // Exchange Online writes no id; its hosts are outlook.com and protection.outlook.com.
    let is_exchange = ids.iter().any(String::is_empty) && host.ends_with(".outlook.com");
    is_address || !host.contains('.') || is_exchange || ids.iter().any(is_sibling)
}

/// The last two labels of a host name; enough to tell siblings, since a wrong guess only makes us stop or go on
/// inside the configured domain.
fn organization(host: &str) -> Option<String> {
    let mut labels = host.rsplit('.').take(2).collect::<Vec<_>>();
    labels.reverse();
    (labels.len() == 2).then(|| labels.join(".").to_ascii_lowercase())
}

/// Reads a field: the server's id and its results. `None` if it is malformed.
fn read(value: &str) -> Option<(String, Vec<MethodResult>)> {
    let plain = without_comments(value)?;
    let mut pieces = split(&plain)?.into_iter();
    let first = pieces.next()?;
    let mut words = first.split_whitespace();
    let id = words.next()?.trim_matches('"').to_owned();
    if id.contains('=') {
        // No id at all: the first piece is a result.
        let results = std::iter::once(first)
            .chain(pieces)
            .filter_map(|piece| result(&piece))
            .collect();
        return Some((String::new(), results));
    }
    let is_version = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    if !words.all(is_version) {
        return None;
    }
    Some((id, pieces.filter_map(|piece| result(&piece)).collect()))
}

/// Replaces comments by spaces, nested ones too; `None` if one or a quoted string stays open.
fn without_comments(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let (mut depth, mut is_quoted) = (0_usize, false);
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next()?;
                if depth == 0 && !matches!(escaped, '"' | '(' | ')' | ';') {
                    plain.push(escaped);
                }
            }
            '"' if depth == 0 => {
                is_quoted = !is_quoted;
                plain.push('"');
            }
            '(' if !is_quoted => depth = depth.saturating_add(1),
            ')' if !is_quoted => {
                depth = depth.checked_sub(1)?;
                plain.push(' ');
            }
            other if depth == 0 => plain.push(other),
            _ => {}
        }
    }
    (depth == 0 && !is_quoted).then_some(plain)
}

/// Cuts at semicolons outside quoted strings.
fn split(plain: &str) -> Option<Vec<String>> {
    let mut pieces = vec![String::new()];
    let mut is_quoted = false;
    for character in plain.chars() {
        match character {
            ';' if !is_quoted => pieces.push(String::new()),
            other => {
                is_quoted ^= other == '"';
                pieces.last_mut()?.push(other);
            }
        }
    }
    Some(pieces)
}

/// Reads `method=result property=value …`.
fn result(piece: &str) -> Option<MethodResult> {
    // White space may stand around `=` (RFC 8601 §2.2).
    let tight = piece.split('=').map(str::trim).collect::<Vec<_>>().join("=");
    let mut words = tight.split_whitespace();
    let (method, result) = words.next()?.split_once('=')?;
    let method = method.split('/').next().unwrap_or(method).trim().to_ascii_lowercase();
    let properties = words
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches('"').to_owned()))
        .collect();
    Some(MethodResult {
        method,
        result: result.to_ascii_lowercase(),
        properties,
    })
}
