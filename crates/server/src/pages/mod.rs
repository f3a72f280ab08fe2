//! Pages for people.

pub mod activate;
pub mod api_docs;

/// Text as it may stand in HTML, between tags or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// A whole page around its content.
pub fn page(title: &str, content: &str, script: Option<&str>) -> String {
    let title = escape(title);
    let script = script
        .map(|path| format!("<script src=\"{path}\" defer></script>"))
        .unwrap_or_default();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title} · Bailiwick</title><link rel=\"stylesheet\" href=\"/static/plain.css\">{script}</head><body><main><h1>{title}</h1>{content}</main></body></html>"
    )
}
