//! What mail clients mark in the HTML that they write: quotations, signatures, what is not to be seen.
//! It reads names and styles only, never words.

use super::html;

/// Whether an element is not to be seen: preheaders of newsletters, tracking text.
pub(crate) fn is_hidden(attributes: &str) -> bool {
    let style: String = html::attribute(attributes, "style")
        .unwrap_or_default()
        .to_ascii_lowercase()
        .split_whitespace()
        .collect();
    [
        "display:none",
        "visibility:hidden",
        "mso-hide:all",
        "max-height:0",
        "font-size:0px",
        "font-size:0;",
    ]
    .iter()
    .any(|mark| style.contains(mark))
        && !style.contains("max-height:0px;mso-hide:false")
}

/// What a client marked an element as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientMark {
    /// The element is quoted.
    Quote,
    /// The element and all that follows is quoted.
    QuoteTail,
    /// The element is a signature.
    Signature,
}

/// Reads a client's mark: Outlook, Exchange, Yahoo, Apple, GMX, Zimbra, Thunderbird, Proton and their like name what
/// they insert.
pub(crate) fn client_mark(name: &str, attributes: &str) -> Option<ClientMark> {
    let read = |attribute: &str| html::attribute(attributes, attribute).unwrap_or_default();
    let (id, class, label) = (read("id"), read("class"), read("name"));
    let style: String = read("style").to_ascii_lowercase().split_whitespace().collect();
    let is_one_of = |value: &str, known: &[&str]| {
        value
            .split_whitespace()
            .any(|word| known.contains(&word.trim_start_matches("x_")))
    };
    let is_outlook_border = name == "div"
        && style.contains("border:none")
        && style.contains("border-top:solid#")
        && style.contains("1.0pt")
        || style.contains("border-top-color:rgb(229,229,229)");
    let is_divider =
        name == "hr" && (read("data-marker") == "__DIVIDER__" || read("tabindex") == "-1" || id == "stopSpelling");
    if is_one_of(&id, &["divRplyFwdMsg", "appendonsend"]) || is_outlook_border || is_divider {
        Some(ClientMark::QuoteTail)
    } else if is_one_of(
        &id,
        &[
            "OLK_SRC_BODY_SECTION",
            "mail-editor-reference-message-container",
            "reply-intro",
        ],
    ) || is_one_of(
        &class,
        &[
            "yahoo_quoted",
            "moz-cite-prefix",
            "gmail_attr",
            "zmail_extra",
            "tutanota_quote",
            "OutlookMessageHeader",
            "protonmail_quote",
        ],
    ) || id.contains("yahoo_quoted")
        || is_one_of(&label, &["quote", "messageReplySection"])
    {
        Some(ClientMark::Quote)
    } else if is_one_of(&id, &["Signature", "AppleMailSignature"])
        || is_one_of(
            &class,
            &["gmail_signature", "moz-signature", "protonmail_signature_block"],
        )
    {
        Some(ClientMark::Signature)
    } else {
        None
    }
}
