//! What one may not see reads exactly like what is not there (`access.md` §4), and leaves the same trace. How long both take is measured by the bench (`leaks`).

use bailiwick_api::workspaces::NewWorkspace;
use serde_json::{Value, json};
use sqlx::Row;

use crate::world::{Answer, Person, World, on_both};

/// Asked twice: with `{}` replaced by something that is there and may not be seen, and by something that is not there.
struct Question {
    kind: &'static str,
    method: &'static str,
    path: &'static str,
    body: &'static str,
}

const fn ask(kind: &'static str, method: &'static str, path: &'static str, body: &'static str) -> Question {
    Question {
        kind,
        method,
        path,
        body,
    }
}

/// Every way in which a request names an object of its kind.
const QUESTIONS: &[Question] = &[
    ask("experiment", "GET", "/api/v1/experiments/{}", ""),
    ask("experiment", "GET", "/api/v1/experiments/{}/logs", ""),
    ask("experiment", "GET", "/api/v1/experiments/{}/logs/stream", ""),
    ask("experiment", "GET", "/api/v1/experiments/{}/code", ""),
    ask("experiment", "POST", "/api/v1/experiments/{}/cancel", "{}"),
    ask("experiment", "POST", "/api/v1/experiments/{}/kill", "{}"),
    ask(
        "experiment",
        "POST",
        "/api/v1/experiments/{}/move",
        r#"{"project": "default"}"#,
    ),
    ask(
        "experiment",
        "PUT",
        "/api/v1/experiments/{}/progress",
        r#"{"progress": 0.5}"#,
    ),
    ask("experiment", "DELETE", "/api/v1/experiments/{}", ""),
    ask(
        "experiment",
        "POST",
        "/api/v1/access/can-i",
        r#"{"permission": "experiments:read", "on": "experiment:{}"}"#,
    ),
    ask(
        "experiment",
        "POST",
        "/api/v1/access/explain",
        r#"{"permission": "experiments:read", "on": "experiment:{}"}"#,
    ),
    ask(
        "experiment",
        "POST",
        "/api/v1/access/who-can",
        r#"{"permission": "experiments:read", "on": "experiment:{}"}"#,
    ),
    ask("experiment", "GET", "/api/v1/assignments?on=experiment:{}", ""),
    ask(
        "experiment",
        "POST",
        "/api/v1/assignments",
        r#"{"assignments": [{"role": "Reader", "user": "ana", "on": "experiment:{}"}]}"#,
    ),
    ask(
        "experiment",
        "POST",
        "/api/v1/access/requests",
        r#"{"role": "Reader", "on": "experiment:{}", "lifetime_ms": 3600000, "why": "to see"}"#,
    ),
    ask(
        "experiment",
        "POST",
        "/access/v1/evaluation",
        r#"{"subject": {"type": "user", "id": "ana"}, "action": {"name": "read"}, "resource": {"type": "experiment", "id": "{}"}}"#,
    ),
    ask("experiment name", "GET", "/api/v1/experiments/{}", ""),
    ask("experiment name", "GET", "/api/v1/experiments?name={}", ""),
    ask("experiment name", "POST", "/api/v1/experiments/{}/cancel", "{}"),
    ask("experiment name", "DELETE", "/api/v1/experiments/{}", ""),
    ask("workspace", "GET", "/api/v1/workspaces/{}", ""),
    ask(
        "workspace",
        "PATCH",
        "/api/v1/workspaces/{}",
        r#"{"description": "mine"}"#,
    ),
    ask("workspace", "POST", "/api/v1/workspaces/{}/archive", "{}"),
    ask("workspace", "POST", "/api/v1/workspaces/{}/unarchive", "{}"),
    ask("workspace", "GET", "/api/v1/workspaces/{}/members", ""),
    ask("workspace", "DELETE", "/api/v1/workspaces/{}", ""),
    ask("workspace", "GET", "/api/v1/workspaces/{}/projects", ""),
    ask(
        "workspace",
        "POST",
        "/api/v1/workspaces/{}/projects",
        r#"{"name": "mine"}"#,
    ),
    ask("workspace", "GET", "/api/v1/workspaces/{}/projects/default", ""),
    ask("workspace", "GET", "/api/v1/experiments?workspace={}", ""),
    ask(
        "workspace",
        "GET",
        "/api/v1/experiments?workspace={}&project=default&sort=name",
        "",
    ),
    ask(
        "workspace",
        "POST",
        "/api/v1/experiments",
        r#"{"config": {"entrypoint": "true", "workspace": "{}"}}"#,
    ),
    ask(
        "workspace",
        "POST",
        "/api/v1/access/can-i",
        r#"{"permission": "workspaces:read", "on": "workspace:{}"}"#,
    ),
    ask(
        "workspace",
        "POST",
        "/api/v1/access/explain",
        r#"{"permission": "workspaces:read", "on": "workspace:{}"}"#,
    ),
    ask(
        "workspace",
        "POST",
        "/api/v1/access/who-can",
        r#"{"permission": "workspaces:read", "on": "workspace:{}"}"#,
    ),
    ask("workspace", "GET", "/api/v1/assignments?on=workspace:{}", ""),
    ask(
        "workspace",
        "POST",
        "/api/v1/assignments",
        r#"{"assignments": [{"role": "Viewer", "user": "ana", "on": "workspace:{}"}]}"#,
    ),
    ask(
        "workspace",
        "POST",
        "/api/v1/assignments/remove",
        r#"{"assignments": [{"role": "Viewer", "user": "ana", "on": "workspace:{}"}]}"#,
    ),
    ask(
        "workspace",
        "POST",
        "/api/v1/access/requests",
        r#"{"role": "Viewer", "on": "workspace:{}", "lifetime_ms": 3600000, "why": "to see"}"#,
    ),
    ask(
        "workspace",
        "POST",
        "/access/v1/evaluation",
        r#"{"subject": {"type": "user", "id": "ana"}, "action": {"name": "read"}, "resource": {"type": "workspace", "id": "{}"}}"#,
    ),
    ask("workspace id", "GET", "/api/v1/workspaces/{}", ""),
    ask("project", "GET", "/api/v1/workspaces/Secret-A/projects/{}", ""),
    ask(
        "project",
        "PATCH",
        "/api/v1/workspaces/Secret-A/projects/{}",
        r#"{"description": "mine"}"#,
    ),
    ask(
        "project",
        "POST",
        "/api/v1/workspaces/Secret-A/projects/{}/archive",
        "{}",
    ),
    ask("project", "GET", "/api/v1/workspaces/Secret-A/projects/{}/members", ""),
    ask("project", "DELETE", "/api/v1/workspaces/Secret-A/projects/{}", ""),
    ask(
        "project",
        "GET",
        "/api/v1/experiments?workspace=Secret-A&project={}",
        "",
    ),
    ask(
        "project",
        "POST",
        "/api/v1/access/can-i",
        r#"{"permission": "projects:read", "on": "project:Secret-A/{}"}"#,
    ),
    ask(
        "project",
        "POST",
        "/access/v1/evaluation",
        r#"{"subject": {"type": "user", "id": "ana"}, "action": {"name": "read"}, "resource": {"type": "project", "id": "Secret-A/{}"}}"#,
    ),
    ask("project id", "GET", "/api/v1/experiments?project={}", ""),
    ask(
        "project id",
        "POST",
        "/api/v1/access/can-i",
        r#"{"permission": "projects:read", "on": "project:{}"}"#,
    ),
    ask("group", "GET", "/api/v1/groups/{}", ""),
    ask("group", "PATCH", "/api/v1/groups/{}", r#"{"description": "mine"}"#),
    ask("group", "POST", "/api/v1/groups/{}/members", r#"{"users": ["ana"]}"#),
    ask(
        "group",
        "POST",
        "/api/v1/groups/{}/members/remove",
        r#"{"users": ["ana"]}"#,
    ),
    ask("group", "DELETE", "/api/v1/groups/{}", ""),
    ask("token", "GET", "/api/v1/tokens/{}", ""),
    ask("token", "DELETE", "/api/v1/tokens/{}", ""),
    ask("assignment", "PATCH", "/api/v1/assignments/{}", r#"{"no_end": true}"#),
    ask("assignment", "DELETE", "/api/v1/assignments/{}", ""),
    ask("request", "POST", "/api/v1/access/requests/{}/approve", "{}"),
    ask("request", "POST", "/api/v1/access/requests/{}/decline", "{}"),
    ask("request", "POST", "/api/v1/access/requests/{}/withdraw", "{}"),
    ask("stack", "GET", "/api/v1/stacks/{}", ""),
    ask("stack", "PATCH", "/api/v1/stacks/{}", r#"{"description": "mine"}"#),
    ask("stack", "DELETE", "/api/v1/stacks/{}", ""),
    ask(
        "stack name",
        "POST",
        "/api/v1/experiments",
        r#"{"config": {"entrypoint": "true", "stack": "{}"}}"#,
    ),
    ask(
        "stack",
        "POST",
        "/api/v1/assignments",
        r#"{"assignments": [{"role": "Reader", "user": "ana", "on": "stack:{}"}]}"#,
    ),
    ask(
        "stack",
        "POST",
        "/api/v1/access/can-i",
        r#"{"permission": "stacks:read", "on": "stack:{}"}"#,
    ),
    ask("model", "GET", "/api/v1/models/{}", ""),
    ask("model", "PATCH", "/api/v1/models/{}", r#"{"description": "mine"}"#),
    ask("model", "DELETE", "/api/v1/models/{}", ""),
    ask("model", "POST", "/api/v1/models/{}/move", r#"{"workspace": "default"}"#),
    ask("model", "GET", "/api/v1/models/{}/versions", ""),
    ask("model", "POST", "/api/v1/models/{}/versions", r#"{"uri": "s3://a/b"}"#),
    ask("model", "DELETE", "/api/v1/models/{}/versions/1", ""),
    ask("model name", "GET", "/api/v1/models/Secret-A%2F{}", ""),
    ask("model name", "DELETE", "/api/v1/models/Secret-A%2F{}/versions/1", ""),
    ask(
        "model",
        "POST",
        "/api/v1/assignments",
        r#"{"assignments": [{"role": "Reader", "user": "ana", "on": "model:{}"}]}"#,
    ),
    ask(
        "model name",
        "POST",
        "/api/v1/access/can-i",
        r#"{"permission": "models:read", "on": "model:Secret-A/{}"}"#,
    ),
    ask(
        "model name",
        "POST",
        "/api/v1/access/explain",
        r#"{"permission": "models:read", "on": "model:Secret-A/{}"}"#,
    ),
    ask(
        "experiment",
        "POST",
        "/api/v1/models/default%2Fhers/versions",
        r#"{"experiment": "{}"}"#,
    ),
    ask(
        "workspace",
        "POST",
        "/api/v1/models/default%2Fhers/move",
        r#"{"workspace": "{}"}"#,
    ),
    ask(
        "workspace",
        "POST",
        "/api/v1/workspaces/{}/models",
        r#"{"name": "mine"}"#,
    ),
    ask("workspace", "GET", "/api/v1/models?workspace={}", ""),
    ask("queue", "GET", "/api/v1/queues/{}", ""),
    ask("queue", "PATCH", "/api/v1/queues/{}", r#"{"state": "paused"}"#),
    ask("queue", "DELETE", "/api/v1/queues/{}", ""),
    ask("queue id", "GET", "/api/v1/queues/{}", ""),
    ask(
        "queue",
        "POST",
        "/api/v1/experiments",
        r#"{"config": {"entrypoint": "true", "resources": {"queue": "{}"}}}"#,
    ),
    ask(
        "queue",
        "POST",
        "/api/v1/access/can-i",
        r#"{"permission": "queues:submit", "on": "queue:{}"}"#,
    ),
    ask(
        "queue",
        "POST",
        "/access/v1/evaluation",
        r#"{"subject": {"type": "user", "id": "ana"}, "action": {"name": "read"}, "resource": {"type": "queue", "id": "{}"}}"#,
    ),
    ask(
        "agent",
        "POST",
        "/api/v1/agents/{}/poll",
        r#"{"held": [], "free_slots": 0, "draining": false, "wait_ms": 0, "instance": "only", "load": { }}"#,
    ),
];

/// What is there, and what is not, for each kind; both as long as each other.
async fn objects(world: &World) -> Vec<(&'static str, String, String)> {
    let admin = &world.admin;
    admin
        .client
        .create_workspace(&NewWorkspace {
            name: "Secret-A".into(),
            description: String::new(),
        })
        .await
        .expect("the administrator makes a workspace");
    let config = json!({"name": "secret-a", "entrypoint": "true", "workspace": "Secret-A"});
    let experiment = admin.submit_config(config).await.id.0;
    assert_eq!(
        admin
            .post("/api/v1/groups", json!({"name": "Group-A", "users": ["admin"]}))
            .await
            .status,
        200
    );
    let given = json!({"assignments": [{"role": "Viewer", "group": "Group-A", "on": "workspace:Secret-A"}]});
    assert_eq!(admin.post("/api/v1/assignments", given).await.status, 200);
    let other = world.person("other").await;
    let asked = json!({"role": "Viewer", "on": "workspace:default", "lifetime_ms": 3_600_000, "why": "to help"});
    let asked = other.post("/api/v1/access/requests", asked).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    world.agent("hidden", 1).await;
    let newest = async |table: &str| -> i64 { world.rows(format!("SELECT MAX(id) FROM {table}")).await[0].get(0) };
    let workspace = newest("workspaces").await;
    let project = newest("projects").await;
    let token = newest("credentials").await;
    let assignment = newest("assignments").await;
    let request = newest("access_requests").await;
    let agent = newest("agents").await;
    world
        .sql("INSERT INTO queues (name, name_key, open, created_at) VALUES ('queue-a', 'queue-a', 0, 0)")
        .await
        .unwrap();
    let queue = newest("queues").await;
    let stack = admin.post("/api/v1/stacks", json!({"name": "stack-a"})).await;
    assert_eq!(stack.status, 200, "{}", stack.text);
    let model = admin
        .post("/api/v1/workspaces/Secret-A/models", json!({"name": "model-a"}))
        .await;
    let model = model.json()["id"].as_i64().unwrap();
    let version = admin
        .post(
            &format!("/api/v1/models/{model}/versions"),
            json!({"uri": "s3://secret/1"}),
        )
        .await;
    assert_eq!(version.status, 200, "{}", version.text);
    // As many digits.
    let missing = |id: i64| "9".repeat(id.to_string().len());
    let numbered = |kind, id: i64| (kind, id.to_string(), missing(id));
    let named = |kind, one: &str, none: &str| (kind, one.to_owned(), none.to_owned());
    vec![
        numbered("experiment", experiment),
        named("experiment name", "secret-a", "secret-b"),
        named("workspace", "Secret-A", "Secret-B"),
        numbered("workspace id", workspace),
        named("project", "default", "nothing"),
        numbered("project id", project),
        named("group", "Group-A", "Group-B"),
        numbered("token", token),
        numbered("assignment", assignment),
        numbered("request", request),
        named("queue", "queue-a", "queue-b"),
        numbered("queue id", queue),
        numbered("stack", stack.json()["id"].as_i64().unwrap()),
        named("stack name", "admin/stack-a", "admin/stack-b"),
        numbered("model", model),
        named("model name", "model-a", "model-b"),
        numbered("agent", agent),
    ]
}

/// A text without the name or number that was asked for; a number within a longer one is another.
fn hidden(text: &str, name: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let part = digit(name.chars().next())
            && (digit(before.chars().last().or(shown.chars().last())) || digit(after.chars().next()));
        shown.push_str(before);
        shown.push_str(if part { name } else { "…" });
        rest = after;
    }
    shown + rest
}

/// All of an answer but what differs between any two.
fn shown(answer: &Answer, name: &str) -> String {
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(key, _)| !["date", "x-request-id"].contains(&key.as_str()))
        .map(|(key, value)| format!("{key}: {}", value.to_str().unwrap_or("?")))
        .collect();
    headers.sort();
    let mut body: Value = serde_json::from_str(&answer.text).unwrap_or(Value::String(answer.text.clone()));
    if let Some(error) = body.get_mut("error").and_then(Value::as_object_mut) {
        error.remove("request_id");
    }
    // A request is numbered and dated whatever it asks for.
    if let Some(made) = body.as_object_mut().filter(|made| made.contains_key("lifetime_ms")) {
        made.remove("id");
        made.remove("created_at");
        made.remove("waits_until");
    }
    let body = hidden(&body.to_string(), name);
    format!("{}\n{}\n{body}", answer.status, headers.join("\n"))
}

async fn put(person: &Person, question: &Question, object: &str) -> Answer {
    let request = person.request(question.method, &question.path.replace("{}", object));
    let body = question.body.replace("{}", object);
    let body = if question.body == "{}" { "{}".to_owned() } else { body };
    let request = match question.body {
        "" => request,
        _ => request.header("content-type", "application/json").body(body),
    };
    Answer::of(request).await
}

#[test]
fn what_one_may_not_see_reads_and_leaves_traces_like_what_is_not_there() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let hers = ana
            .post("/api/v1/workspaces/default/models", json!({"name": "hers"}))
            .await;
        assert_eq!(hers.status, 200, "{}", hers.text);
        let objects = objects(&world).await;
        let url = world.restart(|_| {}).await;
        let ana = ana.at(&url);
        let mut told = Vec::new();
        for question in QUESTIONS {
            let (_, there, missing) = objects
                .iter()
                .find(|(kind, ..)| *kind == question.kind)
                .expect("the kind has objects");
            let mut seen = Vec::new();
            for object in [there, missing] {
                let before = world.last_event().await;
                let answer = put(&ana, question, object).await;
                assert!(
                    !answer.text.contains("Secret-A")
                        || *there == "Secret-A"
                        || question.path.contains("Secret-A")
                        || question.body.contains("Secret-A"),
                    "{}",
                    answer.text
                );
                let rows = world.rows(format!("SELECT action, verb, object_kind, object, outcome, detail FROM audit_events WHERE id > {before} ORDER BY id")).await;
                let traces: Vec<String> = rows
                    .iter()
                    .map(|row| {
                        let mut columns: Vec<String> = (0..6).map(|column| row.get(column)).collect();
                        if columns[1] == "request" {
                            // What was made is numbered, whatever it asks for.
                            columns[3] = "a number".into();
                        }
                        hidden(&columns.join(" "), object)
                    })
                    .collect();
                seen.push((shown(&answer, object), traces));
            }
            if seen[0] != seen[1] {
                told.push(format!(
                    "{} {} {}\nthere:   {:?}\nmissing: {:?}",
                    question.method, question.path, question.body, seen[0], seen[1]
                ));
            }
            let (first, _) = &seen[0];
            assert!(
                !first.starts_with("500") && !first.starts_with("400"),
                "{} {}: {first}",
                question.method,
                question.path
            );
        }
        assert!(
            told.is_empty(),
            "an outsider can tell what is there:\n{}",
            told.join("\n\n")
        );
    });
}
