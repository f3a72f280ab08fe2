//! What goes to standard output, and how it looks: a table on a terminal, tab-separated values in a pipe, JSON and others on demand.

use std::io::{IsTerminal, Write};

use bailiwick_api::Time;
use bailiwick_api::experiments::State;
use bailiwick_api::time::{ago, duration_words};
use serde::Serialize;

use crate::args::OutputFormat;
use crate::failure::{Failure, Result};

/// One field of a row.
pub enum Cell {
    Text(String),
    Number(i64),
    Time(Option<Time>),
    Milliseconds(Option<i64>),
    State(State),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Cell {
        Cell::Number(number)
    }
}

impl From<Time> for Cell {
    fn from(time: Time) -> Cell {
        Cell::Time(Some(time))
    }
}

impl From<Option<Time>> for Cell {
    fn from(time: Option<Time>) -> Cell {
        Cell::Time(time)
    }
}

/// A column of a list of `T`.
pub struct Column<T> {
    pub title: &'static str,
    /// Shown in a table only with `-o wide`.
    pub wide: bool,
    pub cell: fn(&T) -> Cell,
}

pub const fn column<T>(title: &'static str, cell: fn(&T) -> Cell) -> Column<T> {
    Column {
        title,
        wide: false,
        cell,
    }
}

pub const fn wide<T>(title: &'static str, cell: fn(&T) -> Cell) -> Column<T> {
    Column {
        title,
        wide: true,
        cell,
    }
}

/// Where and how to write.
#[derive(Clone, Copy)]
pub struct Output {
    format: Option<OutputFormat>,
    pub terminal: bool,
    pub colour: bool,
}

impl Output {
    pub fn new(format: Option<OutputFormat>) -> Output {
        let terminal = std::io::stdout().is_terminal();
        Output {
            format,
            terminal,
            colour: terminal && may_colour(),
        }
    }

    /// For a person at a terminal, and no other format is asked for.
    pub fn is_for_people(&self) -> bool {
        match self.format {
            None => self.terminal,
            Some(format) => matches!(format, OutputFormat::Table | OutputFormat::Wide),
        }
    }

    pub fn wants_json(&self) -> bool {
        matches!(self.format, Some(OutputFormat::Json | OutputFormat::Jsonl))
    }

    /// Writes a list.
    pub fn list<T: Serialize>(&self, columns: &[Column<T>], id: fn(&T) -> String, items: &[T]) -> Result<()> {
        write(&self.list_text(columns, id, items))
    }

    pub fn list_text<T: Serialize>(&self, columns: &[Column<T>], id: fn(&T) -> String, items: &[T]) -> String {
        match self.format {
            None if !self.terminal => tab_separated(columns, items),
            None | Some(OutputFormat::Table) => self.table(columns, items, false),
            Some(OutputFormat::Wide) => self.table(columns, items, true),
            Some(OutputFormat::Json) => json(&items),
            Some(OutputFormat::Jsonl) => items.iter().map(json_line).collect(),
            Some(OutputFormat::Csv) => comma_separated(columns, items),
            Some(OutputFormat::Id) => items.iter().map(|item| id(item) + "\n").collect(),
        }
    }

    /// Writes one thing: a line for each column.
    pub fn one<T: Serialize>(&self, columns: &[Column<T>], id: fn(&T) -> String, item: &T) -> Result<()> {
        let items = std::slice::from_ref(item);
        match self.format {
            None if !self.terminal => write(
                &columns
                    .iter()
                    .map(|column| format!("{}\t{}\n", key(column.title), field(&plain((column.cell)(item)))))
                    .collect::<String>(),
            ),
            None | Some(OutputFormat::Table | OutputFormat::Wide) => {
                let width = columns.iter().map(|column| column.title.len()).max().unwrap_or(0);
                let text: String = columns
                    .iter()
                    .map(|column| (column.title, self.shown((column.cell)(item))))
                    .filter(|(_, value)| !value.is_empty())
                    .map(|(title, value)| format!("{title:width$}  {value}\n"))
                    .collect();
                write(&text)
            }
            Some(OutputFormat::Json) => write(&json(item)),
            Some(OutputFormat::Jsonl) => write(&json_line(item)),
            Some(OutputFormat::Csv | OutputFormat::Id) => self.list(columns, id, items),
        }
    }

    /// Says what was done: a sentence for a person, the changed thing for a program.
    pub fn did<T: Serialize>(
        &self,
        sentence: &str,
        columns: &[Column<T>],
        id: fn(&T) -> String,
        item: &T,
    ) -> Result<()> {
        if self.is_for_people() {
            say(sentence);
            return Ok(());
        }
        match self.format {
            Some(OutputFormat::Json) => write(&json(item)),
            _ => self.list(columns, id, std::slice::from_ref(item)),
        }
    }

    fn table<T>(&self, columns: &[Column<T>], items: &[T], all: bool) -> String {
        let columns: Vec<_> = columns.iter().filter(|column| all || !column.wide).collect();
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(columns.iter().map(|column| column.title));
        for item in items {
            let cells = columns.iter().map(|column| self.shown((column.cell)(item)));
            let mut row = comfy_table::Row::from(cells);
            if !all {
                row.max_height(1);
            }
            table.add_row(row);
        }
        if let Some(width) = screen_width().filter(|_| self.terminal && !all) {
            table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
            table.set_width(width);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if self.colour {
            text = colour_states(&text);
        }
        text
    }

    /// As a person reads it.
    fn shown(&self, cell: Cell) -> String {
        match cell {
            Cell::Time(Some(time)) if time.0 > 0 => when(time, now()),
            Cell::Milliseconds(Some(ms)) => duration_words(ms),
            other => printable(&plain(other)),
        }
    }
}

/// How long ago, or how long from now.
pub fn when(time: Time, now: Time) -> String {
    if time <= now.plus_ms(1000) {
        return ago(time.min(now), now);
    }
    let words = ago(now, time);
    match words.strip_suffix(" ago") {
        Some(words) => format!("in {words}"),
        None => words,
    }
}

/// As a program reads it.
fn plain(cell: Cell) -> String {
    match cell {
        Cell::Text(text) => text,
        Cell::Number(number) => number.to_string(),
        Cell::Time(time) => time.map(|time| time.to_string()).unwrap_or_default(),
        Cell::Milliseconds(ms) => ms.map(|ms| ms.to_string()).unwrap_or_default(),
        Cell::State(state) => state.name().to_owned(),
    }
}

fn tab_separated<T>(columns: &[Column<T>], items: &[T]) -> String {
    let mut text = String::new();
    for item in items {
        let fields: Vec<_> = columns
            .iter()
            .map(|column| field(&plain((column.cell)(item))))
            .collect();
        text.push_str(&fields.join("\t"));
        text.push('\n');
    }
    text
}

/// Tabs and line ends would make two fields of one.
fn field(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

fn comma_separated<T>(columns: &[Column<T>], items: &[T]) -> String {
    let quoted = |text: String| {
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text
        }
    };
    let line = |fields: Vec<String>| fields.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
    let mut text = line(columns.iter().map(|column| key(column.title)).collect());
    for item in items {
        text.push_str(&line(columns.iter().map(|column| plain((column.cell)(item))).collect()));
    }
    text
}

fn key(title: &str) -> String {
    title.to_lowercase().replace(' ', "_")
}

pub fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("our types are JSON") + "\n"
}

pub fn json_line<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("our types are JSON") + "\n"
}

/// Writes to standard output. A reader that has gone away (`ml status | head -1`) is no failure.
pub fn write(text: &str) -> Result<()> {
    write_bytes(text.as_bytes())
}

pub fn write_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(why) if why.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::silent(0)),
        Err(why) => Err(Failure::new(format!(
            "cannot write to standard output: {}",
            crate::failure::io_words(&why)
        ))),
    }
}

/// Says something to the person: progress, what was done, a warning.
pub fn say(text: &str) {
    // When even standard error is gone there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub fn warn(text: &str) {
    let word = if std::io::stderr().is_terminal() && may_colour() {
        "\x1b[33mwarning:\x1b[0m"
    } else {
        "warning:"
    };
    say(&format!("{word} {text}"));
}

/// The last words of a command that failed.
pub fn complain(failure: &Failure, verbose: bool) {
    if failure.message.is_empty() {
        return;
    }
    let colour = std::io::stderr().is_terminal() && may_colour();
    let (error, hint) = if colour {
        ("\x1b[1;31merror:\x1b[0m", "\x1b[36mhint:\x1b[0m")
    } else {
        ("error:", "hint:")
    };
    say(&format!("{error} {}", failure.message));
    if let Some(id) = failure.request_id.as_ref().filter(|_| verbose) {
        say(&format!("request: {id}"));
    }
    if let Some(text) = &failure.hint {
        say(&format!("\n{hint} {text}"));
    }
}

/// https://no-color.org, and terminals that cannot.
fn may_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn screen_width() -> Option<u16> {
    terminal_size::terminal_size().map(|(width, _)| width.0)
}

#[allow(
    clippy::disallowed_methods,
    reason = "the command line shows times relative to now, and is told no time"
)]
pub fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time(since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
}

/// Colours the names of states in a table: whole words in capitals, which stand nowhere else but in free text.
fn colour_states(table: &str) -> String {
    let mut text = table.to_owned();
    for (state, code) in [
        ("RUNNING", 32),
        ("STARTING", 32),
        ("COMPLETED", 34),
        ("ERROR", 31),
        ("STOPPING", 33),
        ("CANCELED", 33),
    ] {
        text = text.replace(&format!(" {state} "), &format!(" \x1b[{code}m{state}\x1b[0m "));
    }
    text
}

/// Text of others, safe to show on a terminal: no control characters.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A line of a log, safe to show on a terminal: its colours stay, everything else that would move the cursor, set the title or answer back goes.
/// Of a line that overwrites itself (a progress bar) the last state is shown.
pub fn printable_line(text: &str) -> String {
    let text = text.trim_end_matches('\r');
    let text = text.rsplit('\r').next().unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => match rest.next() {
                Some('[') => {
                    let mut sequence = String::new();
                    let end = loop {
                        match rest.next() {
                            Some(c @ '\x40'..='\x7e') => break Some(c),
                            Some(c @ '\x20'..='\x3f') => sequence.push(c),
                            _ => break None,
                        }
                    };
                    if end == Some('m') && sequence.chars().all(|c| c.is_ascii_digit() || c == ';' || c == ':') {
                        out.push_str("\x1b[");
                        out.push_str(&sequence);
                        out.push('m');
                    }
                }
                // Strings for the terminal itself (title, clipboard, …): up to BEL or ESC \.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(c) = rest.next() {
                        if c == '\x07' {
                            break;
                        }
                        if c == '\x1b' {
                            rest.next_if_eq(&'\\');
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => out.push('\t'),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_keeps_its_colours_and_nothing_else_that_controls_a_terminal() {
        assert_eq!(printable_line("\x1b[1;32mok\x1b[0m"), "\x1b[1;32mok\x1b[0m");
        assert_eq!(printable_line("a\x1b]0;title\x07b"), "ab");
        assert_eq!(printable_line("a\x1b]52;c;aGk=\x1b\\b"), "ab");
        assert_eq!(printable_line("a\x1b[2Jb\x1b[6n\x1b[>0qc"), "abc");
        assert_eq!(printable_line("10%\r20%\r30%\r"), "30%");
        assert_eq!(printable_line("a\u{9b}2Jb\x08\x07"), "a2Jb");
        assert_eq!(printable_line("cut \x1b["), "cut ");
    }

    proptest::proptest! {
        #[test]
        fn no_line_controls_a_terminal(text in "(\x1b[\\[\\]PX^_(c7]?|[0-9;m\\\\?A-Ha-h\r\t\x07\u{9b}\u{9d}é]|.){0,40}") {
            let shown = printable_line(&text);
            let mut rest = shown.as_str();
            while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
                proptest::prop_assert!(rest[at..].starts_with("\x1b["), "{:?}", shown);
                let sequence = &rest[at + 2..];
                let length = sequence.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':')).unwrap_or(sequence.len());
                proptest::prop_assert!(sequence[length..].starts_with('m'), "{:?}", shown);
                rest = &sequence[length..];
            }
        }
    }

    #[test]
    fn a_time_to_come_is_told_as_such() {
        let now = Time(1_795_000_000_000_000);
        assert_eq!(when(now.plus_ms(3 * 86_400_000), now), "in 3 d");
        assert_eq!(when(now.plus_ms(-120_000), now), "2 min ago");
    }
}
