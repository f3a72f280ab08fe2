//! What may be the name of something, and what is close to a mistyped one.

/// Longest name, in characters.
pub const NAME_MAX: usize = 255;

/// Longest label of a key, and longest display name, in characters.
pub const LABEL_MAX: usize = 255;

/// Checks the name of an experiment, workspace, project, group or role, when it is given: any text without control
/// characters, 1 to 255 characters, no blanks at the ends, single plain blanks between, not digits alone (that would
/// read as an id), not `.` or `..` (in an address these mean another place). Names from before may be otherwise.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("the name of {what} is empty"));
    }
    if name.chars().count() > NAME_MAX {
        return Err(format!("the name of {what} is longer than {NAME_MAX} characters"));
    }
    if name.trim() != name {
        return Err(format!("the name of {what} begins or ends with a blank"));
    }
    if name.chars().any(is_invisible) {
        return Err(format!("the name of {what} contains a control character"));
    }
    if name.contains("  ") || name.chars().any(|c| c.is_whitespace() && c != ' ') {
        return Err(format!(
            "the name of {what} contains blanks that cannot be told from a single plain one"
        ));
    }
    if matches!(name, "." | "..") {
        return Err(format!("the name of {what} would be lost in an address: `{name}`"));
    }
    if name.chars().all(|c| c.is_ascii_digit()) {
        return Err(format!(
            "the name of {what} is digits alone and would be taken for an id"
        ));
    }
    Ok(())
}

/// Checks the name of a workspace or project: as any name, and without `/`, which parts the two in
/// `project:WORKSPACE/PROJECT` (with it, a grant on one's own place could land in another's).
pub fn check_place_name(what: &str, name: &str) -> Result<(), String> {
    check_name(what, name)?;
    if name.contains('/') {
        return Err(format!(
            "the name of {what} contains `/`, which stands between a workspace and its project"
        ));
    }
    Ok(())
}

/// Checks a free text of people on one line (a description, a display name, a reason, a label): at most so many
/// characters, and none that a terminal would act on or that hides or turns others.
pub fn check_text(what: &str, text: &str, most: usize) -> Result<(), String> {
    if text.chars().count() > most {
        return Err(format!("{what} is longer than {most} characters"));
    }
    if text.chars().any(is_invisible) {
        return Err(format!(
            "{what} contains a line break, a control character or an invisible one"
        ));
    }
    Ok(())
}

/// Control characters, and the ones that turn or hide text around them (they would let one name pass for another).
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// Checks the name of a user or service account: 1 to 64 of letters, digits, `.`, `_`, `-`, `@`, `+`, beginning with
/// a letter or digit and not digits alone. It appears in environment variables, file names and URLs.
pub fn check_username(name: &str) -> Result<(), String> {
    let ok = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    if name.is_empty() || name.chars().count() > 64 {
        return Err("a user name has 1 to 64 characters".into());
    }
    if !name.chars().all(ok) || !name.starts_with(|c: char| c.is_alphanumeric()) {
        return Err(
            "a user name has letters, digits, `.`, `_`, `-`, `@` and `+`, and begins with a letter or digit".into(),
        );
    }
    if name.chars().all(|c| c.is_ascii_digit()) {
        return Err("a user name of digits alone would be taken for an id".into());
    }
    Ok(())
}

/// What two names that differ only in letter case have in common; stored beside the name, unique.
pub fn name_key(name: &str) -> String {
    name.to_lowercase()
}

/// The nearest of `known` to a mistyped word, if any is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything_readable() {
        for good in ["green light", "träning №5", "a/b", "x'; DROP TABLE--", "{{7*7}}", "😀"] {
            assert_eq!(check_name("an experiment", good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " x",
            "x ",
            "a\nb",
            "a\u{202E}b",
            "12",
            "\0",
            ".",
            "..",
            "a  b",
            "a\u{A0}b",
            "a\u{3000}b",
        ] {
            assert!(check_name("an experiment", bad).is_err(), "{bad:?}");
        }
        assert!(check_place_name("a workspace", "a/b").is_err());
        assert_eq!(check_place_name("a workspace", "a:b ..c"), Ok(()));
        assert!(check_name("an experiment", &"x".repeat(256)).is_err());
    }

    #[test]
    fn a_text_is_one_line_of_what_can_be_seen() {
        assert_eq!(check_text("the reason", "", 1), Ok(()));
        assert_eq!(check_text("the reason", "über  alles 😀", 13), Ok(()));
        for bad in ["a\nb", "\u{1b}[2J", "a\u{202E}b", "a\u{200B}b", "14 characters."] {
            assert!(check_text("the reason", bad, 13).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_slip_of_the_finger_finds_what_was_meant() {
        assert_eq!(nearest("max_restart", ["max_restarts", "name"]), Some("max_restarts"));
        assert_eq!(nearest("zebra", ["max_restarts", "name"]), None);
    }
}
