//! HTML into readable text.

/// Readable text of an HTML part.
pub fn html_to_text(html: &str) -> String {
    mail_parser::decoders::html::html_to_text(html)
}
