//! What may be the name of something, and what is close to a mistyped one.

/// Longest name, in characters.
pub const NAME_MAX: usize = 255;

/// Longest label of a key, and longest display name, in characters.
pub const LABEL_MAX: usize = 255;

/// Checks the name of an experiment or agent, when it is given: any text without control characters, 1 to 255
/// characters, no blanks at the ends, single plain blanks between, not digits alone (that would read as an id), not
/// `.` or `..` (in an address these mean another place). Names from before may be otherwise.
pub fn check_plain_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("the name of {what} is empty"));
    }
    if name.chars().count() > NAME_MAX {
        return Err(format!("the name of {what} is longer than {NAME_MAX} characters"));
    }
    if name.trim() != name {
        return Err(format!("the name of {what} begins or ends with a blank"));
    }
    if let Some(c) = name.chars().find(|c| is_invisible(*c)) {
        return Err(format!(
            "the name of {what} contains a character that nobody sees, {}",
            code(c)
        ));
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

/// Checks the name of a workspace, project, group or role, when it is given: as any name ([`check_plain_name`]), and
/// one that is not taken for another since it looks the same. What is parted by a hyphen, a dot or a blank may be of
/// different scripts (`GPU-сервер`); letters of one word may not.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    check_plain_name(what, name)?;
    name.split(|c: char| !c.is_alphanumeric())
        .try_for_each(|word| tells_itself_apart(&format!("the name of {what}"), word))
}

/// Refuses letters that look like others: several alphabets in one word, and other forms of plain letters.
fn tells_itself_apart(what: &str, word: &str) -> Result<(), String> {
    if let Some(c) = word.chars().find(|c| is_other_form(*c)) {
        return Err(format!(
            "{what} contains `{c}` ({}), another form of a plain character: write the plain one",
            code(c)
        ));
    }
    let is_latin = word.chars().any(|c| alphabet(c) == Some("Latin"));
    let other = word.chars().find_map(|c| match alphabet(c) {
        Some("Latin") | None => None,
        Some(other) => Some((c, other)),
    });
    match other.filter(|_| is_latin) {
        Some((c, other)) => Err(format!(
            "{what} contains `{c}` ({}), which is {other}, in one word with Latin letters: it would be taken for another name",
            code(c)
        )),
        None => Ok(()),
    }
}

fn code(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

/// The alphabets of which letters look like those of another (Unicode's blocks).
fn alphabet(c: char) -> Option<&'static str> {
    if !c.is_alphabetic() {
        return None;
    }
    match c {
        'A'..='Z' | 'a'..='z' | '\u{C0}'..='\u{2AF}' | '\u{1E00}'..='\u{1EFF}' => Some("Latin"),
        '\u{2C60}'..='\u{2C7F}' | '\u{A720}'..='\u{A7FF}' | '\u{AB30}'..='\u{AB64}' => Some("Latin"),
        '\u{370}'..='\u{3FF}' | '\u{1F00}'..='\u{1FFF}' => Some("Greek"),
        '\u{400}'..='\u{52F}' | '\u{1C80}'..='\u{1C8F}' | '\u{2DE0}'..='\u{2DFF}' | '\u{A640}'..='\u{A69F}' => {
            Some("Cyrillic")
        }
        _ => None,
    }
}

/// Full-width and half-width forms, ligatures, circled letters, and the letters and digits of mathematics.
fn is_other_form(c: char) -> bool {
    matches!(c, '\u{FF00}'..='\u{FFEF}' | '\u{FB00}'..='\u{FB06}' | '\u{24B6}'..='\u{24E9}' | '\u{1D400}'..='\u{1D7FF}')
}

/// Checks the name of a workspace or project: as any name, and without `/`, which parts the two in
/// `project:WORKSPACE/PROJECT` (with it, a grant on one's own place could land in another's).
pub fn check_place_name(what: &str, name: &str) -> Result<(), String> {
    check_name(what, name)?;
    if name.contains('/') {
        return Err(format!(
            "the name of {what} contains `/`, which stands between a workspace and what lies in it"
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
    // How an emoji is drawn hides nothing.
    let hides = |c: char| is_invisible(c) && !matches!(c, '\u{FE0E}' | '\u{FE0F}');
    if text.chars().any(hides) {
        return Err(format!(
            "{what} contains a line break, a control character or an invisible one"
        ));
    }
    Ok(())
}

/// Control characters, the ones that turn or hide text around them, and those that nobody sees, though they count as letters or signs (they would let one
/// name pass for another): Unicode's `Default_Ignorable_Code_Point`, and the blank that is a Braille pattern.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}')
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}')
        || matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}')
        || matches!(c, '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Checks the name of a user or service account: 1 to 64 of letters, digits, `.`, `_`, `-`, `@`, `+`, beginning with
/// a letter or digit and not digits alone. It appears in environment variables, file names and URLs. Its letters are of
/// one alphabet, as far as alphabets look alike.
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
    if let Some(c) = name.chars().find(|c| is_invisible(*c)) {
        return Err(format!(
            "a user name contains a character that nobody sees, {}",
            code(c)
        ));
    }
    tells_itself_apart("a user name", name)
}

/// Checks an e-mail address: at most 254 plain characters, `LOCAL@HOST`. Nothing that could begin a new line or a second address gets through, and quoted
/// forms, which hardly anybody has, do not either.
pub fn check_email(address: &str) -> Result<(), String> {
    let wrong = || {
        Err(format!(
            "`{}` is not an e-mail address such as ana@example.org",
            address.escape_debug()
        ))
    };
    if address.len() > 254 {
        return Err("an e-mail address has at most 254 characters".into());
    }
    let Some((local, host)) = address.split_once('@') else {
        return wrong();
    };
    let is_local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~-".contains(c);
    let is_host = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let parts = |text: &str, most: usize, is: &dyn Fn(char) -> bool| {
        text.split('.')
            .all(|part| !part.is_empty() && part.len() <= most && part.chars().all(is))
    };
    let hosts = || {
        host.split('.')
            .all(|label| !label.starts_with('-') && !label.ends_with('-'))
    };
    if local.len() <= 64 && parts(local, 64, &is_local) && parts(host, 63, &is_host) && hosts() {
        Ok(())
    } else {
        wrong()
    }
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
    fn no_name_passes_for_another_by_what_it_looks_like() {
        for good in [
            "Ampel-Team",
            "Команда",
            "GPU-сервер",
            "ομάδα 3",
            "β-VAE",
            "交通信号",
            "ÅLAND 🚦",
            "7µm",
        ] {
            assert_eq!(check_name("a group", good), Ok(()), "{good}");
        }
        for (bad, said) in [
            ("\u{430}dmins", "`а` (U+0430), which is Cyrillic"),
            ("Stop Sign\u{455}", "U+0455"),
            ("C\u{3BF}pper", "`ο` (U+03BF), which is Greek"),
            ("\u{FF21}dmins", "U+FF21"),
            ("\u{1D41A}dmins", "U+1D41A"),
            ("Admins\u{3164}", "U+3164"),
            ("Ad\u{AD}mins", "U+00AD"),
            ("Admins\u{2800}", "U+2800"),
            ("Admins\u{E0041}", "U+E0041"),
            ("Admins\u{FE0F}", "U+FE0F"),
        ] {
            let why = check_name("a group", bad).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
        for good in ["ana.lima", "иван-2", "юля@пример", "李", "josé"] {
            assert_eq!(check_username(good), Ok(()), "{good}");
        }
        for bad in [
            "\u{430}na",
            "\u{430}.lima",
            "ana\u{3164}",
            "ana\u{115F}",
            "\u{FF41}na",
            "\u{1D41A}na",
            "ana\u{FFA0}",
        ] {
            assert!(check_username(bad).is_err(), "{bad:?}");
        }
        // An experiment is told by its number as well, and is named by whoever it belongs to.
        assert_eq!(check_plain_name("an experiment", "βVAE"), Ok(()));
        assert_eq!(check_text("the reason", "⚠\u{FE0F} now", 10), Ok(()));
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
