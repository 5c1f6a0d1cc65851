//! Texts of automatic replies, with places that are filled: a line `Subject: …`, an empty line, the text.
//! It never fills in anything that a sender wrote but the subject.

use std::path::PathBuf;

/// The text where no file is named.
const STANDARD: &str = "Subject: [{{key}}] {{subject}}\n\n\
    Your message has arrived and has the number {{key}}.\n\n\
    If you want to add something, just reply to this mail.\n";

/// A text with places to fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    subject: Vec<Piece>,
    text: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Key,
    Subject,
    Project,
}

/// What is filled in.
#[derive(Debug, Clone, Copy)]
pub struct Values<'v> {
    /// `{{key}}`, such as `SUP-1`.
    pub key: &'v str,
    /// `{{subject}}`: that of the mail, as that of an answer.
    pub subject: &'v str,
    /// `{{project}}`: the name of the project.
    pub project: &'v str,
}

/// What is wrong with a text, and in which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what mends it.
    pub why: String,
}

impl Template {
    /// The text where no file is named.
    pub fn standard() -> Self {
        // A test shows that it is sound.
        Self::parse(STANDARD).unwrap_or(Self {
            subject: vec![Piece::Key],
            text: vec![Piece::Key],
        })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        let fault = |line, why: &str| TemplateFault {
            line,
            why: why.to_owned(),
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let subject = first
            .split_once(':')
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case("subject"))
            .map(|(_, subject)| subject.trim())
            .filter(|subject| !subject.is_empty())
            .ok_or_else(|| fault(1, "must begin with a line such as \"Subject: [{{key}}] {{subject}}\""))?;
        let body = rest
            .strip_prefix('\n')
            .ok_or_else(|| fault(2, "must be empty: it parts the subject from the text"))?;
        if body.trim().is_empty() {
            return Err(fault(3, "has no text"));
        }
        Ok(Self {
            subject: pieces(subject, 1)?,
            text: pieces(body, 3)?,
        })
    }

    /// Subject and text, filled in.
    pub fn fill(&self, values: &Values<'_>) -> (String, String) {
        (fill(&self.subject, values), fill(&self.text, values))
    }
}

fn pieces(text: &str, first_line: usize) -> Result<Vec<Piece>, TemplateFault> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let line = |rest: &str| {
        let read = text.len() - rest.len();
        first_line + text.bytes().take(read).filter(|b| *b == b'\n').count()
    };
    while let Some((before, after)) = rest.split_once("{{") {
        let fault = |why: String| TemplateFault { line: line(after), why };
        let (name, remaining) = after
            .split_once("}}")
            .filter(|(name, _)| !name.contains('\n'))
            .ok_or_else(|| fault("has {{ without }}".to_owned()))?;
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(match name.trim() {
            "key" => Piece::Key,
            "subject" => Piece::Subject,
            "project" => Piece::Project,
            other => {
                let why =
                    format!("{{{{{other}}}}} is not known; there are {{{{key}}}}, {{{{subject}}}} and {{{{project}}}}");
                return Err(fault(why));
            }
        });
        rest = remaining;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

fn fill(pieces: &[Piece], values: &Values<'_>) -> String {
    let filled = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text,
        Piece::Key => values.key,
        Piece::Subject => values.subject,
        Piece::Project => values.project,
    });
    filled.collect()
}

/// A text in several languages: that of the file, and those beside it with a language at the end of their names,
/// `FILE.de` for German.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letters {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: Template,
    /// Texts by language (ISO 639), in lower case.
    pub languages: Vec<(String, Template)>,
}

impl Letters {
    /// The text for the languages that a mail states (RFC 3282), the first that there is one in.
    pub fn of(&self, stated: Option<&str>) -> &Template {
        stated
            .unwrap_or_default()
            .split(',')
            .filter_map(|tag| tag.trim().split(['-', ';']).next())
            .find_map(|language| {
                let language = language.to_ascii_lowercase();
                self.languages.iter().find(|(known, _)| *known == language)
            })
            .map_or(&self.text, |(_, template)| template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'static> = Values {
        key: "SUP-1",
        subject: "Re: {{key}} broken",
        project: "Support",
    };

    #[test]
    fn places_are_filled_once_and_what_was_filled_in_is_not_read_again() {
        assert_eq!(Template::parse(STANDARD), Ok(Template::standard()));
        let (subject, text) = Template::standard().fill(&VALUES);
        assert_eq!(subject, "[SUP-1] Re: {{key}} broken");
        assert!(text.contains("number SUP-1."), "{text}");
        let template = Template::parse("subject: {{ project }}\r\n\r\na {{key}}\r\nb\r\n").unwrap();
        assert_eq!(
            template.fill(&VALUES),
            ("Support".to_owned(), "a SUP-1\nb\n".to_owned())
        );
    }

    #[test]
    fn a_fault_names_its_line() {
        for (text, line, word) in [
            ("", 1, "Subject"),
            ("Hello\n\nx", 1, "Subject"),
            ("Subject:\n\nx", 1, "Subject"),
            ("Subject: x\ny", 2, "empty"),
            ("Subject: x\n\n \n", 3, "no text"),
            ("Subject: {{name}}\n\nx", 1, "{{name}}"),
            ("Subject: x\n\na\nb {{reporter}}", 4, "{{reporter}}"),
            ("Subject: x\n\na {{key\n}}", 3, "without"),
        ] {
            let fault = Template::parse(text).unwrap_err();
            assert!(fault.line == line && fault.why.contains(word), "{text:?}: {fault:?}");
        }
    }

    #[test]
    fn the_language_that_a_mail_states_chooses_the_text() {
        let text = |word: &str| Template::parse(&format!("Subject: x\n\n{word}\n")).unwrap();
        let letters = Letters {
            path: "ack.txt".into(),
            text: text("en"),
            languages: vec![("de".into(), text("de")), ("fr".into(), text("fr"))],
        };
        for (stated, word) in [
            (None, "en"),
            (Some("de-DE"), "de"),
            (Some("DE"), "de"),
            (Some("pt, fr;q=0.5"), "fr"),
            (Some("es"), "en"),
            (Some(""), "en"),
        ] {
            assert_eq!(letters.of(stated), &text(word), "{stated:?}");
        }
    }
}
