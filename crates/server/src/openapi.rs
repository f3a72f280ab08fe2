//! The OpenAPI 3.1 description, made from the same table that routes requests.

use serde_json::{Map, Value, json};

use crate::access::is_page;

/// The whole document.
pub fn document() -> Value {
    let mut routes = crate::routes::table();
    let mut paths = Map::new();
    for route in &routes.table {
        // Pages and their files are no interface for programs.
        if is_page(route.path) || route.path.starts_with("/static/") {
            continue;
        }
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = route.operation.clone();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bailiwick",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Submit, run and follow experiments; say who may do what. Sign requests with `Authorization: Bearer KEY`. Times are RFC 3339; lists are pages, newest first unless said otherwise, and go on with `after=NEXT`.",
        },
        "paths": paths,
        "components": {
            "schemas": routes.take_schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "An API key (`ml_…`) or session (`mls_…`), or `mlh_` and the hexadecimal SHA-256 of one."}},
        },
    })
}

/// The route table as text, one line each: what a reviewer reads when a permission changes.
pub fn table() -> String {
    let routes = crate::routes::table();
    let mut lines: Vec<String> = routes
        .table
        .iter()
        .map(|route| {
            format!(
                "| {} | `{}` | {} | {} |",
                route.method, route.path, route.door, route.summary
            )
        })
        .collect();
    lines.sort_by_key(|line| line.split('|').nth(2).unwrap_or_default().to_owned());
    let open = routes
        .table
        .iter()
        .filter(|route| route.door.starts_with("anyone"))
        .count();
    format!(
        "# Routes\n\nWritten by a test from the router's own table. {} routes, {open} of them open to anyone.\n\n| method | path | who may come | what for |\n|---|---|---|---|\n{}\n",
        lines.len(),
        lines.join("\n")
    )
}
