//! What the program writes of itself, checked in; `BLESS=1` writes it anew.

use std::path::Path;

/// Compares a text with a file of the repository.
pub fn check(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, text).expect("the file can be written");
        return;
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    if kept != text {
        let differs = kept.lines().zip(text.lines()).position(|(old, new)| old != new);
        let at = differs.unwrap_or(kept.lines().count().min(text.lines().count()));
        panic!(
            "{path} is stale from line {}:\n- {}\n+ {}\nif that is meant: BLESS=1 cargo test -p bailiwick-server",
            at + 1,
            kept.lines().nth(at).unwrap_or_default(),
            text.lines().nth(at).unwrap_or_default(),
        );
    }
}

#[test]
fn the_route_table_in_the_documents_is_the_routers_own() {
    check("docs/routes.md", &bailiwick_server::openapi::table());
}

#[test]
fn the_openapi_description_in_the_documents_is_the_routers_own() {
    let document = serde_json::to_string_pretty(&bailiwick_server::openapi::document()).expect("it is JSON");
    check("docs/openapi.json", &format!("{document}\n"));
}
