//! Role assignments: giving, taking, changing, ending; and what stands in the way of each.

use bailiwick_api::roles::{AssignmentFilter, NewAssignment, NewAssignments};
use bailiwick_api::server::AccessMode;
use bailiwick_api::users::NewUser;
use bailiwick_api::workspaces::{NewProject, NewWorkspace};
use serde_json::{Value, json};

use crate::on_request::HOUR_MS;
use crate::roles::{give, make_role, patch};
use crate::world::{Answer, PASSWORD, Person, START, World, eventually, on_both, on_both_with};

async fn workspace(world: &World, name: &str) {
    let new = NewWorkspace {
        name: name.into(),
        ..NewWorkspace::default()
    };
    world.admin.client.create_workspace(&new).await.unwrap();
}

async fn give_all(by: &Person, list: Value) -> Answer {
    by.post("/api/v1/assignments", json!({"assignments": list})).await
}

async fn take_all(by: &Person, list: Value) -> Answer {
    by.post("/api/v1/assignments/remove", json!({"assignments": list}))
        .await
}

async fn group(world: &World, name: &str, users: &[&str]) {
    let made = world
        .admin
        .post("/api/v1/groups", json!({"name": name, "users": users}))
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
}

#[test]
fn a_role_holds_from_the_next_request_on_and_no_longer_than_it_is_assigned() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        let ana = world.person("ana").await;
        let see = || async { ana.get("/api/v1/workspaces/Stop%20Signs").await.status };
        assert_eq!(see().await, 404);
        let before = world.last_event().await;
        let given = give(&world.admin, "viewer", "ANA", "workspace:stop signs").await;
        let one = given.json()["items"][0].clone();
        assert_eq!(
            (&one["role"], &one["user"], &one["on"], &one["created_by"]),
            (
                &json!("Viewer"),
                &json!("ana"),
                &json!("workspace:Stop Signs"),
                &json!("admin")
            )
        );
        assert_eq!(see().await, 200);
        let again = give(&world.admin, "Viewer", "ana", "workspace:Stop Signs").await;
        assert_eq!(
            (again.status, again.message().as_str()),
            (409, "user \"ana\" holds Viewer on workspace \"Stop Signs\" already")
        );
        let this = json!([{"role": "Viewer", "user": "ana", "on": "workspace:Stop Signs"}]);
        assert_eq!(take_all(&world.admin, this.clone()).await.status, 200);
        assert_eq!(see().await, 404);
        let gone = take_all(&world.admin, this).await;
        assert_eq!(
            (gone.status, gone.message().as_str()),
            (
                404,
                "there is no assignment `Viewer to user \"ana\" on workspace \"Stop Signs\"`"
            )
        );
        assert_eq!(
            world.events(&format!("id > {before} AND principal = 'admin'")).await,
            [
                "admin roles:assign assign user ana allowed",
                "admin roles:assign unassign user ana allowed"
            ]
        );
        let detail: String = sqlx::Row::get(
            &world
                .rows(format!(
                    "SELECT detail FROM audit_events WHERE id > {before} ORDER BY id"
                ))
                .await[0],
            0,
        );
        assert!(
            detail.contains("\"on\":\"workspace:Stop Signs\"") && detail.contains("\"role\":\"Viewer\""),
            "{detail}"
        );
    });
}

#[test]
fn the_administrator_of_one_workspace_acts_there_and_nowhere_else() {
    on_both(|world| async move {
        workspace(&world, "Traffic Lights").await;
        workspace(&world, "Stop Signs").await;
        let ana = world.person("ana").await;
        world.person("bob").await;
        group(&world, "Traffic Lights Team", &["bob"]).await;
        assert_eq!(
            give(&world.admin, "WorkspaceAdmin", "ana", "workspace:Traffic Lights")
                .await
                .status,
            200
        );
        let here = "workspace:Traffic Lights";
        // She sees no groups, but a group may be named by whoever may assign.
        let given = give_all(
            &ana,
            json!([{"role": "Editor", "group": "traffic lights team", "on": here}]),
        )
        .await;
        assert_eq!(given.status, 200, "{}", given.text);
        assert_eq!(give(&ana, "WorkspaceAdmin", "bob", here).await.status, 200);

        let elsewhere = give(&ana, "Viewer", "bob", "workspace:Stop Signs").await;
        let nowhere = give(&ana, "Viewer", "bob", "workspace:Nowhere").await;
        assert_eq!(elsewhere.status, 404);
        assert_eq!(elsewhere.without("Stop Signs"), nowhere.without("Nowhere"));
        let globally = give(&ana, "Viewer", "bob", "").await;
        assert_eq!(
            globally.message(),
            "Insufficient permissions: ana needs roles:assign on the whole installation (globally)"
        );
        // `default` she sees, since everybody does, and it is not hers.
        let before = world.last_event().await;
        let mixed = json!([
            {"role": "Viewer", "user": "bob", "on": here},
            {"role": "Viewer", "user": "bob", "on": "workspace:default"},
        ]);
        let mixed = give_all(&ana, mixed).await;
        assert_eq!(
            mixed.message(),
            "Insufficient permissions: ana needs roles:assign on workspace \"default\""
        );
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            ["ana roles:assign assign assignment workspace:Traffic Lights, workspace:default denied"]
        );
        let filter = AssignmentFilter {
            user: Some("bob".into()),
            ..AssignmentFilter::default()
        };
        let held = ana.client.assignments(&filter).await.unwrap().items;
        assert_eq!(
            held.iter().map(|one| one.role.as_str()).collect::<Vec<_>>(),
            ["WorkspaceAdmin"]
        );
        // Whoever may not assign learns nothing about names.
        let bob = give(
            &world.person("cy").await,
            "Viewer",
            "nobody at all",
            "workspace:default",
        )
        .await;
        assert_eq!(bob.status, 403);
    });
}

#[test]
fn nobody_gives_more_than_he_holds() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        make_role(
            &world,
            "doorkeeper",
            &["roles:assign", "workspaces:read", "experiments:read:own"],
        )
        .await;
        make_role(&world, "own reader", &["workspaces:read", "experiments:read:own"]).await;
        make_role(&world, "all reader", &["workspaces:read", "experiments:read"]).await;
        let ana = world.person("ana").await;
        world.person("bob").await;
        let here = "workspace:Stop Signs";
        assert_eq!(give(&world.admin, "doorkeeper", "ana", here).await.status, 200);
        assert_eq!(give(&ana, "own reader", "bob", here).await.status, 200);
        let more = give(&ana, "all reader", "bob", here).await;
        assert_eq!(
            more.message(),
            "Insufficient permissions: ana needs experiments:read on workspace \"Stop Signs\""
        );
        assert_eq!(
            give(&ana, "Viewer", "ana", here).await.status,
            403,
            "not to oneself either"
        );
        // To take away needs no more than the right to assign.
        assert_eq!(give(&world.admin, "Editor", "bob", here).await.status, 200);
        assert_eq!(
            take_all(&ana, json!([{"role": "Editor", "user": "bob", "on": here}]))
                .await
                .status,
            200
        );
        let lesser = world.person_with("lesser", "Administrator").await;
        let refused = give(&lesser, "ClusterAdmin", "lesser", "").await;
        assert_eq!(
            refused.message(),
            "Insufficient permissions: lesser needs queues:create on the whole installation (globally)"
        );
    });
}

#[test]
fn a_request_of_many_parts_succeeds_or_fails_whole() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        world.person("bob").await;
        let both = json!([{"role": "Viewer", "user": "ana"}, {"role": "Viewer", "user": "bob"}]);
        let before = world.count("assignments").await;
        for (wrong, status, words) in [
            (json!({"role": "Viewr", "user": "bob"}), 404, "there is no role `Viewr`"),
            (
                json!({"role": "Viewer", "user": "nemo"}),
                404,
                "there is no user `nemo`",
            ),
            (
                json!({"role": "Viewer", "group": "nemo"}),
                404,
                "there is no group `nemo`",
            ),
            (
                json!({"role": "Viewer", "user": "ana", "on": "workspace:nemo"}),
                404,
                "there is no workspace `nemo`",
            ),
            (
                json!({"role": "Viewer", "user": "ana", "on": "project:default/nemo"}),
                404,
                "there is no project `nemo`",
            ),
            (
                json!({"role": "Viewer", "user": "ana", "on": "queue:nemo"}),
                404,
                "there is no queue `nemo`",
            ),
            (
                json!({"role": "Viewer", "user": "ana", "on": "experiment:77"}),
                404,
                "there is no experiment `77`",
            ),
            (json!({"role": "Viewer"}), 422, "exactly one of the two"),
            (
                json!({"role": "Viewer", "user": "ana", "group": "Users"}),
                422,
                "exactly one of the two",
            ),
            (
                json!({"role": "Viewer", "user": "ana", "on": "planet:earth"}),
                422,
                "there is no kind `planet`",
            ),
            (
                json!({"role": "guest", "user": "ana", "on": "workspace:default"}),
                422,
                "the role guest can only be assigned globally",
            ),
            (
                json!({"role": "Viewer", "user": "ana", "until": "2026-11-20"}),
                422,
                "lies in the past",
            ),
            (
                json!({"role": "Viewer", "user": "ana", "lifetime_ms": 10}),
                422,
                "a second at least",
            ),
            (
                json!({"role": "Viewer", "user": "ana", "lifetime_ms": 5000, "until": "2027-01-01"}),
                422,
                "not both",
            ),
            (both[0].clone(), 409, "holds Viewer globally already"),
        ] {
            let mut list = both.as_array().unwrap().clone();
            list.push(wrong.clone());
            let answer = give_all(&world.admin, json!(list)).await;
            assert_eq!(answer.status, status, "{wrong}: {}", answer.text);
            assert!(answer.message().contains(words), "{wrong}: {}", answer.text);
        }
        assert_eq!(give_all(&world.admin, json!([])).await.status, 422);
        let many: Vec<Value> = (0..1001).map(|_| both[0].clone()).collect();
        assert_eq!(give_all(&world.admin, json!(many)).await.status, 422);
        assert_eq!(world.count("assignments").await, before);
        assert_eq!(give_all(&world.admin, both.clone()).await.status, 200);

        let part = json!([both[0], {"role": "Editor", "user": "bob"}]);
        let answer = take_all(&world.admin, part).await;
        assert_eq!(
            answer.message(),
            "there is no assignment `Editor to user \"bob\" globally`"
        );
        assert_eq!(world.count("assignments").await, before + 2);
        assert_eq!(
            take_all(&world.admin, both).await.json()["items"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        assert_eq!(world.count("assignments").await, before);
        assert_eq!(
            ana.client.me().await.unwrap().user.roles.len(),
            2,
            "what the group Users gives"
        );
    });
}

#[test]
fn a_role_is_assigned_at_a_project_a_single_experiment_or_a_queue() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        let admin = &world.admin;
        for name in ["Euro", "Asia"] {
            let new = NewProject {
                name: name.into(),
                ..NewProject::default()
            };
            admin.client.create_project("Stop Signs", &new).await.unwrap();
        }
        let submit = |name: &'static str, project: &'static str| {
            let config = json!({"name": name, "entrypoint": "true", "workspace": "Stop Signs", "project": project});
            async move { admin.submit_config(config).await }
        };
        let (euro, asia) = (submit("euro stop", "Euro").await, submit("asia stop", "Asia").await);
        let ana = world.person("ana").await;
        let sees = |id: i64| {
            let ana = ana.clone();
            async move { ana.get(&format!("/api/v1/experiments/{id}")).await.status == 200 }
        };
        assert_eq!(
            give(admin, "Reader", "ana", "project:Stop Signs/Euro").await.status,
            200
        );
        assert!(sees(euro.id.0).await && !sees(asia.id.0).await);
        assert_eq!(
            give(admin, "Reader", "ana", &format!("experiment:{}", asia.id))
                .await
                .status,
            200
        );
        assert!(sees(asia.id.0).await);
        assert_eq!(
            ana.get("/api/v1/workspaces/Stop%20Signs").await.status,
            404,
            "no more of the parents"
        );
        let listed = ana
            .client
            .assignments(&AssignmentFilter::default())
            .await
            .unwrap()
            .items;
        let on: Vec<&str> = listed
            .iter()
            .filter(|one| one.role == "Reader")
            .map(|one| one.on.as_str())
            .collect();
        let experiment = format!("experiment:{}", asia.id);
        assert_eq!(on, ["project:Stop Signs/Euro", experiment.as_str()]);
        let at = AssignmentFilter {
            on: Some(experiment.clone()),
            ..AssignmentFilter::default()
        };
        assert_eq!(admin.client.assignments(&at).await.unwrap().items.len(), 1);
        assert_eq!(give(admin, "QueueAgent", "ana", "queue:default").await.status, 200);
        let this = json!([{"role": "Reader", "user": "ana", "on": experiment}]);
        assert_eq!(take_all(admin, this).await.status, 200);
        assert!(!sees(asia.id.0).await);
    });
}

#[test]
fn an_empty_place_is_no_place_and_above_all_not_everywhere() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let admin = &world.admin;
        let post = async |path: &str, body: Value| admin.post(path, body).await;
        for on in ["", " "] {
            let one = json!({"assignments": [{"role": "Viewer", "user": "ana", "on": on}]});
            let change = json!({"change": "assign", "role": "Viewer", "user": "ana", "on": on});
            let asked = json!({"role": "Viewer", "on": on, "lifetime_ms": 3_600_000, "why": "to look"});
            for refused in [
                post("/api/v1/assignments", one.clone()).await,
                post("/api/v1/assignments/remove", one.clone()).await,
                post("/api/v1/access/plan", json!({"document": one})).await,
                post("/api/v1/access/diff", json!({"changes": [change]})).await,
                ana.post("/api/v1/access/requests", asked).await,
            ] {
                assert_eq!(refused.status, 422, "{}", refused.text);
                assert!(refused.text.contains("the place is empty"), "{}", refused.text);
            }
        }
        for one in [
            json!({"role": "Viewer", "user": "ana", "on": "installation"}),
            json!({"role": "Reader", "user": "ana"}),
        ] {
            let given = post("/api/v1/assignments", json!({"assignments": [one]})).await;
            assert_eq!(given.json()["items"][0]["on"], "installation", "{}", given.text);
        }
        for config in [
            json!({"entrypoint": "true", "workspace": ""}),
            json!({"entrypoint": "true", "project": ""}),
        ] {
            let run = post("/api/v1/experiments", json!({"config": config})).await;
            assert_eq!(run.status, 422, "{}", run.text);
        }
    });
}

#[test]
fn an_assignment_with_an_end_stops_counting_then_and_its_end_is_on_record() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        let ana = world.person("ana").await;
        let see = || async { ana.get("/api/v1/workspaces/Stop%20Signs").await.status };
        let new = NewAssignments {
            assignments: vec![NewAssignment {
                role: "Viewer".into(),
                user: Some("ana".into()),
                on: Some("workspace:Stop Signs".into()),
                lifetime_ms: Some(60_000),
                ..NewAssignment::default()
            }],
            reason: "to look at the incident".into(),
        };
        let given = world.admin.client.assign(&new).await.unwrap().items.remove(0);
        assert_eq!(
            (given.until, given.reason.as_str()),
            (Some(START.plus_ms(60_000)), "to look at the incident")
        );
        let before = world.last_event().await;
        world.pass_ms(59_999);
        assert_eq!(see().await, 200);
        world.pass_ms(1);
        assert_eq!(see().await, 404);
        eventually("the end is on record", || async {
            let events = world.events(&format!("id > {before}")).await;
            events
                .iter()
                .any(|event| event == "system: end of assignments roles:assign expire user ana allowed")
                .then_some(())
        })
        .await;
        assert_eq!(world.count(&format!("assignments WHERE id = {}", given.id)).await, 0);
        // The same again is a new assignment, whether or not the old one was cleared away.
        world.admin.client.assign(&new).await.unwrap();
        assert_eq!(see().await, 200);
        let all = AssignmentFilter {
            user: Some("ana".into()),
            all: Some(true),
            ..AssignmentFilter::default()
        };
        assert_eq!(world.admin.client.assignments(&all).await.unwrap().items.len(), 1);
    });
}

#[test]
fn role_and_end_of_an_assignment_change_in_one_act() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        let ana = world.person("ana").await;
        world.person("bob").await;
        let here = "workspace:Stop Signs";
        assert_eq!(give(&world.admin, "WorkspaceAdmin", "ana", here).await.status, 200);
        let id = give(&ana, "Viewer", "bob", here).await.json()["items"][0]["id"]
            .as_i64()
            .unwrap();
        let path = format!("/api/v1/assignments/{id}");
        let before = world.last_event().await;
        let changed = patch(&ana, &path, json!({"role": "Editor", "until": "2027-01-31"}))
            .await
            .json();
        assert_eq!(
            (&changed["role"], &changed["until"]),
            (&json!("Editor"), &json!("2027-01-31T00:00:00Z"))
        );
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            ["ana roles:assign change user bob allowed"]
        );
        assert_eq!(
            patch(&ana, &path, json!({"no_end": true})).await.json().get("until"),
            None
        );
        for (body, status) in [
            (json!({}), 422),
            (json!({"no_end": true, "until": "2027-01-01"}), 422),
            (json!({"until": "2026-01-01"}), 422),
            (json!({"role": "guest"}), 422),
            (json!({"role": "nemo"}), 404),
        ] {
            let answer = patch(&ana, &path, body.clone()).await;
            assert_eq!(answer.status, status, "{body}: {}", answer.text);
        }
        assert_eq!(give(&ana, "Viewer", "bob", here).await.status, 200);
        assert_eq!(patch(&ana, &path, json!({"role": "Viewer"})).await.status, 409);

        // Less is for whoever may assign; more needs what is given.
        make_role(&world, "doorkeeper", &["roles:assign", "roles:read", "workspaces:read"]).await;
        let cy = world.person("cy").await;
        assert_eq!(give(&world.admin, "doorkeeper", "cy", here).await.status, 200);
        assert_eq!(patch(&cy, &path, json!({"until": "2027-01-31"})).await.status, 200);
        let longer = patch(&cy, &path, json!({"until": "2027-02-01"})).await;
        assert!(longer.message().contains("cy needs "), "{}", longer.text);
        assert_eq!(patch(&cy, &path, json!({"until": "2027-01-30"})).await.status, 200);
        assert_eq!(cy.delete(&path).await.status, 200);
        assert_eq!(cy.delete(&path).await.status, 404);
        // What one may not see is not there; what one sees of oneself is not one's own to change.
        let own = ana
            .client
            .assignments(&AssignmentFilter::default())
            .await
            .unwrap()
            .items;
        let users = own
            .iter()
            .find(|one| one.group.as_deref() == Some("Users") && one.on == "installation")
            .unwrap();
        assert_eq!(
            ana.delete(&format!("/api/v1/assignments/{}", users.id)).await.status,
            403
        );
        let admins = AssignmentFilter {
            role: Some("ClusterAdmin".into()),
            ..AssignmentFilter::default()
        };
        let hidden = world
            .admin
            .client
            .assignments(&admins)
            .await
            .unwrap()
            .items
            .remove(0)
            .id;
        let (hidden, missing) = (
            ana.delete(&format!("/api/v1/assignments/{hidden}"))
                .await
                .without(&hidden.to_string()),
            ana.delete("/api/v1/assignments/99999").await.without("99999"),
        );
        assert_eq!(hidden, missing);
    });
}

#[test]
fn what_is_held_for_a_while_is_given_for_no_longer() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let here = "workspace:default";
        let assign =
            async |who: &Person, body: Value| who.post("/api/v1/assignments", json!({"assignments": [body]})).await;
        let end = world.now().plus_ms(HOUR_MS).to_string();
        let hers = json!({"role": "WorkspaceAdmin", "user": "ana", "on": here, "until": end});
        let hers = assign(&world.admin, hers).await;
        assert_eq!(hers.status, 200, "{}", hers.text);
        let id = hers.json()["items"][0]["id"].as_i64().unwrap();
        let own = patch(&ana, &format!("/api/v1/assignments/{id}"), json!({"no_end": true})).await;
        assert_eq!(own.status, 403, "{}", own.text);
        let later = world.now().plus_ms(2 * HOUR_MS).to_string();
        let own = patch(&ana, &format!("/api/v1/assignments/{id}"), json!({"until": later})).await;
        assert_eq!(own.status, 403, "{}", own.text);
        for (body, status) in [
            (json!({"role": "Viewer", "user": "bob", "on": here}), 403),
            (
                json!({"role": "Viewer", "user": "bob", "on": here, "until": later}),
                403,
            ),
            (json!({"role": "Viewer", "user": "bob", "on": here, "until": end}), 200),
        ] {
            let answer = assign(&ana, body.clone()).await;
            assert_eq!(answer.status, status, "{body}: {}", answer.text);
            if status == 403 {
                let hint = answer.json()["error"]["hint"].as_str().unwrap().to_owned();
                assert!(hint.contains("only for a while") && hint.contains("--until"), "{hint}");
            }
        }
        assert_eq!(bob.get("/api/v1/workspaces/default").await.status, 200);
        // Another's password would outlast what its maker holds.
        let admin_for_a_while = json!({"role": "ClusterAdmin", "user": "ana", "on": "installation", "until": end});
        assert_eq!(assign(&world.admin, admin_for_a_while).await.status, 200);
        let link = ana.post("/api/v1/users/admin/link", json!({})).await;
        assert_eq!(link.status, 403, "{}", link.text);
    });
}

#[test]
fn the_last_cluster_admin_keeps_the_role_however_it_is_taken() {
    on_both(|world| async move {
        let admin = &world.admin;
        let refused = |answer: Answer| {
            assert_eq!(answer.status, 409, "{}", answer.text);
            assert!(
                answer.message().contains("without an active administrator"),
                "{}",
                answer.text
            );
        };
        let filter = AssignmentFilter {
            role: Some("admin".into()),
            ..AssignmentFilter::default()
        };
        let id = admin.client.assignments(&filter).await.unwrap().items.remove(0).id;
        let path = format!("/api/v1/assignments/{id}");
        let this = json!([{"role": "ClusterAdmin", "user": "admin"}]);
        refused(admin.delete(&path).await);
        refused(take_all(admin, this.clone()).await);
        refused(patch(admin, &path, json!({"until": "2027-01-01"})).await);
        refused(patch(admin, &path, json!({"role": "Viewer"})).await);
        // Nobody who counts: invited only, for a time only, an account of a program, an empty group.
        let invited = NewUser {
            name: "invited".into(),
            ..NewUser::default()
        };
        admin.client.create_user(&invited).await.unwrap();
        assert_eq!(give(admin, "ClusterAdmin", "invited", "").await.status, 200);
        world.person("temp").await;
        let temp = json!([{"role": "ClusterAdmin", "user": "temp", "lifetime_ms": 5000}]);
        assert_eq!(give_all(admin, temp).await.status, 200);
        world.agent("machine-1", 1).await;
        assert_eq!(give(admin, "ClusterAdmin", "machine-1-account", "").await.status, 200);
        group(&world, "Operators", &[]).await;
        let operators = json!([{"role": "ClusterAdmin", "group": "Operators"}]);
        assert_eq!(give_all(admin, operators.clone()).await.status, 200);
        refused(take_all(admin, this.clone()).await);
        // Through a group counts, as soon as there is somebody in it.
        world.person("ana").await;
        let into = json!({"users": ["ana"]});
        assert_eq!(admin.post("/api/v1/groups/Operators/members", into).await.status, 200);
        assert_eq!(take_all(admin, this).await.status, 200);
        assert_eq!(
            admin.get("/api/v1/groups").await.json()["items"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        let key = world
            .nobody()
            .post("/api/v1/login", json!({"name": "ana", "password": PASSWORD}))
            .await
            .json();
        let ana = Person::of(&admin.client, "ana", key["token"].as_str().unwrap()).await;
        refused(take_all(&ana, operators).await);
        assert_eq!(
            ana.post("/api/v1/groups/Operators/members/remove", json!({"users": ["ana"]}))
                .await
                .status,
            409
        );
        assert_eq!(ana.delete("/api/v1/groups/Operators").await.status, 409);
        assert_eq!(ana.delete("/api/v1/users/ana").await.status, 409);
    });
}

#[test]
fn an_administrator_without_a_password_does_not_count() {
    on_both(|world| async move {
        let admin = &world.admin;
        let rem = json!({"name": "rem", "remote": true, "role": "ClusterAdmin"});
        assert_eq!(admin.post("/api/v1/users", rem).await.status, 200);
        let local = json!({"remote": false});
        assert_eq!(patch(admin, "/api/v1/users/rem", local.clone()).await.status, 200);
        let remote = json!({"remote": true});
        let document = json!({"document": {"users": [{"name": "admin", "remote": true}]}});
        let own = json!({"assignments": [{"role": "ClusterAdmin", "user": "admin"}]});
        for refused in [
            patch(admin, "/api/v1/users/admin", remote.clone()).await,
            patch(admin, "/api/v1/users/admin", json!({"active": false})).await,
            admin.post("/api/v1/users/admin/deactivate", json!({})).await,
            admin.delete("/api/v1/users/admin").await,
            admin.post("/api/v1/assignments/remove", own).await,
            admin.post("/api/v1/access/apply", document.clone()).await,
        ] {
            assert_eq!(refused.status, 409, "{}", refused.text);
            assert!(
                refused.message().contains("with a password here") || refused.message().contains("who has a password")
            );
        }
        let plan = admin.post("/api/v1/access/plan", document).await.json();
        assert!(plan["warnings"].to_string().contains("it would be refused"), "{plan}");
        // As soon as he has one, he counts.
        let link = json!({"token": admin.client.user_link("rem").await.unwrap().token, "password": PASSWORD});
        assert_eq!(world.nobody().post("/api/v1/login/link", link).await.status, 200);
        assert_eq!(patch(admin, "/api/v1/users/admin", remote).await.status, 200);
    });
}

#[test]
fn before_anybody_has_a_password_nothing_is_refused_but_the_end_of_who_could_be_given_one() {
    on_both_with(
        |config| config.access = AccessMode::Off,
        |world| async move {
            world.person("ana").await;
            world.sql("UPDATE principals SET password_hash = NULL").await.unwrap();
            let anyone = world.nobody();
            let held = json!({"assignments": [{"role": "Member", "group": "Users"}]});
            assert_eq!(anyone.post("/api/v1/assignments/remove", held).await.status, 200);
            let ended = anyone.post("/api/v1/users/ana/deactivate", json!({})).await;
            assert_eq!(ended.status, 200, "{}", ended.text);
            for refused in [
                anyone.post("/api/v1/users/admin/deactivate", json!({})).await,
                patch(&anyone, "/api/v1/users/admin", json!({"remote": true})).await,
            ] {
                assert_eq!(refused.status, 409, "{}", refused.text);
            }
        },
    );
}

#[test]
fn two_administrators_who_strip_each_other_at_once_leave_one() {
    on_both(|world| async move {
        let admin = &world.admin;
        let ana = world.person_with("ana", "ClusterAdmin").await;
        for _ in 0..5 {
            let (a, b) = tokio::join!(
                take_all(admin, json!([{"role": "ClusterAdmin", "user": "ana"}])),
                take_all(&ana, json!([{"role": "ClusterAdmin", "user": "admin"}])),
            );
            assert!((a.status == 200) != (b.status == 200), "{a:?} {b:?}");
            let (left, gone) = if a.status == 200 {
                (admin, "ana")
            } else {
                (&ana, "admin")
            };
            assert_eq!(give(left, "ClusterAdmin", gone, "").await.status, 200);
        }
    });
}

#[test]
fn built_in_assignments_stay_and_those_of_everybody_are_ordinary() {
    on_both(|world| async move {
        let admin = &world.admin;
        let filter = AssignmentFilter {
            group: Some("Admins".into()),
            ..AssignmentFilter::default()
        };
        let built_in = admin.client.assignments(&filter).await.unwrap().items.remove(0);
        assert!(built_in.built_in);
        let path = format!("/api/v1/assignments/{}", built_in.id);
        for answer in [
            admin.delete(&path).await,
            patch(admin, &path, json!({"until": "2027-01-01"})).await,
            take_all(admin, json!([{"role": "Administrator", "group": "Admins"}])).await,
        ] {
            assert_eq!(answer.status, 409);
            assert!(answer.message().contains("built in"), "{}", answer.text);
        }
        let ana = world.person("ana").await;
        let everybody = json!([{"role": "DataScientist", "group": "Users", "on": "workspace:default"}]);
        assert_eq!(take_all(admin, everybody.clone()).await.status, 200);
        assert_eq!(
            ana.post("/api/v1/experiments", json!({"config": {"entrypoint": "true"}}))
                .await
                .status,
            404
        );
        assert_eq!(give_all(admin, everybody).await.status, 200);
        ana.submit("again").await;
    });
}

#[test]
fn the_list_holds_what_one_may_read_and_what_one_holds() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        workspace(&world, "Traffic Lights").await;
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        for on in ["workspace:Stop Signs", "workspace:Traffic Lights"] {
            assert_eq!(give(&world.admin, "Editor", "bob", on).await.status, 200);
        }
        assert_eq!(
            give(&world.admin, "Viewer", "ana", "workspace:Stop Signs").await.status,
            200
        );
        let on = |person: &Person, filter: AssignmentFilter| {
            let client = person.client.clone();
            async move {
                let page = client.assignments(&filter).await.unwrap();
                page.items
                    .into_iter()
                    .filter(|one| one.user.as_deref() == Some("bob"))
                    .map(|one| one.on)
                    .collect::<Vec<_>>()
            }
        };
        let all = AssignmentFilter::default;
        assert_eq!(on(&ana, all()).await, ["workspace:Stop Signs"]);
        assert_eq!(
            on(&bob, all()).await,
            ["workspace:Stop Signs", "workspace:Traffic Lights"]
        );
        let at = |on: &str| AssignmentFilter {
            on: Some(on.into()),
            ..AssignmentFilter::default()
        };
        assert_eq!(on(&bob, at("workspace:Stop Signs")).await, ["workspace:Stop Signs"]);
        let hidden = ana.get("/api/v1/assignments?on=workspace:Traffic%20Lights").await;
        assert_eq!(
            hidden.without("Traffic Lights"),
            ana.get("/api/v1/assignments?on=workspace:nemo").await.without("nemo")
        );
        // Groups that one knows nothing of are not there.
        group(&world, "Secret", &["bob"]).await;
        let hidden = ana.get("/api/v1/assignments?group=Secret").await;
        assert_eq!(
            hidden.without("Secret"),
            ana.get("/api/v1/assignments?group=nemo").await.without("nemo")
        );
        assert_eq!(bob.get("/api/v1/assignments?group=Secret").await.status, 200);
        let this = json!([{"role": "Viewer", "group": "Secret", "on": "workspace:Stop Signs"}]);
        assert_eq!(give_all(&world.admin, this).await.status, 200);
        let reaching = ana.get("/api/v1/assignments?user=bob&through_groups=true").await.json();
        let reaching: Vec<_> = reaching["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["role"].clone())
            .collect();
        assert_eq!(reaching, ["DataScientist", "Member", "Editor", "Viewer"]);
        // Page by page, none left out and none twice.
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let page = world
                .admin
                .get(&format!("/api/v1/assignments?limit=2{after}"))
                .await
                .json();
            seen.extend(
                page["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| one["id"].as_i64().unwrap()),
            );
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert!(seen.is_sorted_by(|a, b| a < b));
        assert_eq!(seen.len() as i64, world.count("assignments").await);
    });
}

#[test]
fn who_is_gone_gets_no_role_and_loses_those_he_has() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        let ana = world.person("ana").await;
        world.person("bob").await;
        let here = "workspace:Stop Signs";
        assert_eq!(give(&world.admin, "WorkspaceAdmin", "ana", here).await.status, 200);
        assert_eq!(give(&ana, "Viewer", "bob", here).await.status, 200);
        world.admin.client.deactivate_user("bob").await.unwrap();
        let hidden = give(&ana, "Editor", "bob", here).await;
        assert_eq!(
            hidden.without("bob"),
            give(&ana, "Editor", "nemo", here).await.without("nemo")
        );
        assert_eq!(
            give(&world.admin, "Editor", "bob", here).await.status,
            200,
            "to hold when he is back"
        );
        let this = json!([{"role": "Viewer", "user": "bob", "on": here}]);
        assert_eq!(take_all(&ana, this).await.status, 200);
        let id = world.admin.client.user("bob").await.unwrap().id;
        world.admin.client.remove_user("bob").await.unwrap();
        assert_eq!(give(&world.admin, "Editor", &id.to_string(), here).await.status, 404);
        assert_eq!(world.count(&format!("assignments WHERE principal_id = {id}")).await, 0);
    });
}

#[test]
fn many_at_once_on_two_servers_assign_each_role_once_and_every_change_counts() {
    on_both(|world| async move {
        let mut urls = vec![world.url.clone()];
        if world.database == crate::world::Database::Postgres {
            urls.push(world.another_server(|_| {}).await);
        }
        let ana = world.person("ana").await;
        let mut waiting = Vec::new();
        for number in 0..24 {
            let admin = world.admin.at(&urls[number % urls.len()]);
            // Each of eight roles three times: one of the three gets through.
            let role = bailiwick_api::permission::BUILT_IN_ROLES[number % 8].name;
            waiting.push(tokio::spawn(async move { give(&admin, role, "ana", "").await }));
        }
        let mut statuses = Vec::new();
        for one in waiting {
            statuses.push(one.await.unwrap().status);
        }
        statuses.sort();
        assert_eq!(statuses, [vec![200; 8], vec![409; 16]].concat());
        for url in &urls {
            let roles = ana.at(url).client.me().await.unwrap().user.roles;
            assert_eq!(
                roles.iter().filter(|one| one.through_group.is_none()).count(),
                8,
                "{roles:?}"
            );
        }
    });
}

#[test]
fn a_narrowed_key_assigns_no_more_than_it_may_do_itself() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        world.person("bob").await;
        let narrowed = |permissions: &'static [&'static str], workspaces: &'static [&'static str]| {
            let admin = world.admin.clone();
            async move {
                let body = json!({"permissions": permissions, "workspaces": workspaces});
                let key = admin.post("/api/v1/tokens", body).await.json();
                let key = key["secret"].as_str().unwrap().to_owned();
                Person {
                    client: admin.client.with_key(Some(&key)),
                    key,
                    ..admin.clone()
                }
            }
        };
        let here = "workspace:Stop Signs";
        let reader = narrowed(&["roles:assign", "workspaces:read", "stacks:read"], &["Stop Signs"]).await;
        let refused = give(&reader, "Viewer", "bob", here).await;
        assert!(refused.message().contains("admin needs "), "{}", refused.text);
        make_role(&world, "stacker", &["stacks:read"]).await;
        assert_eq!(give(&reader, "stacker", "bob", here).await.status, 200);
        assert_eq!(give(&reader, "stacker", "bob", "").await.status, 403);
        assert_eq!(give(&reader, "stacker", "bob", "workspace:default").await.status, 404);
        let this = json!([{"role": "stacker", "user": "bob", "on": here}]);
        assert_eq!(take_all(&reader, this).await.status, 200);
    });
}
