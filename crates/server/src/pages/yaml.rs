//! A configuration as text that one can read, change and hand in again.

use serde_json::Value;

/// YAML that [`bailiwick_api::config::parse_yaml`] reads back as the same value.
pub fn text(config: &Value) -> String {
    let mut out = String::new();
    match config {
        Value::Object(map) if !map.is_empty() => nested(config, 0, &mut out),
        _ => out = format!("{config}\n"),
    }
    out
}

/// A map or list that holds something, from the beginning of a line on.
fn nested(value: &Value, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&format!("{margin}{}:", word(key)));
                after_mark(value, indent + 2, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                out.push_str(&format!("{margin}-"));
                match item {
                    // JSON is YAML.
                    Value::Object(_) | Value::Array(_) => out.push_str(&format!(" {}\n", quoted(&item.to_string()))),
                    other => after_mark(other, indent + 2, out),
                }
            }
        }
        _ => {}
    }
}

/// What stands behind `key:` or `-`.
fn after_mark(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            nested(value, indent, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            nested(value, indent, out);
        }
        Value::String(text) if is_block(text) => {
            out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in text.lines() {
                let margin = if line.is_empty() { 0 } else { indent };
                out.push_str(&format!("{}{line}\n", " ".repeat(margin)));
            }
        }
        Value::String(text) => out.push_str(&format!(" {}\n", word(text))),
        other => out.push_str(&format!(" {other}\n")),
    }
}

/// Characters that YAML takes for line ends, or does not take at all.
fn is_odd(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{FEFF}')
}

/// Several lines that can stand as they are.
fn is_block(text: &str) -> bool {
    let plain = |c: char| matches!(c, '\n' | '\t') || !is_odd(c);
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && !text.ends_with("\n\n")
        && text.chars().all(plain)
        && text.lines().all(|line| line.is_empty() || !line.trim().is_empty())
}

fn word(text: &str) -> String {
    const TAKEN: [&str; 11] = [
        "true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan",
    ];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let taken = TAKEN.contains(&text.to_ascii_lowercase().as_str());
    match begins && !taken && !text.ends_with(' ') && text.chars().all(plain) {
        true => text.to_owned(),
        false => quoted(&Value::from(text).to_string()),
    }
}

/// JSON in which the characters that only YAML minds are written as escapes; they stand in texts alone.
fn quoted(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match is_odd(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use bailiwick_api::config::parse_yaml;
    use serde_json::json;

    #[test]
    fn what_is_written_reads_back() {
        let config = json!({
            "name": "stop signs, v2", "no": "yes", "entrypoint": "cd src\n\nif true; then\n\tpython x.py\nfi",
            "script": "a\nb\n", "odd": ["\u{2028}x", "a\r\nb", " \nx", "\u{7f}", "1e5", "~", "", "null", "- x", "a: b", "#"],
            "hyperparameters": {"lr": 0.001, "big": 1e20, "deep": {"list": [1, [2, {"a b": "c\u{85}"}], true, null], "nothing": {}, "none": []}},
            "1": -5, "träning №5 😀": "ö: {}", "x": "ends \n", "y": "a\n \nb", "z": "\n\n"
        });
        let text = super::text(&config);
        assert_eq!(parse_yaml(&text).as_ref(), Ok(&config), "{text}");
        assert!(
            text.contains("entrypoint: |-\n  cd src\n\n  if true; then\n  \tpython x.py\n  fi\n"),
            "{text}"
        );
        assert_eq!(parse_yaml(&super::text(&json!({}))), Ok(json!({})));
    }
}
