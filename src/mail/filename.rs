//! Names of attachments as labels that are safe to show and to print.
//! It never yields a path, and nobody opens a file by its result.

/// Longest label: file systems allow 255 bytes, tools add suffixes.
const LABEL_MAX_BYTES: usize = 150;
/// Names that Windows reserves for devices.
const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// The label of a stated name; `None` if nothing of it can be shown.
pub(crate) fn label(stated: &str) -> Option<String> {
    let visible: String = stated
        .chars()
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .filter(|c| is_visible(*c))
        .collect();
    let name = if is_path(&visible) {
        last_component(&visible)
    } else {
        visible.as_str()
    };
    let flat: String = name
        .chars()
        .map(|c| if matches!(c, '/' | '\\' | ':') { '_' } else { c })
        .collect();
    let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    let bare = flat.trim_start_matches(['.', ' ']).trim_end_matches(['.', ' ']);
    let bare = if is_reserved(bare) {
        format!("_{bare}")
    } else {
        bare.to_owned()
    };
    (!bare.is_empty()).then(|| shorten(&bare))
}

/// Whether a character may stand in a label: no control, none that is invisible or turns the direction of writing
/// (`exe.gpj` shown as `jpg.exe`, Unicode TR 36 §2.5).
fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a name is a path on somebody's disk rather than a name with a slash in it.
fn is_path(name: &str) -> bool {
    let mut start = name.chars();
    let is_drive = start.next().is_some_and(|c| c.is_ascii_alphabetic())
        && start.next() == Some(':')
        && matches!(start.next(), Some('\\' | '/'));
    is_drive || name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..")
}

/// What stands behind the last separator.
fn last_component(name: &str) -> &str {
    name.rsplit(['/', '\\'])
        .find(|part| !part.trim_matches('.').is_empty())
        .unwrap_or_default()
}

/// Whether Windows would take a name for a device: `con`, `com1.txt`.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    RESERVED.contains(&stem.trim_end_matches(|c: char| c.is_ascii_digit()))
}

/// Cuts a label to [`LABEL_MAX_BYTES`], keeping a short extension.
fn shorten(label: &str) -> String {
    if label.len() <= LABEL_MAX_BYTES {
        return label.to_owned();
    }
    let extension = label
        .rsplit_once('.')
        .map(|(_, extension)| extension)
        .filter(|extension| extension.len() <= 10);
    let suffix = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    let end = label.floor_char_boundary(LABEL_MAX_BYTES.saturating_sub(suffix.len()));
    format!("{}{suffix}", label.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_no_path_and_hides_nothing() {
        for (stated, safe) in [
            ("report.pdf", Some("report.pdf")),
            ("../../etc/passwd", Some("passwd")),
            (r"C:\Users\ann\report.pdf", Some("report.pdf")),
            ("/etc/passwd", Some("passwd")),
            ("offer 1/2.pdf", Some("offer 1_2.pdf")),
            ("a:b.txt", Some("a_b.txt")),
            ("..", None),
            ("", None),
            ("\u{202e}fdp.exe", Some("fdp.exe")),
            ("a\u{200b}b\r\n.txt", Some("ab .txt")),
            (".htaccess", Some("htaccess")),
            ("con.txt", Some("_con.txt")),
            ("COM1", Some("_COM1")),
            ("console.txt", Some("console.txt")),
            ("naïve file.txt", Some("naïve file.txt")),
        ] {
            assert_eq!(label(stated).as_deref(), safe, "{stated:?}");
        }
        let long = label(&format!("{}.pdf", "ü".repeat(200))).unwrap();
        assert!(long.len() <= 150 && long.ends_with("ü.pdf"), "{long}");
    }
}
