//! HTML into readable text: paragraphs, lists, links, tables, quotations.
//! It shows what a reader would see: what is styled to be invisible is left out.

use super::html::{self, Scanner, Token};
use super::mark::{ClientMark, client_mark, is_hidden};

/// Deepest quotation that is shown; deeper ones are shown at this depth.
const QUOTE_DEPTH_MAX: usize = 20;
/// Most open elements that are remembered; further ones only lose their indentation.
const OPEN_MAX: usize = 4096;
/// How far up an end tag is matched: elements left open are common, but not by the hundred.
const CLOSE_REACH: usize = 128;

/// Readable text of an HTML part.
pub fn html_to_text(html: &str) -> String {
    render(html, false)
}

/// Readable text in which whatever the writing client marked as quotation is quoted, and as signature stands below a
/// delimiter. The words are those of [`html_to_text`].
pub(crate) fn html_to_marked_text(html: &str) -> String {
    render(html, true)
}

/// Renders; `is_marked` heeds the marks of clients beyond `blockquote`.
fn render(html: &str, is_marked: bool) -> String {
    let mut renderer = Renderer {
        is_marked,
        ..Renderer::default()
    };
    for token in Scanner::new(html) {
        match token {
            Token::Text(text) => renderer.text(text),
            Token::Open { name, attributes } => renderer.open(&name, attributes),
            Token::Close { name } => renderer.close(&name),
        }
    }
    renderer.break_line();
    renderer.out
}

/// What closing an element undoes.
#[derive(Debug, Default)]
struct Open {
    name: String,
    quotes: usize,
    is_hidden: bool,
    preformatted: usize,
    link: Option<String>,
    /// The number of the last item of an ordered list.
    items: Option<usize>,
    is_list: bool,
    /// Whether a table holds data rather than the layout of the page.
    is_data: bool,
    gap: usize,
}

/// The text so far, and where we are.
#[derive(Debug, Default)]
struct Renderer {
    is_marked: bool,
    out: String,
    line: String,
    /// Empty lines wanted before the next text.
    gap: usize,
    stack: Vec<Open>,
    quotes: usize,
    /// How deep the last line was quoted: an empty line belongs to the outer quotation.
    last_depth: usize,
    hidden: usize,
    preformatted: usize,
    /// Where the text of the open link begins in `line`.
    link_start: usize,
    has_text: bool,
    /// Whether the empty line so far holds a no-break space.
    is_spaced: bool,
}

/// How an element breaks lines: `None` inline, else how many empty lines around it.
fn block_gap(name: &str) -> Option<usize> {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "blockquote" | "pre" | "table" | "dl" | "hr" => {
            Some(1)
        }
        "div" | "li" | "tr" | "section" | "article" | "header" | "footer" | "address" | "dd" | "dt" | "form"
        | "center" | "main" | "body" | "html" | "tbody" | "thead" | "caption" | "fieldset" | "aside" | "nav"
        | "figure" => Some(0),
        _ => None,
    }
}

/// Whether an element has no end tag.
fn is_void(name: &str) -> bool {
    matches!(
        name,
        "br" | "hr" | "img" | "meta" | "link" | "input" | "area" | "base" | "col" | "wbr" | "embed" | "source"
    )
}

impl Renderer {
    /// Adds text, white space folded unless preformatted.
    fn text(&mut self, encoded: &str) {
        if self.hidden > 0 {
            return;
        }
        let text = html::decode(encoded);
        if self.preformatted > 0 {
            for (at, line) in text.split('\n').enumerate() {
                if at > 0 {
                    self.line_end();
                }
                self.line.push_str(line.trim_end_matches('\r'));
            }
            return;
        }
        for character in text.chars() {
            if character.is_whitespace() {
                // Alone in its paragraph it is how Outlook writes an empty line.
                self.is_spaced |= character == '\u{a0}' && self.line.is_empty();
                if !self.line.is_empty() && !self.line.ends_with(' ') {
                    self.line.push(' ');
                }
            } else if !matches!(character, '\u{200b}'..='\u{200d}' | '\u{feff}' | '\u{ad}' | '\u{34f}') {
                self.line.push(character);
            }
        }
    }

    /// Ends a line that must end, even if it is empty.
    fn line_end(&mut self) {
        if self.line.trim().is_empty() {
            self.gap = self.gap.saturating_add(1).min(2);
            self.line.clear();
        } else {
            self.break_line();
        }
    }

    /// Writes out the line, if anything stands in it.
    fn break_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.link_start = 0;
        let line = line.trim_end();
        let is_spaced = std::mem::take(&mut self.is_spaced);
        if line.trim().is_empty() {
            self.gap = self.gap.max(usize::from(is_spaced));
            return;
        }
        let depth = self.quotes.min(QUOTE_DEPTH_MAX);
        if self.has_text {
            for _ in 0..self.gap {
                self.out.push_str(&">".repeat(depth.min(self.last_depth)));
                self.out.push('\n');
            }
        }
        self.gap = 0;
        self.last_depth = depth;
        self.has_text = true;
        self.out.push_str(&">".repeat(depth));
        self.out.push_str(if depth > 0 { " " } else { "" });
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// Breaks the line and wants at least `gap` empty lines before what follows.
    fn block(&mut self, gap: usize) {
        self.break_line();
        self.gap = self.gap.max(gap);
    }

    /// An element begins.
    fn open(&mut self, name: &str, attributes: &str) {
        let mut gap = block_gap(name);
        if name == "p"
            && html::attribute(attributes, "class")
                .is_some_and(|class| class.to_ascii_lowercase().contains("msonormal"))
        {
            gap = Some(0);
        }
        if let Some(gap) = gap {
            self.block(gap);
        }
        let mark = if self.is_marked {
            client_mark(name, attributes)
        } else {
            None
        };
        if mark == Some(ClientMark::QuoteTail) && self.has_text {
            self.block(0);
            self.quotes = self.quotes.saturating_add(1);
        }
        match name {
            "br" => self.line_end(),
            "img" => self.image(attributes),
            "td" | "th" => self.cell(name),
            _ => {}
        }
        if is_void(name) || self.stack.len() >= OPEN_MAX {
            return;
        }
        let mut open = Open {
            name: name.to_owned(),
            gap: gap.unwrap_or(0),
            is_hidden: is_hidden(attributes),
            ..Open::default()
        };
        self.enter(&mut open, attributes, mark);
        self.stack.push(open);
    }

    /// What an element changes until it ends.
    fn enter(&mut self, open: &mut Open, attributes: &str, mark: Option<ClientMark>) {
        self.hidden = self.hidden.saturating_add(usize::from(open.is_hidden));
        match open.name.as_str() {
            "blockquote" => open.quotes = 1,
            "pre" => open.preformatted = 1,
            "table" => open.is_data = html::attribute(attributes, "border").is_some_and(|border| border != "0"),
            "ul" => open.is_list = true,
            "ol" => (open.is_list, open.items) = (true, Some(0)),
            "li" => self.item(),
            "a" => {
                open.link = html::attribute(attributes, "href");
                self.link_start = self.line.len();
            }
            _ => {}
        }
        match mark {
            Some(ClientMark::Quote) if open.quotes == 0 => {
                self.block(0);
                open.quotes = 1;
            }
            Some(ClientMark::Signature) if self.has_text || !self.line.is_empty() => {
                self.block(0);
                self.line.push_str("--");
                self.break_line();
            }
            Some(ClientMark::Quote | ClientMark::QuoteTail | ClientMark::Signature) | None => {}
        }
        self.quotes = self.quotes.saturating_add(open.quotes);
        self.preformatted = self.preformatted.saturating_add(open.preformatted);
    }

    /// Begins a list item: `* ` or its number, indented by the depth of lists.
    fn item(&mut self) {
        const INDENT_MAX: usize = 8;
        if self.hidden > 0 {
            return;
        }
        let depth = self
            .stack
            .iter()
            .rev()
            .take(CLOSE_REACH)
            .filter(|open| open.is_list)
            .count()
            .saturating_sub(1)
            .min(INDENT_MAX);
        let list = self.stack.iter_mut().rev().take(CLOSE_REACH).find(|open| open.is_list);
        let sign = match list.and_then(|list| list.items.as_mut()) {
            Some(number) => {
                *number = number.saturating_add(1);
                format!("{number}. ")
            }
            None => "* ".to_owned(),
        };
        self.line.push_str(&"  ".repeat(depth));
        self.line.push_str(&sign);
    }

    /// Begins a cell: data is told apart by a bar, layout by a space.
    fn cell(&mut self, name: &str) {
        let table = self
            .stack
            .iter_mut()
            .rev()
            .take(CLOSE_REACH)
            .find(|open| open.name == "table");
        let is_data = table.is_some_and(|table| {
            table.is_data |= name == "th";
            table.is_data
        });
        if !self.line.trim().is_empty() && self.hidden == 0 {
            self.line.truncate(self.line.trim_end().len());
            self.line.push_str(if is_data { " | " } else { " " });
        }
    }

    /// Shows what an image says of itself, unless it is a mere file name.
    fn image(&mut self, attributes: &str) {
        let alternative = html::attribute(attributes, "alt").unwrap_or_default();
        if self.hidden == 0 && alternative.trim().contains(' ') {
            self.text(&format!("[{}]", alternative.trim()));
        }
    }

    /// An element ends, and with it those in it that were left open.
    fn close(&mut self, name: &str) {
        if let Some(back) = self
            .stack
            .iter()
            .rev()
            .take(CLOSE_REACH)
            .position(|open| open.name == name)
        {
            for _ in 0..=back {
                if let Some(open) = self.stack.pop() {
                    self.leave(&open);
                }
            }
        } else if name == "p" || name == "br" {
            self.line_end();
        }
    }

    /// Undoes what an element changed.
    fn leave(&mut self, open: &Open) {
        if let Some(target) = &open.link
            && self.hidden == 0
        {
            self.target(target);
        }
        if block_gap(&open.name).is_some() || open.quotes > 0 {
            self.block(open.gap);
        }
        self.hidden = self.hidden.saturating_sub(usize::from(open.is_hidden));
        self.quotes = self.quotes.saturating_sub(open.quotes);
        self.preformatted = self.preformatted.saturating_sub(open.preformatted);
    }

    /// Writes where a link goes, unless its text says so.
    fn target(&mut self, target: &str) {
        const TARGET_MAX_BYTES: usize = 2000;
        let shown = self.line.get(self.link_start..).unwrap_or_default().trim().to_owned();
        let plain = |address: &str| {
            let bare = address
                .trim_start_matches("mailto:")
                .trim_start_matches("https://")
                .trim_start_matches("http://");
            bare.trim_start_matches("www.")
                .trim_end_matches('/')
                .to_ascii_lowercase()
        };
        let is_external = ["http://", "https://", "mailto:"]
            .iter()
            .any(|scheme| target.to_ascii_lowercase().starts_with(scheme));
        let is_said = shown.is_empty() || plain(&shown) == plain(target);
        if is_external && !is_said && target.len() <= TARGET_MAX_BYTES && !target.contains(char::is_whitespace) {
            self.line.truncate(self.line.trim_end().len());
            self.line.extend([" <", target, ">"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_reads_as_it_looks() {
        for (html, text) in [
            ("<p>one</p><p>two</p>", "one\n\ntwo\n"),
            ("one<br>two<br><br>three", "one\ntwo\n\nthree\n"),
            ("<div>a</div><div><br></div><div>b</div>", "a\n\nb\n"),
            ("<p class=MsoNormal>a</p><p class=MsoNormal>b</p>", "a\nb\n"),
            ("<ul><li>a<li>b</ul>c", "* a\n* b\n\nc\n"),
            ("<ol><li>a</li><li>b</li></ol>", "1. a\n2. b\n"),
            ("<a href='https://a.example/x'>here</a>", "here <https://a.example/x>\n"),
            ("<a href='https://a.example/'>a.example</a>", "a.example\n"),
            (
                "<blockquote>q<blockquote>r</blockquote></blockquote>t",
                "> q\n>\n>> r\n\nt\n",
            ),
            (
                "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>",
                "a b\nc\n",
            ),
            ("<table border=1><tr><td>a</td><td>b</td></tr></table>", "a | b\n"),
            (
                "<table><tr><th>a</th><th>b</th></tr><tr><td>c</td><td>d</td></tr></table>",
                "a | b\nc | d\n",
            ),
            (
                "<p class=MsoNormal>a</p><p class=MsoNormal>&nbsp;</p><p class=MsoNormal>b</p>",
                "a\n\nb\n",
            ),
            ("<div style='display: none'>pre</div>x", "x\n"),
            ("<pre>a\n  b</pre>", "a\n  b\n"),
            ("a &lt;b&gt;&nbsp;c", "a <b> c\n"),
            ("<style>x</style><script>y</script>", ""),
            ("text < 5", "text < 5\n"),
        ] {
            assert_eq!(html_to_text(html), text, "{html}");
        }
    }

    #[test]
    fn marks_of_clients_become_quotations() {
        for (html, text) in [
            (
                "new<div id=divRplyFwdMsg>From: a</div><p>old</p>",
                "new\n> From: a\n>\n> old\n",
            ),
            ("new<div class=yahoo_quoted>old</div>after", "new\n> old\nafter\n"),
            ("new<div class=gmail_signature>Ann</div>", "new\n--\nAnn\n"),
            ("<div id=divRplyFwdMsg>all</div>", "all\n"),
        ] {
            assert_eq!(html_to_marked_text(html), text, "{html}");
        }
    }

    #[test]
    fn hostile_markup_costs_linear_time() {
        let started = std::time::Instant::now();
        for html in [
            "<div>".repeat(200_000),
            "<b ".repeat(300_000),
            "</p>".repeat(200_000),
            format!("<a {}>", "x=1 ".repeat(200_000)),
            "<blockquote>x".repeat(100_000),
            "<ul><li>".repeat(50_000),
            "&".repeat(500_000),
            "<!--".repeat(100_000),
        ] {
            html_to_marked_text(&html);
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}
