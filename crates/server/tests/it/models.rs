//! Models: who may see and change them, sharing at one of them, their versions, and moving them.

use bailiwick_api::models::{ModelFilter, VersionFilter};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::world::{Answer, Person, World, on_both};

/// `Vision` and `Audio`, and who is what there.
async fn vision(world: &World) -> (Person, Person, Person) {
    for name in ["Vision", "Audio"] {
        let made = world.admin.post("/api/v1/workspaces", json!({"name": name})).await;
        assert_eq!(made.status, 200, "{}", made.message());
    }
    let lead = world.person("lead").await;
    let (ed, out) = (world.person("ed").await, world.person("out").await);
    for (user, role) in [("lead", "WorkspaceAdmin"), ("ed", "Editor")] {
        give(&world.admin, role, user, "workspace:Vision").await;
    }
    (lead, ed, out)
}

async fn assign(by: &Person, role: &str, user: &str, on: &str) -> Answer {
    let what = json!({"assignments": [{"role": role, "user": user, "on": on}]});
    by.post("/api/v1/assignments", what).await
}

async fn give(by: &Person, role: &str, user: &str, on: &str) {
    let answer = assign(by, role, user, on).await;
    assert_eq!(answer.status, 200, "{}", answer.message());
}

async fn take(by: &Person, role: &str, user: &str, on: &str) {
    let what = json!({"assignments": [{"role": role, "user": user, "on": on}]});
    let answer = by.post("/api/v1/assignments/remove", what).await;
    assert_eq!(answer.status, 200, "{}", answer.message());
}

async fn make(by: &Person, workspace: &str, name: &str) -> i64 {
    let path = format!("/api/v1/workspaces/{workspace}/models");
    let made = by.post(&path, json!({"name": name})).await;
    assert_eq!(made.status, 200, "{}", made.message());
    made.json()["id"].as_i64().unwrap()
}

async fn change(by: &Person, id: i64, body: Value) -> Answer {
    Answer::of(by.request("PATCH", &format!("/api/v1/models/{id}")).json(&body)).await
}

async fn add(by: &Person, id: i64, body: Value) -> Answer {
    by.post(&format!("/api/v1/models/{id}/versions"), body).await
}

async fn move_to(by: &Person, id: i64, workspace: &str) -> Answer {
    let to = json!({"workspace": workspace});
    by.post(&format!("/api/v1/models/{id}/move"), to).await
}

async fn names(person: &Person) -> Vec<String> {
    let models = person.client.models(&ModelFilter::default()).await.unwrap();
    let names = models.items.into_iter();
    names
        .map(|model| format!("{}/{}", model.workspace, model.name))
        .collect()
}

#[test]
fn a_model_is_shared_by_itself_and_shows_no_more_of_its_workspace_than_the_name() {
    on_both(|world| async move {
        let (lead, ed, out) = vision(&world).await;
        let id = make(&ed, "Vision", "detector").await;
        let other = make(&ed, "Vision", "secret-one").await;
        let path = format!("/api/v1/models/{id}");
        assert_eq!(out.get(&path).await.status, 404);
        // The maker hands nothing on: that is for who assigns roles there.
        assert_eq!(assign(&ed, "Reader", "out", &format!("model:{id}")).await.status, 403);

        give(&lead, "Reader", "out", "model:Vision/Detector").await;
        assert_eq!(names(&out).await, ["Vision/detector"]);
        assert_eq!(out.get("/api/v1/models/Vision%2Fdetector").await.status, 200);
        assert_eq!(out.get(&format!("/api/v1/models/{other}")).await.status, 404);
        assert_eq!(out.get("/api/v1/workspaces/Vision").await.status, 404);
        assert_eq!(out.get("/api/v1/workspaces/Vision/projects").await.status, 404);
        let refused = change(&out, id, json!({"description": "his"})).await;
        assert_eq!(refused.status, 403, "{}", refused.message());
        let words = "out needs models:update on model \"detector\" (workspace \"Vision\")";
        assert!(refused.message().contains(words), "{}", refused.message());
        assert_eq!(add(&out, id, json!({"uri": "s3://a/b"})).await.status, 403);

        // Writer changes it, and neither deletes, moves nor shares it.
        give(&lead, "Writer", "out", &format!("model:{id}")).await;
        assert_eq!(change(&out, id, json!({"description": "ours"})).await.status, 200);
        assert_eq!(add(&out, id, json!({"uri": "s3://a/b"})).await.status, 200);
        assert_eq!(out.delete(&path).await.status, 403);
        assert_eq!(move_to(&out, id, "default").await.status, 403);
        assert_eq!(assign(&out, "Reader", "ed", &format!("model:{id}")).await.status, 403);

        let why = json!({"who": "out", "permission": "models:update", "on": "model:Vision/detector"});
        let why = lead.post("/api/v1/access/explain", why).await;
        assert_eq!(why.json()["allowed"], true, "{}", why.text);
        assert!(why.text.contains("detector"), "{}", why.text);
        let who = json!({"permission": "models:read", "on": format!("model:{id}")});
        let who = lead.post("/api/v1/access/who-can", who).await;
        assert!(
            who.text.contains("\"out\"") && who.text.contains("\"ed\""),
            "{}",
            who.text
        );

        for role in ["Reader", "Writer"] {
            take(&lead, role, "out", &format!("model:{id}")).await;
        }
        assert_eq!(out.get(&path).await.status, 404);
        assert!(names(&out).await.is_empty());

        // What was shared of one that is gone opens no other of its name.
        give(&lead, "Reader", "out", &format!("model:{id}")).await;
        assert_eq!(lead.delete(&path).await.status, 200);
        make(&ed, "Vision", "detector").await;
        assert!(names(&out).await.is_empty());
        assert_eq!(lead.get(&path).await.status, 404);
    });
}

#[test]
fn versions_are_numbered_once_and_hide_experiments_that_one_may_not_see() {
    on_both(|world| async move {
        let (lead, ed, out) = vision(&world).await;
        let id = make(&ed, "Vision", "detector").await;
        give(&lead, "Reader", "out", &format!("model:{id}")).await;
        let config = json!({"name": "train", "entrypoint": "true", "workspace": "Vision"});
        let experiment = ed.submit_config(config).await.id.0;
        let from = |which: String| json!({"experiment": which, "description": "first"});
        let first = add(&ed, id, from(experiment.to_string())).await;
        assert_eq!(
            (first.status, &first.json()["version"]),
            (200, &json!(1)),
            "{}",
            first.text
        );
        assert_eq!(add(&lead, id, json!({"uri": "s3://models/2"})).await.status, 200);
        let by_name = add(&ed, id, from("train".into())).await;
        assert_eq!(by_name.json()["experiment"], experiment);
        // The last one's number is not given again.
        assert_eq!(ed.delete(&format!("/api/v1/models/{id}/versions/3")).await.status, 200);
        let next = add(&ed, id, json!({"uri": "file:///srv/models/4"})).await;
        assert_eq!(next.json()["version"], 4);
        let shown = ed.client.model(&id.to_string()).await.unwrap();
        assert_eq!((shown.versions, shown.latest_version), (3, Some(4)));

        let of = async |person: &Person| {
            let filter = VersionFilter::default();
            let page = person.client.model_versions(&id.to_string(), &filter).await.unwrap();
            let items = page.items.into_iter();
            items
                .map(|one| (one.version, one.experiment.map(|id| id.0)))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&ed).await, [(4, None), (2, None), (1, Some(experiment))]);
        assert_eq!(of(&out).await, [(4, None), (2, None), (1, None)]);
        give(&lead, "Reader", "out", &format!("experiment:{experiment}")).await;
        assert_eq!(of(&out).await, [(4, None), (2, None), (1, Some(experiment))]);
        let two = VersionFilter {
            limit: Some(2),
            ..VersionFilter::default()
        };
        let page = ed.client.model_versions(&id.to_string(), &two).await.unwrap();
        assert_eq!(page.next.as_deref(), Some("2"));

        // One's own version, and those of one's own model; another's are for an administrator of the workspace.
        let editor = world.person_with("editor", "Viewer").await;
        give(&lead, "Editor", "editor", &format!("model:{id}")).await;
        assert_eq!(add(&editor, id, json!({"uri": "s3://models/5"})).await.status, 200);
        let version = |number: i64| format!("/api/v1/models/{id}/versions/{number}");
        let refused = editor.delete(&version(4)).await;
        assert_eq!(refused.status, 403, "{}", refused.message());
        assert!(
            refused.message().contains("models:delete-version"),
            "{}",
            refused.message()
        );
        assert_eq!(editor.delete(&version(5)).await.status, 200);
        assert_eq!(editor.delete(&version(4)).await.status, 403);
        assert_eq!(ed.delete(&version(2)).await.status, 200, "of one's own model");
        assert_eq!(lead.delete(&version(4)).await.status, 200);
        assert_eq!(lead.delete(&version(4)).await.status, 404);
        assert_eq!(lead.delete(&version(0)).await.status, 404);
        let none = lead.delete(&format!("/api/v1/models/{id}/versions/latest")).await;
        assert!(none.message().contains("no version `latest`"), "{}", none.message());
        assert_eq!(lead.client.model(&id.to_string()).await.unwrap().versions, 1);

        // An experiment that is deleted leaves the version, and one that nobody may see is not there.
        world
            .sql(format!(
                "UPDATE experiments SET state = 'COMPLETED', ended_at = 1 WHERE id = {experiment}"
            ))
            .await
            .unwrap();
        let deleted = lead.delete(&format!("/api/v1/experiments/{experiment}")).await;
        assert_eq!(deleted.status, 200, "{}", deleted.message());
        assert_eq!(of(&ed).await, [(1, None)]);
        assert_eq!(add(&ed, id, from(experiment.to_string())).await.status, 404);
    });
}

#[test]
fn a_model_that_is_moved_is_seen_by_those_of_its_new_workspace_from_then_on() {
    on_both(|world| async move {
        let (lead, ed, out) = vision(&world).await;
        let id = make(&ed, "Vision", "detector").await;
        give(&world.admin, "Viewer", "out", "workspace:Audio").await;
        let single = world.person("single").await;
        give(&lead, "Reader", "single", &format!("model:{id}")).await;
        // The right is needed on both sides: to take it away here, to make one there.
        assert_eq!(move_to(&lead, id, "Audio").await.status, 404, "he does not see it");
        give(&world.admin, "Viewer", "lead", "workspace:Audio").await;
        let refused = move_to(&lead, id, "Audio").await;
        assert_eq!(refused.status, 403, "{}", refused.message());
        assert!(refused.message().contains("models:create"), "{}", refused.message());
        give(&world.admin, "Editor", "single", "workspace:Audio").await;
        assert_eq!(
            move_to(&single, id, "Audio").await.status,
            403,
            "a reader takes nothing"
        );
        give(&world.admin, "Editor", "lead", "workspace:Audio").await;
        assert_eq!(make(&lead, "Audio", "Detector").await, id + 1);
        assert_eq!(move_to(&lead, id, "Audio").await.status, 409, "the name is taken");
        assert_eq!(change(&lead, id + 1, json!({"name": "another"})).await.status, 200);

        assert_eq!(out.get(&format!("/api/v1/models/{id}")).await.status, 404);
        let moved = move_to(&lead, id, "audio").await;
        assert_eq!(moved.status, 200, "{}", moved.message());
        assert_eq!(moved.json()["workspace"], "Audio");
        assert_eq!(move_to(&lead, id, "Audio").await.status, 403, "no longer his to take");
        let path = format!("/api/v1/models/{id}");
        assert_eq!(out.get(&path).await.status, 200);
        assert_eq!(single.get(&path).await.status, 200, "what is shared by itself stays");
        assert_eq!(ed.get(&path).await.status, 404, "whoever made it, too, is out there");

        // Both workspaces tell of it in the audit, and each of the other no more than one may see.
        give(&world.admin, "WorkspaceAdmin", "out", "workspace:Audio").await;
        for (reader, from) in [(&lead, json!("Vision")), (&out, Value::Null)] {
            let events = reader.get("/api/v1/audit?limit=200").await.json();
            let events = events["items"].as_array().unwrap().clone();
            let moves: Vec<_> = events
                .into_iter()
                .filter(|event| event["verb"] == "move" && event["outcome"] == "allowed")
                .collect();
            assert_eq!(moves.len(), 1, "{}", reader.name);
            assert_eq!(moves[0]["detail"]["before"]["workspace"], from, "{}", reader.name);
            assert_eq!(moves[0]["detail"]["after"]["workspace"], "Audio", "{}", reader.name);
        }
    });
}

#[test]
fn what_a_model_cannot_be_is_refused_with_the_reason_and_its_workspace_stays_while_it_holds_one() {
    on_both(|world| async move {
        let (lead, ed, _) = vision(&world).await;
        let path = "/api/v1/workspaces/Vision/models";
        for bad in [
            json!({}),
            json!({"name": ""}),
            json!({"name": "7"}),
            json!({"name": "a/b"}),
            json!({"name": "x", "colour": "red"}),
            json!({"name": "x", "description": "d".repeat(5000)}),
            json!({"name": "\u{430}dmin"}),
        ] {
            assert_eq!(ed.post(path, bad.clone()).await.status, 422, "{bad}");
        }
        let id = make(&ed, "Vision", "detector").await;
        let twice = ed.post(path, json!({"name": "Detector"})).await;
        assert_eq!(twice.status, 409, "{}", twice.message());
        for bad in [
            json!({}),
            json!({"description": "of nothing"}),
            json!({"uri": "somewhere"}),
            json!({"uri": "s3://a/\u{202e}b"}),
            json!({"uri": "s3://a b"}),
            json!({"uri": "s3://a", "experiment": " "}),
            json!({"uri": "s3://key:secret@bucket"}),
            json!({"uri": "s3://a", "version": 7}),
            json!({"uri": format!("s3://{}", "x".repeat(2000))}),
            json!({"uri": "s3://a", "description": "d".repeat(5000)}),
        ] {
            assert_eq!(add(&ed, id, bad.clone()).await.status, 422, "{bad}");
        }
        assert_eq!(add(&ed, id, json!({"experiment": "none"})).await.status, 404);
        assert_eq!(world.count("model_versions").await, 0, "what was refused left nothing");
        assert_eq!(change(&ed, id, json!({})).await.status, 422);

        let refused = lead.delete("/api/v1/workspaces/Vision").await;
        assert_eq!(refused.status, 409, "{}", refused.message());
        let words = "still holds models, 1 of which you may see";
        assert!(refused.message().contains(words), "{}", refused.message());
        let archived = lead.post("/api/v1/workspaces/Vision/archive", json!({})).await;
        assert_eq!(archived.status, 200, "{}", archived.message());
        assert_eq!(ed.post(path, json!({"name": "another"})).await.status, 409);
        assert_eq!(add(&ed, id, json!({"uri": "s3://models/1"})).await.status, 409);
        assert_eq!(lead.delete(&format!("/api/v1/models/{id}")).await.status, 200);
        assert_eq!(lead.delete("/api/v1/workspaces/Vision").await.status, 200);
    });
}

#[test]
fn registered_at_once_each_version_has_a_number_of_its_own() {
    on_both(|world| async move {
        let (_, ed, _) = vision(&world).await;
        let id = make(&ed, "Vision", "detector").await;
        let all = (0..20).map(|number| {
            let (body, ed) = (json!({"uri": format!("s3://models/{number}")}), &ed);
            async move { add(ed, id, body).await }
        });
        let all = futures_util::future::join_all(all).await;
        let mut numbers: Vec<i64> = all
            .iter()
            .map(|answer| answer.json()["version"].as_i64().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
        assert_eq!(ed.client.model(&id.to_string()).await.unwrap().versions, 20);
    });
}

#[test]
fn a_list_of_models_holds_what_one_may_see_page_by_page() {
    on_both(|world| async move {
        let (lead, ed, out) = vision(&world).await;
        let mut shared = Vec::new();
        for number in 0..25 {
            let id = make(&ed, "Vision", &format!("model-{number}")).await;
            if number % 5 == 0 {
                give(&lead, "Reader", "out", &format!("model:{id}")).await;
                shared.insert(0, format!("model-{number}"));
            }
        }
        make(&world.admin, "Audio", "model-x").await;
        let mut filter = ModelFilter {
            limit: Some(2),
            ..ModelFilter::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = out.client.models(&filter).await.unwrap();
            assert!(page.items.len() <= 2);
            seen.extend(page.items.into_iter().map(|model| model.name));
            match page.next {
                Some(next) => filter.after = Some(next.parse().unwrap()),
                None => break,
            }
        }
        assert_eq!(seen, shared);
        let listed = async |person: &Person, query: &str| {
            let page = person.get(&format!("/api/v1/models{query}")).await.json();
            page["items"].as_array().unwrap().len()
        };
        assert_eq!(listed(&ed, "").await, 25);
        assert_eq!(listed(&world.admin, "").await, 26);
        assert_eq!(listed(&world.admin, "?workspace=audio").await, 1);
        assert_eq!(listed(&world.admin, "?text=MODEL-2").await, 6);
        assert_eq!(listed(&world.admin, "?owner=ed&workspace=Vision").await, 25);
        assert_eq!(listed(&world.admin, "?owner=nobody").await, 0);
        // A filter tells nothing of what one may not see.
        assert_eq!(listed(&ed, "?workspace=Audio").await, 0);
        assert_eq!(listed(&ed, "?workspace=Nowhere").await, 0);
        // Who owns something anywhere finds it, whichever workspace is named.
        give(&world.admin, "DataScientist", "out", "installation").await;
        make(&out, "Audio", "of-out").await;
        assert_eq!(listed(&out, "?workspace=Audio").await, 1);
        assert_eq!(listed(&out, "").await, 6);
        // A narrowed key sees no more than it may.
        let key = json!({"label": "audio", "workspaces": ["Vision"], "permissions": ["experiments:read"]});
        let key = ed.post("/api/v1/tokens", key).await.json();
        let narrowed = ed.client.with_key(key["secret"].as_str());
        let page = narrowed.models(&ModelFilter::default()).await.unwrap();
        assert!(page.items.is_empty());
    });
}

#[test]
fn models_are_made_changed_shared_moved_and_deleted_by_forms() {
    on_both(|world: World| async move {
        let (lead, _, out) = vision(&world).await;
        give(&world.admin, "Editor", "lead", "workspace:Audio").await;
        let (hers, his) = (Browser::of(&world, &lead).await, Browser::of(&world, &out).await);
        assert!(hers.get("/models").await.page().contains("There is no model"));
        let bad = hers
            .post(
                "/models/new",
                &[("act", "create"), ("workspace", "Vision"), ("name", "a/b")],
            )
            .await;
        assert_eq!(bad.status, 422);
        assert!(bad.text.contains("value=\"a/b\""), "{}", bad.text);
        let made = hers
            .post(
                "/models/new",
                &[("act", "create"), ("workspace", "Vision"), ("name", "detector")],
            )
            .await
            .leads();
        let page = hers.get(&made).await.page();
        for part in ["<h1>detector</h1>", "no version yet", "Share it", "Register a version"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(his.get(&made).await.status, 404);
        let nothing = hers
            .post(&made, &[("act", "add-version"), ("description", "mine")])
            .await;
        assert!(
            nothing.text.contains("say which experiment") && nothing.text.contains("value=\"mine\""),
            "{}",
            nothing.text
        );
        for uri in ["s3://models/1", "s3://models/2"] {
            hers.post(&made, &[("act", "add-version"), ("uri", uri)]).await.leads();
        }
        hers.post(&made, &[("act", "delete-version"), ("version", "1")])
            .await
            .leads();
        hers.post(
            &made,
            &[("act", "share"), ("kind", "user"), ("who", "out"), ("role", "Reader")],
        )
        .await
        .leads();
        let page = his.get(&made).await.page();
        assert!(
            page.contains("s3://models/2") && !page.contains("s3://models/1"),
            "{page}"
        );
        for part in [
            "Share it",
            "Register a version",
            "Delete the model",
            "href=\"/workspaces/",
        ] {
            assert!(!page.contains(part), "{part}: {page}");
        }
        assert!(his.get("/models").await.page().contains("detector"));
        assert_eq!(his.post(&made, &[("act", "delete"), ("sure", "yes")]).await.status, 403);
        hers.post(
            &made,
            &[("act", "change"), ("name", "finder"), ("description", "finds")],
        )
        .await
        .leads();
        hers.post(&made, &[("act", "move"), ("workspace", "Audio")])
            .await
            .leads();
        let found = hers.get("/models?workspace=Audio&text=find").await.page();
        assert!(found.contains("finder"), "{found}");
        let owner = Browser::of(&world, &world.admin).await;
        let unsure = owner.post(&made, &[("act", "delete")]).await;
        assert!(unsure.text.contains("not ticked"), "{}", unsure.text);
        assert_eq!(
            owner.post(&made, &[("act", "delete"), ("sure", "yes")]).await.leads(),
            "/models"
        );
        assert_eq!(hers.get(&made).await.status, 404);
    });
}
