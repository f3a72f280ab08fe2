//! The OpenAPI description as a page: plain HTML, no script, nothing from elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::{escape, page};

pub fn page_for(document: &Value) -> String {
    let mut by_tag: BTreeMap<&str, Vec<(&str, &str, &Value)>> = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            by_tag
                .entry(operation["tags"][0].as_str().unwrap_or_default())
                .or_default()
                .push((path, method, operation));
        }
    }
    let mut html = format!(
        "<p>{}</p><p>For programs: <a href=\"/openapi.json\">/openapi.json</a></p><nav class=\"choices\" aria-label=\"Contents\">",
        text(&document["info"]["description"])
    );
    for tag in by_tag.keys() {
        let _ = write!(
            html,
            "<a href=\"#{}\">{}</a>",
            escape(&tag.replace(' ', "-")),
            escape(tag)
        );
    }
    html.push_str("<a href=\"#schemas\">schemas</a></nav>");
    for (tag, operations) in &by_tag {
        let _ = write!(
            html,
            "<h2 id=\"{}\">{}</h2>",
            escape(&tag.replace(' ', "-")),
            escape(tag)
        );
        for (path, method, operation) in operations {
            let (method, path) = (method.to_uppercase(), escape(path));
            let _ = write!(
                html,
                "<details><summary><b>{method}</b> <code>{path}</code> {}</summary><div>",
                text(&operation["summary"])
            );
            let _ = write!(html, "<p>{}</p>", text(&operation["description"]));
            parameters(&mut html, operation);
            content(&mut html, "Body", &operation["requestBody"]["content"]);
            content(&mut html, "Answer", &operation["responses"]["200"]["content"]);
            html.push_str("</div></details>");
        }
    }
    html.push_str("<h2 id=\"schemas\">schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let pretty = serde_json::to_string_pretty(schema).unwrap_or_default();
        let _ = write!(
            html,
            "<details id=\"schema-{0}\"><summary>{0}</summary><div><pre>{1}</pre></div></details>",
            escape(name),
            escape(&pretty)
        );
    }
    page("Interface", &html)
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn parameters(html: &mut String, operation: &Value) {
    let list = operation["parameters"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if list.is_empty() {
        return;
    }
    html.push_str("<table><thead><tr><th>Parameter</th><th>In</th><th>Type</th><th>Meaning</th></tr></thead><tbody>");
    for parameter in list {
        let name = text(&parameter["name"]);
        let kind = schema_words(&parameter["schema"]);
        let _ = write!(
            html,
            "<tr><td><code>{name}</code></td><td>{}</td><td>{kind}</td><td>{}</td></tr>",
            text(&parameter["in"]),
            text(&parameter["description"])
        );
    }
    html.push_str("</tbody></table>");
}

fn content(html: &mut String, title: &str, content: &Value) {
    for (media, body) in content.as_object().into_iter().flatten() {
        let _ = write!(
            html,
            "<p><b>{title}</b> {} {}</p>",
            escape(media),
            schema_words(&body["schema"])
        );
    }
}

/// A schema in a few words, linked to its full text where it has a name.
fn schema_words(schema: &Value) -> String {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|reference| reference.rsplit('/').next())
    {
        let name = escape(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    match &schema["type"] {
        Value::String(kind) => escape(kind),
        Value::Array(kinds) => escape(
            &kinds
                .iter()
                .filter_map(Value::as_str)
                .filter(|kind| *kind != "null")
                .collect::<Vec<_>>()
                .join(" or "),
        ),
        _ => match schema["anyOf"].as_array() {
            Some(options) => options
                .iter()
                .filter(|option| option["type"] != "null")
                .map(schema_words)
                .collect::<Vec<_>>()
                .join(" or "),
            None => String::new(),
        },
    }
}
