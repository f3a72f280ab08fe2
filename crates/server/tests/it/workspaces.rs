//! Workspaces and projects: what is in them, who sees them, and where experiments go.

use bailiwick_api::server::AccessMode;
use serde_json::{Value, json};

use crate::roles::make_role;
use crate::world::{Answer, Person, World, held, on_both, on_both_with};

async fn patch(who: &Person, path: &str, body: Value) -> Answer {
    Answer::of(who.request("PATCH", path).json(&body)).await
}

/// Made, with whatever the caller may give.
async fn workspace(who: &Person, name: &str) -> i64 {
    let made = who.post("/api/v1/workspaces", json!({"name": name})).await;
    assert_eq!(made.status, 200, "{}", made.text);
    made.json()["id"].as_i64().unwrap()
}

async fn project(who: &Person, workspace: &str, name: &str) -> i64 {
    let path = format!("/api/v1/workspaces/{}/projects", workspace.replace(' ', "%20"));
    let made = who.post(&path, json!({"name": name})).await;
    assert_eq!(made.status, 200, "{}", made.text);
    made.json()["id"].as_i64().unwrap()
}

async fn assign(world: &World, role: &str, user: &str, on: &str) {
    let on = if on.is_empty() { "installation" } else { on };
    let assignments = json!([{"role": role, "user": user, "on": on}]);
    let made = world
        .admin
        .post("/api/v1/assignments", json!({"assignments": assignments}))
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
}

/// Somebody with no right but these roles, each at a place.
async fn with_roles(world: &World, name: &str, roles: &[(&str, &str)]) -> Person {
    let person = world.person_with(name, "OwnViewer").await;
    let sql = format!("DELETE FROM assignments WHERE principal_id = {}", person.id);
    world.sql(sql).await.unwrap();
    world
        .sql("UPDATE access_version SET version = version + 1")
        .await
        .unwrap();
    let everything =
        "INSERT INTO access_changes (version, kind, object_id) SELECT version, 'everything', 0 FROM access_version";
    world.sql(everything).await.unwrap();
    for (role, on) in roles {
        assign(world, role, name, on).await;
    }
    person
}

async fn names(who: &Person, path: &str) -> Vec<String> {
    let page = who.get(path).await.json();
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
    let name = |one: &Value| one["name"].as_str().expect("each has a name").to_owned();
    items.iter().map(name).collect()
}

/// A submission into a place.
async fn submit(who: &Person, name: &str, workspace: &str, project: &str) -> Answer {
    let project = Some(project).filter(|project| !project.is_empty());
    let config = json!({"name": name, "entrypoint": "true", "workspace": workspace, "project": project});
    who.post("/api/v1/experiments", json!({"config": config})).await
}

async fn submitted(who: &Person, name: &str, workspace: &str, project: &str) -> i64 {
    let answer = submit(who, name, workspace, project).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["id"].as_i64().unwrap()
}

#[test]
fn two_teams_have_a_workspace_each_and_see_nothing_of_the_others() {
    on_both(|world| async move {
        workspace(&world.admin, "Traffic Lights").await;
        workspace(&world.admin, "Stop Signs").await;
        let editor = with_roles(&world, "mle-traffic-01", &[("Editor", "workspace:Traffic Lights")]).await;
        let lead = with_roles(&world, "mle-stop-00", &[("WorkspaceAdmin", "workspace:Stop Signs")]).await;
        project(&editor, "Traffic Lights", "Green").await;
        project(&lead, "Stop Signs", "Euro").await;
        submitted(&editor, "green light", "Traffic Lights", "Green").await;
        submitted(&lead, "euro stop", "Stop Signs", "Euro").await;

        assert_eq!(names(&editor, "/api/v1/workspaces").await, ["Traffic Lights"]);
        assert_eq!(names(&lead, "/api/v1/workspaces").await, ["Stop Signs"]);
        assert_eq!(
            names(&world.admin, "/api/v1/workspaces").await,
            ["default", "Traffic Lights", "Stop Signs"]
        );
        assert_eq!(names(&editor, "/api/v1/projects").await, ["default", "Green"]);
        assert_eq!(names(&editor, "/api/v1/experiments").await, ["green light"]);
        assert_eq!(names(&lead, "/api/v1/experiments").await, ["euro stop"]);
        assert_eq!(
            names(&world.admin, "/api/v1/experiments").await,
            ["euro stop", "green light"]
        );

        // Another's workspace, by name and number, is as one that is not there, whatever is asked of it.
        let id = world.admin.client.workspace("Stop Signs").await.unwrap().id.to_string();
        let place = |path: &str, which: &str| path.replace("{w}", &which.replace(' ', "%20"));
        for (method, path) in [
            ("GET", "/api/v1/workspaces/{w}"),
            ("PATCH", "/api/v1/workspaces/{w}"),
            ("DELETE", "/api/v1/workspaces/{w}"),
            ("POST", "/api/v1/workspaces/{w}/archive"),
            ("GET", "/api/v1/workspaces/{w}/members"),
            ("GET", "/api/v1/workspaces/{w}/projects"),
            ("POST", "/api/v1/workspaces/{w}/projects"),
            ("GET", "/api/v1/workspaces/{w}/projects/Euro"),
            ("PATCH", "/api/v1/workspaces/{w}/projects/Euro"),
            ("DELETE", "/api/v1/workspaces/{w}/projects/Euro"),
            ("GET", "/api/v1/workspaces/{w}/projects/Euro/members"),
        ] {
            let ask = |which: &str| {
                let request = editor.request(method, &place(path, which));
                Answer::of(if method == "GET" {
                    request
                } else {
                    request.json(&json!({"name": "x"}))
                })
            };
            let ask = |which: String| {
                let asked = ask(&which);
                async move { asked.await.without(&which) }
            };
            let missing = ask("Nowhere".into()).await;
            assert!(missing.starts_with("404 "), "{method} {path}: {missing}");
            assert_eq!(ask("Stop Signs".into()).await, missing, "{method} {path}");
            assert_eq!(ask(id.clone()).await, missing, "{method} {path}");
        }
        let refused = submit(&editor, "x", "Stop Signs", "Euro").await;
        let missing = submit(&editor, "x", "Nowhere", "Euro").await;
        assert_eq!((refused.status, missing.status), (404, 404));
        assert_eq!(refused.without("Stop Signs"), missing.without("Nowhere"));

        // Seen, and not allowed: said so, with what is missing.
        let refused = patch(&editor, "/api/v1/workspaces/Traffic%20Lights", json!({"name": "Mine"})).await;
        assert_eq!(
            (refused.status, refused.message()),
            (
                403,
                "Insufficient permissions: mle-traffic-01 needs workspaces:update on workspace \"Traffic Lights\""
                    .into()
            )
        );
        // The lead of one workspace makes no other.
        assert_eq!(
            lead.post("/api/v1/workspaces", json!({"name": "Mine"})).await.status,
            403
        );
    });
}

#[test]
fn whoever_makes_a_workspace_administers_it_and_nothing_else() {
    on_both(|world| async move {
        let maker = with_roles(&world, "maker", &[("WorkspaceCreator", "")]).await;
        assert!(names(&maker, "/api/v1/workspaces").await.is_empty());
        let before = world.last_event().await;
        let made = maker
            .post(
                "/api/v1/workspaces",
                json!({"name": "Vision", "description": "with a camera"}),
            )
            .await
            .json();
        assert_eq!(
            (&made["owner"], &made["projects"], &made["description"]),
            (&json!("maker"), &json!(1), &json!("with a camera"))
        );
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            ["maker workspaces:create create workspace Vision allowed"]
        );
        assert_eq!(names(&maker, "/api/v1/workspaces").await, ["Vision"]);
        let answer = submit(&maker, "one", "Vision", "").await.json();
        assert_eq!(
            (&answer["workspace"], &answer["project"]),
            (&json!("Vision"), &json!("default"))
        );
        let changed = patch(&maker, "/api/v1/workspaces/vision", json!({"name": "VISION"})).await;
        assert_eq!(changed.json()["name"], "VISION");
        let roles = maker.client.me().await.unwrap().user.roles;
        let held: Vec<&str> = roles.iter().map(|role| role.role.as_str()).collect();
        assert!(held.contains(&"WorkspaceAdmin"), "{held:?}");
        assert_eq!(maker.get("/api/v1/workspaces/default").await.status, 404);
    });
}

#[test]
fn what_the_maker_of_a_workspace_holds_is_configured_and_can_be_switched_off() {
    on_both_with(
        |config| config.workspace_creator_role = Some("viewer".into()),
        |world| async move {
            let maker = with_roles(&world, "maker", &[("WorkspaceCreator", "")]).await;
            workspace(&maker, "Seen").await;
            assert_eq!(names(&maker, "/api/v1/workspaces").await, ["Seen"]);
            assert_eq!(maker.delete("/api/v1/workspaces/Seen").await.status, 403);
            let url = world.restart(|config| config.workspace_creator_role = None).await;
            let maker = maker.at(&url);
            let made = maker.post("/api/v1/workspaces", json!({"name": "Unseen"})).await;
            assert_eq!(made.json()["owner"], "maker", "{}", made.text);
            assert_eq!(maker.get("/api/v1/workspaces/Unseen").await.status, 404);
        },
    );
}

#[test]
fn names_of_workspaces_and_projects_are_unique_whatever_their_case() {
    on_both(|world| async move {
        let admin = &world.admin;
        workspace(admin, "Träning").await;
        let other = with_roles(&world, "other", &[("WorkspaceCreator", "")]).await;
        for who in [admin, &other] {
            let again = who.post("/api/v1/workspaces", json!({"name": "TRÄNING"})).await;
            assert_eq!((again.status, again.code().as_str()), (409, "conflict"));
            assert_eq!(
                again.message(),
                "there is already a workspace `TRÄNING` (letter case does not matter)"
            );
        }
        project(admin, "Träning", "Green").await;
        let path = "/api/v1/workspaces/Träning/projects";
        assert_eq!(admin.post(path, json!({"name": "GREEN"})).await.status, 409);
        assert_eq!(
            admin.post(path, json!({"name": "Default"})).await.status,
            409,
            "each workspace has one from the start"
        );
        project(admin, "default", "green").await;
        project(admin, "Träning", "Red").await;
        let renamed = patch(admin, &format!("{path}/red"), json!({"name": "gReEn"})).await;
        assert_eq!(renamed.status, 409);
        let long = "x".repeat(256);
        for bad in [
            "",
            " x",
            "12",
            "a\nb",
            "a\u{202E}b",
            "a/b",
            ".",
            "..",
            "a  b",
            "a\u{A0}b",
            &long,
        ] {
            let made = admin.post("/api/v1/workspaces", json!({"name": bad})).await;
            assert_eq!(made.status, 422, "{bad:?}");
            assert_eq!(admin.post(path, json!({"name": bad})).await.status, 422, "{bad:?}");
            let renamed = patch(admin, "/api/v1/workspaces/Träning", json!({"name": bad})).await;
            assert_eq!(renamed.status, 422, "{bad:?}");
        }
        for name in ["a:b", "x'; DROP TABLE workspaces--", "{{7*7}}", "😀", "%2e"] {
            let id = workspace(admin, name).await;
            let found = admin.client.workspace(name).await.unwrap();
            assert_eq!((found.id.0, found.name.as_str()), (id, name));
        }
        let long = json!({"name": "long", "description": "x".repeat(4001)});
        assert_eq!(admin.post("/api/v1/workspaces", long).await.status, 422);
        for bad in ["two\nlines", "a\u{202E}b", "\u{1b}[2J"] {
            let body = json!({"name": "new", "description": bad});
            assert_eq!(admin.post("/api/v1/workspaces", body.clone()).await.status, 422);
            assert_eq!(admin.post(path, body).await.status, 422);
            let described = patch(admin, "/api/v1/workspaces/Träning", json!({"description": bad})).await;
            assert_eq!(described.status, 422, "{bad:?}");
        }
        assert_eq!(
            patch(admin, "/api/v1/workspaces/Träning", json!({})).await.message(),
            "there is nothing to change: give a name or a description"
        );
    });
}

#[test]
fn places_named_with_a_slash_from_before_are_still_there_and_planned_again() {
    on_both(|world| async move {
        let admin = &world.admin;
        world.person("ana").await;
        let old = workspace(admin, "old").await;
        let euro = project(admin, "old", "Euro").await;
        assign(&world, "Viewer", "ana", &format!("project:{euro}")).await;
        world
            .sql("UPDATE workspaces SET name = 'A/B', name_key = 'a/b', description = 'two\nlines' WHERE name = 'old'")
            .await
            .unwrap();
        let admin = &admin.at(&world.restart(|_| ()).await);
        assert_eq!(admin.client.workspace("A/B").await.unwrap().id.0, old);
        let roles = admin.client.user("ana").await.unwrap().roles;
        let scope = serde_json::to_value(&roles.iter().find(|one| one.role == "Viewer").unwrap().scope).unwrap();
        assert_eq!(
            scope,
            json!({"kind": "project", "id": euro, "name": "Euro", "workspace": "A/B"})
        );
        let document = serde_json::to_value(admin.client.export_access().await.unwrap()).unwrap();
        let planned = admin.post("/api/v1/access/plan", json!({"document": document})).await;
        assert_eq!(
            (planned.status, &planned.json()["changes"]),
            (200, &json!([])),
            "{}",
            planned.text
        );
        let document = json!({"workspaces": [{"name": "C/D", "description": "x"}]});
        assert_eq!(
            admin
                .post("/api/v1/access/plan", json!({"document": document}))
                .await
                .status,
            422
        );
    });
}

#[test]
fn an_archived_workspace_takes_nothing_new_and_keeps_what_it_has() {
    on_both(|world| async move {
        let lead = with_roles(&world, "lead", &[("WorkspaceCreator", "")]).await;
        workspace(&lead, "Old").await;
        project(&lead, "Old", "Green").await;
        let kept = submitted(&lead, "kept", "Old", "Green").await;
        let before = world.last_event().await;
        let archived = lead.post("/api/v1/workspaces/Old/archive", json!({})).await;
        assert!(archived.json()["archived_at"].is_string(), "{}", archived.text);
        assert_eq!(lead.post("/api/v1/workspaces/Old/archive", json!({})).await.status, 409);
        let refused = lead
            .post("/api/v1/workspaces/Old/projects", json!({"name": "Red"}))
            .await;
        assert_eq!(
            (refused.status, refused.message()),
            (409, "the workspace `Old` is archived and takes nothing new".into())
        );
        let refused = submit(&lead, "late", "Old", "Green").await;
        assert_eq!(
            (refused.status, refused.message()),
            (409, "the workspace `Old` is archived and takes nothing new".into())
        );
        assert!(names(&lead, "/api/v1/workspaces").await.is_empty());
        assert_eq!(names(&lead, "/api/v1/workspaces?all=true").await, ["Old"]);
        assert!(names(&lead, "/api/v1/projects").await.is_empty());
        assert_eq!(
            names(&lead, "/api/v1/workspaces/Old/projects").await,
            ["default", "Green"]
        );
        assert_eq!(names(&lead, "/api/v1/experiments").await, ["kept"]);
        assert_eq!(
            lead.post(&format!("/api/v1/experiments/{kept}/cancel"), json!({}))
                .await
                .status,
            200
        );
        assert_eq!(
            lead.post("/api/v1/workspaces/Old/unarchive", json!({})).await.status,
            200
        );
        assert_eq!(
            world
                .events(&format!(
                    "id > {before} AND verb LIKE '%archive' AND outcome = 'allowed'"
                ))
                .await,
            [
                "lead workspaces:update archive workspace Old allowed",
                "lead workspaces:update unarchive workspace Old allowed"
            ]
        );
        submitted(&lead, "again", "Old", "Green").await;

        // A single project, likewise.
        let path = "/api/v1/workspaces/Old/projects/Green";
        assert_eq!(lead.post(&format!("{path}/archive"), json!({})).await.status, 200);
        let refused = submit(&lead, "late", "Old", "Green").await;
        assert_eq!(
            refused.message(),
            "the project `Green` is archived and takes nothing new"
        );
        submitted(&lead, "elsewhere", "Old", "").await;
        assert_eq!(names(&lead, "/api/v1/workspaces/Old/projects").await, ["default"]);
        assert_eq!(
            names(&lead, "/api/v1/workspaces/Old/projects?all=true").await,
            ["default", "Green"]
        );
        assert_eq!(lead.post(&format!("{path}/unarchive"), json!({})).await.status, 200);
        submitted(&lead, "in again", "Old", "Green").await;
    });
}

#[test]
fn a_workspace_with_experiments_is_not_deleted_and_an_empty_one_takes_its_roles_along() {
    on_both(|world| async move {
        let lead = with_roles(&world, "lead", &[("WorkspaceCreator", "")]).await;
        workspace(&lead, "Short").await;
        project(&lead, "Short", "Green").await;
        assign(&world, "Viewer", "lead", "project:Short/Green").await;
        let id = submitted(&lead, "one", "Short", "Green").await;
        let refused = lead.delete("/api/v1/workspaces/Short").await;
        assert_eq!(
            (refused.status, refused.message()),
            (
                409,
                "the workspace `Short` still holds experiments, 1 of which you may see".into()
            )
        );
        assert!(refused.text.contains("ml experiment move"), "{}", refused.text);
        let refused = lead.delete("/api/v1/workspaces/Short/projects/Green").await;
        assert_eq!(
            refused.message(),
            "the project `Green` still holds experiments, 1 of which you may see"
        );
        // Whoever may delete, and sees none of them, does not learn how many there are.
        let role = json!({"name": "Sweeper", "permissions": ["workspaces:read", "workspaces:delete"]});
        assert_eq!(world.admin.post("/api/v1/roles", role).await.status, 200);
        let sweeper = with_roles(&world, "sweeper", &[("Sweeper", "workspace:Short")]).await;
        assert_eq!(
            sweeper.delete("/api/v1/workspaces/Short").await.message(),
            "the workspace `Short` still holds experiments, none of which you may see"
        );
        lead.post(&format!("/api/v1/experiments/{id}/cancel"), json!({})).await;
        assert_eq!(lead.delete(&format!("/api/v1/experiments/{id}")).await.status, 200);
        let held = "assignments WHERE scope_kind IN ('workspace', 'project') AND scope_id > 1";
        assert_eq!(world.count(held).await, 3);
        assert_eq!(lead.delete("/api/v1/workspaces/Short/projects/Green").await.status, 200);
        assert_eq!(world.count(held).await, 2);
        let before = world.last_event().await;
        assert_eq!(lead.delete("/api/v1/workspaces/Short").await.status, 200);
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            ["lead workspaces:delete delete workspace Short allowed"]
        );
        assert_eq!(world.count(held).await, 0);
        assert_eq!(world.count("projects").await, 1);
        assert_eq!(lead.get("/api/v1/workspaces/Short").await.status, 404);
        assert_eq!(lead.delete("/api/v1/workspaces/Short").await.status, 404);
        let roles = lead.client.me().await.unwrap().user.roles;
        let own: Vec<&str> = roles
            .iter()
            .filter(|role| role.through_group.is_none())
            .map(|role| role.role.as_str())
            .collect();
        assert_eq!(own, ["WorkspaceCreator"], "only what the lead began with");
        // The name is free again, and the new one is another.
        workspace(&world.admin, "short").await;
        assert_eq!(lead.get("/api/v1/workspaces/Short").await.status, 404);
    });
}

#[test]
fn the_places_that_everything_falls_back_on_stay() {
    on_both(|world| async move {
        let admin = &world.admin;
        for (answer, doing) in [
            (admin.delete("/api/v1/workspaces/default").await, "deleted"),
            (admin.post("/api/v1/workspaces/1/archive", json!({})).await, "archived"),
            (
                patch(admin, "/api/v1/workspaces/default", json!({"name": "x"})).await,
                "renamed",
            ),
        ] {
            assert_eq!(
                (answer.status, answer.message()),
                (409, format!("the workspace `default` cannot be {doing}"))
            );
        }
        workspace(admin, "Other").await;
        let path = "/api/v1/workspaces/Other/projects/default";
        for (answer, doing) in [
            (admin.delete(path).await, "deleted"),
            (admin.post(&format!("{path}/archive"), json!({})).await, "archived"),
            (patch(admin, path, json!({"name": "x"})).await, "renamed"),
        ] {
            assert_eq!(
                (answer.status, answer.message()),
                (409, format!("the project `default` cannot be {doing}"))
            );
        }
        let described = patch(admin, path, json!({"description": "the rest"})).await;
        assert_eq!(described.json()["description"], "the rest");
        assert_eq!(world.person("new").await.submit("first").await.workspace, "default");
    });
}

#[test]
fn members_are_those_who_hold_a_role_there_or_further_up() {
    on_both(|world| async move {
        workspace(&world.admin, "Lights").await;
        project(&world.admin, "Lights", "Green").await;
        let ana = with_roles(&world, "ana", &[("Viewer", "workspace:Lights")]).await;
        with_roles(&world, "ben", &[("Editor", "project:Lights/Green")]).await;
        with_roles(&world, "eve", &[("Viewer", "workspace:default"), ("TokenCreator", "")]).await;
        let group = json!({"name": "Team", "users": ["ben"]});
        assert_eq!(world.admin.post("/api/v1/groups", group).await.status, 200);
        let until = world.now().plus_ms(60_000);
        let editor = json!({"role": "Editor", "group": "Team", "on": "workspace:Lights", "lifetime_ms": 60_000});
        let given = world
            .admin
            .post("/api/v1/assignments", json!({"assignments": [editor]}))
            .await;
        assert_eq!(given.status, 200, "{}", given.text);

        let members = |who: &Person, path: &str| {
            let (who, path) = (who.clone(), path.to_owned());
            async move {
                let page = who
                    .client
                    .get::<bailiwick_api::Page<bailiwick_api::workspaces::Member>>(&path)
                    .await;
                let told = |one: &bailiwick_api::workspaces::Member| {
                    let scope = serde_json::to_value(&one.scope).unwrap();
                    format!(
                        "{} {} {} {}",
                        one.kind.name(),
                        one.name,
                        one.role,
                        scope["kind"].as_str().unwrap()
                    )
                };
                let mut told: Vec<String> = page.unwrap().items.iter().map(told).collect();
                told.sort();
                told
            }
        };
        let everybody_above = [
            "group Admins Administrator global",
            "group Queue admins QueueAdmin global",
            "group Team Editor workspace",
            "user admin ClusterAdmin global",
            "user admin WorkspaceAdmin workspace",
            "user ana Viewer workspace",
        ];
        assert_eq!(
            members(&ana, "/api/v1/workspaces/Lights/members").await,
            everybody_above
        );
        let mut of_project = everybody_above.map(str::to_owned).to_vec();
        of_project.push("user ben Editor project".into());
        of_project.sort();
        assert_eq!(
            members(&ana, "/api/v1/workspaces/Lights/projects/Green/members").await,
            of_project
        );

        // A page at a time, nothing twice.
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let page = ana
                .get(&format!("/api/v1/workspaces/Lights/members?limit=2&after={after}"))
                .await
                .json();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 2);
            seen.extend(items.iter().map(|one| one["assignment"].as_i64().unwrap()));
            match page["next"].as_str() {
                Some(next) => after = next.parse().unwrap(),
                None => break,
            }
        }
        assert_eq!(seen.len(), everybody_above.len());
        assert!(seen.is_sorted());

        // What has ended is not told any more, and who may not know is not told at all.
        let team = ana.get("/api/v1/workspaces/Lights/members").await.json();
        let team = team["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == "Team")
            .cloned();
        let team = team.expect("the group is a member");
        assert_eq!((&team["members"], &team["until"]), (&json!(null), &json!(until)));
        let counted = world.admin.get("/api/v1/workspaces/Lights/members").await.json();
        let counted = counted["items"].as_array().unwrap().iter();
        let team = counted.filter(|one| one["name"] == "Team").map(|one| &one["members"]);
        assert_eq!(
            team.collect::<Vec<_>>(),
            [&json!(1)],
            "how many they are is for who sees the group"
        );
        world.pass_ms(60_000);
        let left = members(&ana, "/api/v1/workspaces/Lights/members").await;
        assert!(!left.iter().any(|one| one.contains("Team")), "{left:?}");
        let scientist = with_roles(&world, "cleo", &[("DataScientist", "workspace:Lights")]).await;
        assert_eq!(scientist.get("/api/v1/workspaces/Lights/members").await.status, 403);
        assert_eq!(scientist.get("/api/v1/workspaces/default/members").await.status, 404);
    });
}

#[test]
fn who_may_see_one_project_or_experiment_sees_of_what_is_above_its_name_alone() {
    on_both(|world| async move {
        let admin = &world.admin;
        workspace(admin, "Secret").await;
        project(admin, "Secret", "Open").await;
        project(admin, "Secret", "Closed").await;
        let shared = submitted(admin, "shared", "Secret", "Closed").await;
        submitted(admin, "hidden", "Secret", "Closed").await;
        submitted(admin, "in the open", "Secret", "Open").await;
        let guest = with_roles(
            &world,
            "guest",
            &[
                ("Editor", "project:Secret/Open"),
                ("Reader", &format!("experiment:{shared}")),
            ],
        )
        .await;
        let own = submitted(&guest, "the guest's", "Secret", "Open").await;
        assert_eq!(
            names(&guest, "/api/v1/experiments").await,
            ["the guest's", "in the open", "shared"]
        );
        let detail = guest.get(&format!("/api/v1/experiments/{shared}")).await.json();
        assert_eq!(
            (&detail["workspace"], &detail["project"]),
            (&json!("Secret"), &json!("Closed"))
        );
        assert!(names(&guest, "/api/v1/workspaces").await.is_empty());
        assert_eq!(names(&guest, "/api/v1/projects").await, ["Open"]);
        let open = guest.get("/api/v1/workspaces/Secret/projects/Open").await.json();
        assert_eq!(
            (&open["workspace"], &open["experiments"]),
            (&json!("Secret"), &json!(2))
        );
        for (hidden, missing) in [
            ("/api/v1/workspaces/Secret", "/api/v1/workspaces/Nowhere"),
            (
                "/api/v1/workspaces/Secret/projects",
                "/api/v1/workspaces/Nowhere/projects",
            ),
            (
                "/api/v1/workspaces/Secret/members",
                "/api/v1/workspaces/Nowhere/members",
            ),
        ] {
            let (hidden, missing) = (guest.get(hidden).await, guest.get(missing).await);
            assert_eq!(hidden.status, 404);
            assert_eq!(hidden.without("Secret"), missing.without("Nowhere"));
        }
        let closed = guest.get("/api/v1/workspaces/Secret/projects/Closed").await;
        let missing = guest.get("/api/v1/workspaces/Secret/projects/Missing").await;
        assert_eq!(closed.without("Closed"), missing.without("Missing"));
        // Into the closed one, or none at all: the workspace is not there.
        for project in ["Closed", "Missing", ""] {
            let refused = submit(&guest, "x", "Secret", project).await;
            assert_eq!(
                (refused.status, refused.message()),
                (404, "there is no workspace `Secret`".into()),
                "{project}"
            );
            let to = json!({"workspace": "Secret", "project": if project.is_empty() { "default" } else { project }});
            let refused = guest.post(&format!("/api/v1/experiments/{own}/move"), to).await;
            assert_eq!(
                (refused.status, refused.message()),
                (404, "there is no workspace `Secret`".into()),
                "{project}"
            );
        }
        let code = guest.send_code(b"from a project").await;
        assert!(!code.is_empty());

        // Who sees the workspace and none of its projects cannot find out their names.
        let role = json!({"name": "Doorkeeper", "permissions": ["workspaces:read"]});
        assert_eq!(admin.post("/api/v1/roles", role).await.status, 200);
        let keeper = with_roles(&world, "keeper", &[("Doorkeeper", "workspace:Secret")]).await;
        assert!(names(&keeper, "/api/v1/workspaces/Secret/projects").await.is_empty());
        assert_eq!(keeper.get("/api/v1/workspaces/Secret").await.json()["projects"], 0);
        for project in ["Closed", "Missing", ""] {
            let refused = submit(&keeper, "x", "Secret", project).await;
            assert_eq!(
                (refused.status, refused.message()),
                (
                    403,
                    "Insufficient permissions: keeper needs experiments:create on workspace \"Secret\"".into()
                )
            );
        }
    });
}

#[test]
fn moving_an_experiment_needs_both_ends_and_changes_who_sees_it_at_once() {
    on_both(|world| async move {
        workspace(&world.admin, "Lights").await;
        workspace(&world.admin, "Signs").await;
        project(&world.admin, "Signs", "Euro").await;
        let both = [("Editor", "workspace:Lights"), ("Editor", "workspace:Signs")];
        let mover = with_roles(&world, "mover", &both).await;
        let lights = with_roles(&world, "lights", &[("Editor", "workspace:Lights")]).await;
        let signs = with_roles(
            &world,
            "signs",
            &[("Viewer", "workspace:Signs"), ("Viewer", "workspace:Lights")],
        )
        .await;
        let stranger = with_roles(&world, "stranger", &[("Editor", "workspace:Signs")]).await;
        let id = submitted(&lights, "one", "Lights", "").await;
        let path = format!("/api/v1/experiments/{id}/move");
        let to = json!({"workspace": "Signs", "project": "euro"});

        let refused = signs.post(&path, to.clone()).await;
        assert_eq!(
            (refused.status, refused.message()),
            (
                403,
                format!(
                    "Insufficient permissions: signs needs experiments:delete on experiment {id} (workspace \"Lights\")"
                )
            )
        );
        let refused = lights.post(&path, to.clone()).await;
        assert_eq!(
            (refused.status, refused.message()),
            (404, "there is no workspace `Signs`".into())
        );
        assert_eq!(stranger.post(&path, to.clone()).await.status, 404);
        assert_eq!(mover.post(&path, json!({})).await.status, 422);
        let missing = mover
            .post(&path, json!({"workspace": "Signs", "project": "Asia"}))
            .await;
        assert_eq!(missing.message(), "there is no project `Asia`");
        let same = mover.post(&path, json!({"project": "default"})).await;
        assert_eq!(
            (same.status, same.message()),
            (409, format!("experiment {id} is in project `default` already"))
        );

        let before = world.last_event().await;
        let moved = mover.post(&path, to).await.json();
        assert_eq!(
            (&moved["workspace"], &moved["project"], &moved["owner"]),
            (&json!("Signs"), &json!("Euro"), &json!("lights"))
        );
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            [format!("mover experiments:delete move experiment {id} allowed")]
        );
        // The event is read at both ends, and tells of each place to whoever may see it.
        make_role(&world, "Auditor", &["audit:read"]).await;
        let told = async |who: &Person| {
            let page = who.get("/api/v1/audit?action=move").await.json();
            let event = &page["items"][0];
            json!([event["workspace"], event["detail"]["before"], event["detail"]["after"]])
        };
        let (lights_place, signs_place) = (
            json!({"workspace": "Lights", "project": "default"}),
            json!({"workspace": "Signs", "project": "Euro"}),
        );
        let hidden = json!({"workspace": null, "project": null});
        let there = with_roles(&world, "there", &[("Auditor", "workspace:Signs")]).await;
        let here = with_roles(&world, "here", &[("Auditor", "workspace:Lights")]).await;
        assert_eq!(told(&world.admin).await, json!(["Lights", lights_place, signs_place]));
        assert_eq!(told(&there).await, json!(["Signs", hidden, signs_place]));
        assert_eq!(told(&here).await, json!(["Lights", lights_place, hidden]));
        assert!(!there.get("/api/v1/audit").await.text.contains("Lights"));
        let elsewhere = with_roles(&world, "elsewhere", &[("Auditor", "workspace:default")]).await;
        assert_eq!(told(&elsewhere).await, json!([null, null, null]));
        assert!(names(&lights, "/api/v1/experiments").await.is_empty());
        assert_eq!(lights.get(&format!("/api/v1/experiments/{id}")).await.status, 404);
        assert_eq!(names(&stranger, "/api/v1/experiments").await, ["one"]);

        // Into what is archived nothing is moved; out of it, yes.
        world.admin.post("/api/v1/workspaces/Lights/archive", json!({})).await;
        let refused = mover.post(&path, json!({"workspace": "Lights"})).await;
        assert_eq!(
            (refused.status, refused.message()),
            (409, "the workspace `Lights` is archived and takes nothing new".into())
        );
        world.admin.post("/api/v1/workspaces/Signs/archive", json!({})).await;
        world.admin.post("/api/v1/workspaces/Lights/unarchive", json!({})).await;
        assert_eq!(mover.post(&path, json!({"workspace": "Lights"})).await.status, 200);
        assert_eq!(names(&lights, "/api/v1/experiments").await, ["one"]);
    });
}

#[test]
fn an_experiment_that_has_ended_is_deleted_with_everything_of_it() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let ben = world.person("ben").await;
        let one = ana.submit("one").await.id;
        let path = format!("/api/v1/experiments/{one}");
        assign(&world, "Reader", "ben", &format!("experiment:{one}")).await;
        let agent = world.agent("machine-1", 1).await;
        let lease = held(&agent.take(1).await[0]);
        agent.started(lease).await.unwrap();
        agent.log(lease, 1, &["loss 0.1"]).await.unwrap();
        let refused = ana.delete(&path).await;
        assert_eq!(
            (refused.status, refused.message()),
            (
                409,
                format!("experiment {one} is RUNNING; only one that has ended can be deleted")
            )
        );
        agent.ended(lease, 0).await.unwrap();
        assert_eq!(ben.get(&path).await.status, 200);
        assert_eq!(ben.delete(&path).await.status, 403);
        let before = world.last_event().await;
        let deleted = ana.delete(&path).await.json();
        assert_eq!(
            (&deleted["name"], &deleted["state"]),
            (&json!("one"), &json!("COMPLETED"))
        );
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            [format!("ana experiments:delete delete experiment {one} allowed")]
        );
        for table in ["experiments", "jobs", "log_chunks", "experiment_events"] {
            assert_eq!(world.count(table).await, 0, "{table}");
        }
        assert_eq!(world.count("assignments WHERE scope_kind = 'experiment'").await, 0);
        for who in [&ana, &ben] {
            let gone = who.get(&path).await;
            let missing = who.get("/api/v1/experiments/900000").await;
            assert_eq!(gone.status, 404);
            assert_eq!(gone.without(&one.to_string()), missing.without("900000"));
            assert_eq!(who.get(&format!("{path}/logs")).await.status, 404);
        }
        assert_eq!(ana.delete(&path).await.status, 404);
        // A late word of the agent finds nothing to change.
        assert!(agent.ended(lease, 0).await.is_err());
        assert!(agent.log(lease, 2, &["late"]).await.is_err());
        agent.poll(&[], 1).await;
        let two = ana.submit("two").await.id;
        assert!(two > one, "a number is not given twice");
    });
}

#[test]
fn lists_of_workspaces_and_projects_come_in_pages() {
    on_both(|world| async move {
        let ana = with_roles(&world, "ana", &[]).await;
        let mut expected = Vec::new();
        for number in 0..7 {
            let name = format!("w{number}");
            workspace(&world.admin, &name).await;
            if number % 2 == 0 {
                assign(&world, "Viewer", "ana", &format!("workspace:{name}")).await;
                expected.push(name);
            }
        }
        let walk = |path: &'static str| {
            let ana = ana.clone();
            async move {
                let (mut seen, mut after) = (Vec::new(), 0);
                loop {
                    let page = ana.get(&format!("{path}?limit=3&after={after}")).await.json();
                    let items = page["items"].as_array().unwrap();
                    assert!(items.len() <= 3);
                    seen.extend(items.iter().map(|one| one["name"].as_str().unwrap().to_owned()));
                    match page["next"].as_str() {
                        Some(next) => after = next.parse().unwrap(),
                        None => return seen,
                    }
                }
            }
        };
        assert_eq!(walk("/api/v1/workspaces").await, expected);
        assert_eq!(walk("/api/v1/projects").await, ["default"; 4]);
        for limit in [i64::MIN, 0, i64::MAX] {
            let path = format!("/api/v1/workspaces?limit={limit}&after={}", i64::MAX);
            assert!(names(&ana, &path).await.is_empty());
        }
        assert_eq!(ana.get("/api/v1/workspaces?colour=red").await.status, 422);
    });
}

#[test]
fn in_mode_basic_workspaces_are_seen_by_all_and_changed_by_administrators() {
    on_both_with(
        |config| config.access = AccessMode::Basic,
        |world| async move {
            let ana = world.person("ana").await;
            assert_eq!(
                ana.post("/api/v1/workspaces", json!({"name": "Hers"})).await.status,
                403
            );
            workspace(&world.admin, "Lights").await;
            assert_eq!(names(&ana, "/api/v1/workspaces").await, ["default", "Lights"]);
            let id = submitted(&ana, "one", "Lights", "").await;
            assert_eq!(ana.delete("/api/v1/workspaces/Lights").await.status, 403);
            ana.post(&format!("/api/v1/experiments/{id}/cancel"), json!({})).await;
            assert_eq!(ana.delete(&format!("/api/v1/experiments/{id}")).await.status, 200);
            assert_eq!(world.admin.delete("/api/v1/workspaces/Lights").await.status, 200);
        },
    );
}

#[test]
fn two_at_once_leave_no_experiment_without_a_workspace() {
    on_both(|world| async move {
        let admin = &world.admin;
        for round in 0..8 {
            let name = format!("w{round}");
            workspace(admin, &name).await;
            let path = format!("/api/v1/workspaces/{name}");
            let (submitted, deleted) = tokio::join!(submit(admin, "one", &name, ""), admin.delete(&path));
            match (submitted.status, deleted.status) {
                (200, 409) | (404 | 409, 200) => {}
                other => panic!("{other:?}: {submitted:?} {deleted:?}"),
            }
        }
        let homeless = "experiments e WHERE NOT EXISTS (SELECT 1 FROM projects p WHERE p.id = e.project_id AND p.workspace_id = e.workspace_id)";
        assert_eq!(world.count(homeless).await, 0);
    });
}

#[test]
fn who_reads_roles_alone_is_told_the_name_of_the_place_and_nothing_else_of_it() {
    on_both(|world| async move {
        let new = json!({"name": "Lights", "description": "what nobody else knows"});
        let made = world.admin.post("/api/v1/workspaces", new).await.json();
        make_role(&world, "Registrar", &["roles:read"]).await;
        let reader = with_roles(&world, "reader", &[("Registrar", "workspace:Lights")]).await;
        assert_eq!(reader.get("/api/v1/workspaces/Lights").await.status, 404);
        assert!(names(&reader, "/api/v1/workspaces").await.is_empty());
        let place = json!({"kind": "workspace", "id": made["id"], "name": "Lights"});
        for path in [
            "/api/v1/workspaces/Lights/members",
            "/api/v1/assignments?role=Registrar",
        ] {
            let told = reader.get(path).await;
            assert_eq!(told.status, 200, "{path}: {}", told.text);
            assert!(!told.text.contains("nobody else knows"), "{path}: {}", told.text);
            for one in told.json()["items"].as_array().unwrap() {
                let everywhere = json!({"kind": "global"});
                assert!([&place, &everywhere].contains(&&one["scope"]), "{path}: {one}");
            }
        }
    });
}
