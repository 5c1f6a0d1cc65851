//! Message-IDs: taken out of header fields, judged, compared.
//! It never invents one: junk is absent.

/// Longest id that is kept: RFC 5322 §2.1.1 bounds a line at 998 characters.
const ID_MAX_BYTES: usize = 998;
/// Most ids that are kept of In-Reply-To and of References.
const IDS_MAX: usize = 100;

/// The ids in a field, in order, each once, without angle brackets. Where none stands in brackets, the words with
/// exactly one `@` count: some old clients write none.
pub(crate) fn read_all(value: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((inner, remaining)) = after.split_once('>') else {
            rest = after;
            continue;
        };
        // In `<broken <a@b>` the last opening bracket counts.
        let inner = inner.rsplit('<').next().unwrap_or(inner);
        ids.extend(valid(inner));
        rest = remaining;
    }
    if ids.is_empty() {
        ids.extend(
            value
                .split([' ', '\t', ',', ';', '<', '>'])
                .filter(|word| is_bare(word))
                .filter_map(valid),
        );
    }
    newest(ids)
}

/// The first id in a field.
pub(crate) fn read_first(value: &str) -> Option<String> {
    read_all(value).into_iter().next()
}

/// Keeps the first of equal ids and the newest [`IDS_MAX`].
fn newest(ids: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut unique: Vec<String> = ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
    unique.split_off(unique.len().saturating_sub(IDS_MAX))
}

/// Whether a word without brackets is an id rather than a word of prose.
fn is_bare(word: &str) -> bool {
    word.split_once('@')
        .is_some_and(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains('@'))
}

/// An id without the white space that folding left in it, `None` for junk.
fn valid(inner: &str) -> Option<String> {
    let id: String = inner.trim().chars().filter(|c| !c.is_whitespace()).collect();
    let is_one_word = !inner.trim().contains(' ') || id.contains('@');
    let is_good =
        !id.is_empty() && id != "@" && id.len() <= ID_MAX_BYTES && is_one_word && !id.chars().any(char::is_control);
    is_good.then_some(id)
}

/// A Message-ID as it is compared: white space and one pair of angle brackets taken off, the domain in lower case
/// (the part left of `@` is the sender's own, RFC 5322 §3.6.4).
pub fn carrier_key(message_id: &str) -> String {
    let trimmed = message_id.trim();
    let inner = trimmed
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or(trimmed)
        .trim();
    match inner.rsplit_once('@') {
        Some((left, domain)) => format!("{left}@{}", domain.to_lowercase()),
        None => inner.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_out_of_what_clients_write() {
        for (value, ids) in [
            ("<a@b>", &["a@b"][..]),
            ("<a@b> <c@d>\t<a@b>", &["a@b", "c@d"]),
            ("<a@b>,<c@d>", &["a@b", "c@d"]),
            ("a@b c@d", &["a@b", "c@d"]),
            ("Your message of Monday <a@b>", &["a@b"]),
            ("<nodomain>", &["nodomain"]),
            ("<a@b", &["a@b"]),
            ("<foo bar>", &[]),
            ("<>", &[]),
            ("foo bar", &[]),
            ("", &[]),
            ("<a@ b>", &["a@b"]),
        ] {
            assert_eq!(read_all(value), ids, "{value}");
        }
        let many = (0..150).map(|n| format!("<{n}@x>")).collect::<Vec<_>>().join(" ");
        let kept = read_all(&many);
        assert_eq!(
            (kept.len(), kept[0].as_str(), kept[99].as_str()),
            (100, "50@x", "149@x")
        );
    }

    #[test]
    fn ids_are_compared_without_brackets_and_case_of_the_domain() {
        for (id, key) in [
            ("<A@B.Example>", "A@b.example"),
            (" a@b ", "a@b"),
            ("<x>", "x"),
            ("<<a@b>>", "<a@b>"),
        ] {
            assert_eq!(carrier_key(id), key, "{id}");
        }
    }
}
