//! What the person at the terminal reads. Blocks of several threads never mix; colours only on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

/// Columns of a terminal that is not wide.
const WIDTH: usize = 79;
/// In front of what commands print.
const INDENT: &str = "   ";
/// In front of a line of the daemon's log.
const LOG: &str = "   | ";

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";

/// The only one who writes to standard output.
pub(crate) struct Narrator {
    has_colours: bool,
    /// Whether the last line is empty: no two are.
    is_parted: Mutex<bool>,
}

impl Narrator {
    /// One for this terminal.
    pub(crate) fn new() -> Self {
        let has_colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            has_colours,
            is_parted: Mutex::new(false),
        }
    }

    /// The first words.
    pub(crate) fn title(&self, text: &str) {
        self.put(&self.painted(BOLD, text));
    }

    /// Begins a step.
    pub(crate) fn step(&self, number: usize, title: &str) {
        let heading = format!("{number}  {title}");
        self.put(&format!("\n{}\n", self.painted(BOLD, &heading)));
    }

    /// What happens, in the words of the show.
    pub(crate) fn say(&self, text: &str) {
        self.put(&wrapped(text, INDENT, INDENT).join("\n"));
    }

    /// What came out well.
    pub(crate) fn good(&self, text: &str) {
        let lines = wrapped(text, "   ok ", "      ");
        let text = lines.join("\n").replacen("ok", &self.painted(GREEN, "ok"), 1);
        self.put(&text);
    }

    /// A file, a mail or a page, as it stands.
    pub(crate) fn quote(&self, text: &str) {
        let lines = text.trim_end().lines();
        let quoted: Vec<String> = lines.flat_map(|line| wrapped(line, "     ", "       ")).collect();
        self.put(&format!("\n{}\n", quoted.join("\n")));
    }

    /// A command as a person types it.
    pub(crate) fn command(&self, arguments: &[&str]) {
        let typed = format!("$ mailintake {}", arguments.join(" "));
        self.put(&format!("\n{INDENT}{}", self.painted(BOLD, &typed)));
    }

    /// What a command printed.
    pub(crate) fn output(&self, text: &str) {
        let lines = text.trim_end().lines();
        let shown: Vec<String> = lines.flat_map(|line| wrapped(line, INDENT, "     ")).collect();
        self.put(&format!("{}\n", shown.join("\n")));
    }

    /// What a command printed as a table, as far as it fits: the columns stay where they are.
    pub(crate) fn table(&self, text: &str) {
        let lines = text.trim_end().lines();
        let shown: Vec<String> = lines.map(|line| clipped(&format!("{INDENT}{line}"))).collect();
        self.put(&format!("{}\n", shown.join("\n")));
    }

    /// A line of the daemon's log, without its date.
    pub(crate) fn log(&self, line: &str) {
        let line = line.split_once('T').map_or(line, |(_, rest)| rest);
        let lines = wrapped(line, LOG, "   |   ");
        let painted: Vec<String> = lines.iter().map(|line| self.painted(DIM, line)).collect();
        self.put(&painted.join("\n"));
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.has_colours {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn put(&self, text: &str) {
        let mut is_parted = self.is_parted.lock().unwrap_or_else(PoisonError::into_inner);
        let text = if *is_parted {
            text.trim_start_matches('\n')
        } else {
            text
        };
        *is_parted = text.ends_with('\n');
        let mut out = io::stdout().lock();
        // Where nobody reads any more, the show still plays to its end.
        drop(writeln!(out, "{text}").and_then(|()| out.flush()));
    }
}

/// A line up to the edge.
fn clipped(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.trim_end().to_owned();
    }
    let kept: String = line.chars().take(WIDTH.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A line as lines that fit, broken between words; a word that fits nowhere is broken where it must be.
fn wrapped(line: &str, first: &str, rest: &str) -> Vec<String> {
    if first.chars().count() + line.chars().count() <= WIDTH {
        return vec![format!("{first}{line}").trim_end().to_owned()];
    }
    let mut lines = Vec::new();
    let mut current = first.to_owned();
    let mut room = WIDTH.saturating_sub(first.chars().count());
    for word in line.split_inclusive(' ') {
        let mut word = word.to_owned();
        if word.trim_end().chars().count() > room && room < WIDTH.saturating_sub(rest.chars().count()) {
            lines.push(std::mem::replace(&mut current, rest.to_owned()));
            room = WIDTH.saturating_sub(rest.chars().count());
        }
        while word.trim_end().chars().count() > room {
            current.extend(word.chars().take(room));
            word = word.chars().skip(room).collect();
            lines.push(std::mem::replace(&mut current, rest.to_owned()));
            room = WIDTH.saturating_sub(rest.chars().count());
        }
        room = room.saturating_sub(word.chars().count());
        current.push_str(&word);
    }
    lines.push(current);
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}
