//! Whatever is typed into the address or a form of a page: it is answered in words, never with a failure of the server, and never comes out as markup.

use std::collections::BTreeSet;

use bailiwick_server::access::is_page;

use crate::browser::Browser;
use crate::world::{World, on_both};

const MARK: &str = "<script>hard()</script>";

/// What people and programs type that does not fit.
fn hard_values() -> Vec<String> {
    let mut values: Vec<String> = [
        "",
        " ",
        "0",
        "-1",
        "1e9",
        "9223372036854775807",
        "99999999999999999999",
        "null",
        "[]",
        "{}",
        "%",
        "../../etc/passwd",
        "workspace:",
        "workspace:nowhere",
        "experiment:9223372036854775807",
        "2026-13-45",
        "1h",
        "a\r\nset-cookie: x=y",
        "\u{0}",
        "\u{202e}",
        "\u{fdfa}\u{fdfa}",
        "' OR 1=1 --",
        "default",
        "admin",
    ]
    .map(String::from)
    .to_vec();
    values.push("💥".repeat(2_000));
    values.push("a".repeat(20_000));
    values
}

/// The names of all fields of all templates, and the values of all buttons.
fn fields_and_acts() -> (BTreeSet<String>, BTreeSet<String>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let (mut fields, mut acts) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(folder).expect("templates are there") {
        let text = std::fs::read_to_string(entry.expect("it can be read").path()).expect("it is text");
        let attribute = |rest: &str| rest.split('"').next().unwrap_or_default().to_owned();
        let plain = |text: &String| !text.is_empty() && !text.contains('{');
        fields.extend(text.split(" name=\"").skip(1).map(attribute).filter(plain));
        let buttons = text.split("name=\"act\" value=\"").skip(1);
        acts.extend(buttons.map(attribute).filter(plain));
    }
    (fields, acts)
}

#[test]
fn whatever_is_typed_into_a_page_is_answered_in_words() {
    on_both(async |world: World| {
        let (fields, acts) = fields_and_acts();
        assert!(fields.len() > 20 && acts.len() > 10, "{fields:?} {acts:?}");
        let browser = Browser::of(&world, &world.admin).await;
        // They would end the session that types.
        let ends = ["/sign-out", "/sign-in", "/activate", "/settings/sessions", "/settings"];
        let mut routes = crate::access_matrix::routes();
        routes.retain(|(_, path)| is_page(path) && !ends.contains(&path.as_str()) && !path.ends_with("/stream"));
        assert!(routes.len() > 40);
        let mut rest = acts.iter().cycle();
        for (method, path) in &routes {
            for value in hard_values() {
                let inner: String = path
                    .split('/')
                    .map(|part| match part.starts_with('{') {
                        true => format!(
                            "/{}",
                            crate::browser::quoted(&value.chars().take(300).collect::<String>())
                        ),
                        false => format!("/{part}"),
                    })
                    .collect();
                // Of what is there, too.
                let known = path
                    .replace("{workspace}", "default")
                    .replace("{project}", "default")
                    .replace("{user}", "nobody")
                    .replace("{role}", "Viewer")
                    .replace("{group}", "Admins");
                for place in BTreeSet::from([
                    inner.replacen("//", "/", 1),
                    known.replace("{experiment}", "1").replace("{file}", "x"),
                ]) {
                    let typed = format!("{value}{MARK}");
                    let seen = if method == "GET" {
                        let pairs = fields.iter().map(|field| {
                            format!(
                                "{field}={}",
                                crate::browser::quoted(&value.chars().take(16).collect::<String>())
                            )
                        });
                        let plain = browser
                            .get(&format!("{place}?{}", pairs.collect::<Vec<_>>().join("&")))
                            .await;
                        assert!(plain.status < 500, "GET {place} with {value:.40}: {}", plain.text);
                        let pairs = fields
                            .iter()
                            .map(|field| format!("{field}={}", crate::browser::quoted(MARK)));
                        browser
                            .get(&format!("{place}?{}", pairs.collect::<Vec<_>>().join("&")))
                            .await
                    } else {
                        let act = rest.next().expect("it goes on for ever");
                        let all = fields
                            .iter()
                            .filter(|field| !["act", "form_token"].contains(&field.as_str()));
                        let mut form: Vec<(&str, &str)> = all.map(|field| (field.as_str(), typed.as_str())).collect();
                        form.push(("act", act));
                        // More than a form may hold is refused whole.
                        form.truncate(if value.len() > 1000 { 3 } else { 200 });
                        form.push(("act", act));
                        form.dedup();
                        browser.post(&place, &form).await
                    };
                    assert!(seen.status < 500, "{method} {place} with {value:.40}: {}", seen.text);
                    assert!(
                        !seen.text.contains(MARK),
                        "{method} {place} writes what was typed into the page"
                    );
                }
            }
        }
        // The one that typed all this is still signed in, and nothing it is is gone.
        assert_eq!(browser.get("/settings").await.status, 200);
    });
}
