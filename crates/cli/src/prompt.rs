//! Questions to the person, and the ways to answer them without a terminal.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;

use crate::failure::{Failure, Result, io_words};

/// More than any password; a device file given by mistake must not be read for ever.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A password or key from a file, or from standard input with `-`: its first line.
pub fn secret_from(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        // Only a line: a second secret may follow on the next one.
        std::io::stdin().lock().take(SECRET_BYTES_MAX).read_line(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(SECRET_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|why| Failure::file("read the secret in", file, &why))?;
    let line = text.lines().next().unwrap_or("");
    if line.is_empty() {
        return Err(Failure::new(format!(
            "{} holds no secret: its first line is empty",
            place(file)
        )));
    }
    Ok(line.to_owned())
}

fn place(file: &Path) -> String {
    if file == Path::new("-") {
        "standard input".into()
    } else {
        file.display().to_string()
    }
}

/// Asks for a password. Without a terminal, says which flag to use.
pub fn password(question: &str, flag: &str) -> Result<String> {
    need_terminal(
        &format!("cannot ask for {}", question.to_lowercase()),
        &format!("{flag} FILE, or {flag} - for standard input"),
    )?;
    rpassword::prompt_password(format!("{question}: "))
        .map_err(|why| Failure::new(format!("cannot ask for a password: {}", io_words(&why))))
}

/// Asks for a new password, twice.
pub fn new_password(whose: &str, flag: &str) -> Result<String> {
    loop {
        let first = password(&format!("New password{whose}"), flag)?;
        if password("Once more", flag)? == first {
            return Ok(first);
        }
        crate::output::say("The two are not the same.");
    }
}

/// Asks for a line of text.
pub fn line(question: &str, instead: &str) -> Result<String> {
    need_terminal(&format!("no {} given", question.to_lowercase()), instead)?;
    ask(question)
}

/// Asks before something that cannot be undone.
pub fn confirm(yes: bool, doing: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    need_terminal(&format!("not sure whether to {doing}"), "--yes")?;
    let answer = ask(&format!("{}? [y/N]", capital(doing)))?;
    match answer.to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was done")),
    }
}

fn ask(question: &str) -> Result<String> {
    let failed = |why: std::io::Error| Failure::new(format!("cannot ask: {}", io_words(&why)));
    let mut err = std::io::stderr();
    write!(err, "{question}: ").and_then(|()| err.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim().to_owned())
}

/// Whether there is somebody to ask.
pub fn is_possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn need_terminal(what: &str, instead: &str) -> Result<()> {
    if is_possible() {
        return Ok(());
    }
    Err(Failure::wrong_usage(format!("{what}: this is not a terminal")).hint(format!("use {instead}")))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
