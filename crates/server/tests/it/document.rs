//! Access as code: exporting, planning and applying one document.

use bailiwick_api::document::{AccessDocument, ApplyDocument, PlanDocument};
use serde_json::{Value, json};

use crate::roles::{give, make_role};
use crate::world::{Answer, Person, World, on_both};

async fn apply(by: &Person, document: Value) -> Answer {
    by.post("/api/v1/access/apply", json!({"document": document})).await
}

/// The lines of what was done, or would be done, each with its sign.
fn lines(answer: &Value) -> Vec<String> {
    let changes = answer["changes"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let line = |change: &Value| {
        let sign = match change["act"].as_str() {
            Some("make") => '+',
            Some("change") => '~',
            _ => '-',
        };
        format!("{sign} {}", change["words"].as_str().unwrap())
    };
    changes.iter().map(line).collect()
}

async fn applied(by: &Person, document: Value) -> Vec<String> {
    let answer = apply(by, document).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    lines(&answer.json())
}

async fn plan(by: &Person, document: Value) -> Value {
    let answer = by.post("/api/v1/access/plan", json!({"document": document})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn export(by: &Person) -> AccessDocument {
    by.client.export_access().await.unwrap()
}

fn team() -> Value {
    json!({
        "users": [
            {"name": "ana", "display_name": "Ana Lima"},
            {"name": "rob", "remote": true},
            {"name": "old", "state": "deactivated"},
        ],
        "service_accounts": ["robot"],
        "groups": [
            {"name": "Stop Signs Team", "description": "sees signs", "members": ["ana", "rob", "robot"]},
            {"name": "Admins", "built_in": true, "members": ["ana"]},
        ],
        "workspaces": [
            {"name": "Stop Signs", "description": "red", "projects": [{"name": "Euro"}, {"name": "Asia", "archived": true}]},
        ],
        "assignments": [
            {"role": "ClusterAdmin", "user": "admin"},
            {"role": "Editor", "group": "Stop Signs Team", "workspace": "Stop Signs"},
            {"role": "Viewer", "user": "robot", "workspace": "Stop Signs", "project": "Euro", "until": "2026-12-31"},
            {"role": "Reader", "user": "rob", "on": "queue:default"},
        ],
    })
}

#[test]
fn a_document_makes_a_whole_team_and_a_second_time_nothing() {
    on_both(|world| async move {
        let before = world.last_event().await;
        assert_eq!(
            applied(&world.admin, team()).await,
            [
                "+ make user ana (pending: needs a link to sign in)",
                "+ make user rob (remote: signs in through the identity provider)",
                "+ make user old (deactivated)",
                "+ make service account robot (without a key)",
                "+ make group \"Stop Signs Team\"",
                "+ make workspace \"Stop Signs\"",
                "+ make project \"Euro\" (workspace \"Stop Signs\")",
                "+ make project \"Asia\" (workspace \"Stop Signs\")",
                "- take Member from group \"Users\" globally",
                "- take DataScientist from group \"Users\" on workspace \"default\"",
                "+ assign Editor to group \"Stop Signs Team\" on workspace \"Stop Signs\"",
                "+ assign Viewer to service account robot on project \"Euro\" (workspace \"Stop Signs\") until 2026-12-31T00:00:00Z",
                "+ assign Reader to user rob on queue \"default\"",
                "+ put ana, rob, robot into group \"Stop Signs Team\"",
                "+ put ana into group \"Admins\"",
            ]
        );
        let events = world.events(&format!("id > {before}")).await;
        assert_eq!(
            events.len(),
            16,
            "one for each change and one for the document: {events:?}"
        );
        assert!(events.contains(&"admin groups:update add-member group Stop Signs Team allowed".into()));
        assert_eq!(
            events.last().unwrap(),
            "admin roles:assign apply access document  allowed"
        );

        let before = world.last_event().await;
        assert_eq!(applied(&world.admin, team()).await, [""; 0]);
        assert_eq!(
            world.last_event().await,
            before,
            "nothing was changed, and nothing is on record"
        );
        let whole = serde_json::to_value(export(&world.admin).await).unwrap();
        assert_eq!(applied(&world.admin, whole.clone()).await, [""; 0]);
        assert_eq!(plan(&world.admin, whole).await["changes"], json!([]));

        let link = world.admin.client.user_link("ana").await.unwrap();
        let session = json!({"token": link.token, "password": crate::world::PASSWORD});
        let session = world.nobody().post("/api/v1/login/link", session).await.json();
        let ana = world.nobody().client.with_key(session["token"].as_str());
        assert!(ana.users(true, None).await.unwrap().items.len() >= 4, "through Admins");
        let projects = world
            .admin
            .get("/api/v1/workspaces/Stop%20Signs/projects?all=true")
            .await
            .json();
        let names: Vec<&str> = projects["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["default", "Euro", "Asia"]);
    });
}

#[test]
fn the_file_of_an_export_reads_back_and_changes_nothing() {
    on_both(|world| async move {
        applied(&world.admin, team()).await;
        make_role(&world, "Night: shift #1", &["jobs:read", "models:delete:own"]).await;
        give(&world.admin, "Night: shift #1", "rob", "").await;
        let yaml = export(&world.admin).await.to_yaml();
        let document = AccessDocument::parse(&yaml).unwrap();
        let plan = world
            .admin
            .client
            .plan_access(&PlanDocument { document })
            .await
            .unwrap();
        assert_eq!((plan.changes.len(), plan.effects.len()), (0, 0), "{yaml}");
        assert_eq!(yaml, export(&world.admin).await.to_yaml());
        let below_header = yaml.split_once("\nusers:").unwrap().1;
        assert!(!below_header.contains("mls_") && !below_header.contains("password"));
        assert!(
            below_header.contains("\n  - role: Editor\n    group: Stop Signs Team\n    workspace: Stop Signs\n"),
            "{yaml}"
        );
        assert!(below_header.contains("  - name: \"Night: shift #1\"\n"), "{yaml}");
    });
}

#[test]
fn what_is_not_in_a_section_that_is_there_is_taken_away() {
    on_both(|world| async move {
        applied(&world.admin, team()).await;
        make_role(&world, "night", &["experiments:read"]).await;
        let ben = world.person("ben").await;
        // What was given on request ends by itself, and is no document's business.
        let asked = json!({"role": "Viewer", "on": "workspace:Stop Signs", "lifetime_ms": 3_600_000, "why": "x"});
        let id = ben.post("/api/v1/access/requests", asked).await.json()["id"].clone();
        world
            .admin
            .post(&format!("/api/v1/access/requests/{id}/approve"), json!({}))
            .await;
        let narrower = json!({"roles": [
            {"name": "night", "permissions": ["experiments:read"]},
            {"name": "Member", "permissions": ["me"]},
            {"name": "QueueAgent", "permissions": ["queues:read", "queues:serve"]},
        ]});
        assert_eq!(
            applied(&world.admin, narrower).await,
            [
                "~ change role Member: no longer stacks:create, stacks:read:own, stacks:update:own, stacks:delete:own, tokens:create:own, tokens:read:own, tokens:revoke:own, vaults:read:own, vaults:update:own"
            ]
        );
        let fewer = json!({
            "groups": [],
            "roles": [{"name": "QueueAgent", "description": "", "permissions": ["queues:*"]}],
            "assignments": [{"role": "ClusterAdmin", "user": "admin"}],
        });
        assert_eq!(
            applied(&world.admin, fewer.clone()).await,
            [
                "~ change role QueueAgent: also queues:submit, queues:create, queues:update, queues:delete; another description",
                "- take Editor from group \"Stop Signs Team\" on workspace \"Stop Signs\"",
                "- take Viewer from service account robot on project \"Euro\" (workspace \"Stop Signs\")",
                "- take Reader from user rob on queue \"default\"",
                "- delete group \"Stop Signs Team\"",
                "- delete role Member",
                "- delete role night",
            ]
        );
        assert_eq!(ben.get("/api/v1/workspaces/Stop%20Signs").await.status, 200);
        let admins = world.admin.get("/api/v1/groups/Admins").await.json();
        assert_eq!(
            admins["members"]["items"][0]["name"], "ana",
            "built-in groups are left alone"
        );
        assert_eq!(export(&world.admin).await.assignments.unwrap().len(), 1);
        assert_eq!(
            export(&world.admin).await.users.unwrap().len(),
            5,
            "users are never removed"
        );
    });
}

#[test]
fn a_plan_says_what_it_gives_and_takes_and_changes_nothing() {
    on_both(|world| async move {
        world.person("ben").await;
        world.admin.post("/api/v1/users", json!({"name": "pia"})).await;
        let document = json!({
            "users": [{"name": "BEN", "display_name": "Ben"}],
            "groups": [{"name": "Team", "members": ["ben"]}],
            "workspaces": [{"name": "Stop Signs"}],
            "assignments": [
                {"role": "ClusterAdmin", "user": "admin"},
                {"role": "DataScientist", "group": "Users", "workspace": "default"},
                {"role": "TokenCreator", "group": "Users"},
                {"role": "ModelRegistryViewer", "group": "Team", "workspace": "Stop Signs"},
                {"role": "Viewer", "user": "ben", "workspace": "Stop Signs", "until": "2020-01-01"},
            ],
        });
        let before = world.last_event().await;
        let plan = plan(&world.admin, document).await;
        assert_eq!(
            lines(&plan),
            [
                "~ change user ben: written BEN; display name \"Ben\"",
                "+ make group \"Team\"",
                "+ make workspace \"Stop Signs\"",
                "- take Member from group \"Users\" globally",
                "+ assign TokenCreator to group \"Users\" globally",
                "+ assign ModelRegistryViewer to group \"Team\" on workspace \"Stop Signs\"",
                "+ put ben into group \"Team\"",
            ]
        );
        assert_eq!(
            plan["effects"],
            json!([
                {"who": "ben", "on": "installation", "lost": ["stacks:create", "me:update", "stacks:read:own", "stacks:update:own", "stacks:delete:own", "vaults:read:own", "vaults:update:own"]},
                {"who": "ben", "on": "workspace:Stop Signs", "gained": ["models:read"]},
                {"who": "pia", "on": "installation", "lost": ["stacks:create", "me:update", "stacks:read:own", "stacks:update:own", "stacks:delete:own", "vaults:read:own", "vaults:update:own"]},
            ])
        );
        assert_eq!(
            plan["warnings"],
            json!(["Viewer of user ben on workspace \"Stop Signs\": its end has passed, so there is none"])
        );
        assert_eq!(world.last_event().await, before);
        assert!(world.admin.get("/api/v1/groups/Team").await.status == 404);
        let lock_out = json!({"assignments": [{"role": "Viewer", "user": "admin"}]});
        let plan = self::plan(&world.admin, lock_out).await;
        let warnings = plan["warnings"].to_string();
        assert!(
            warnings.contains("you yourself would lose rights globally"),
            "{warnings}"
        );
        assert!(warnings.contains("without an active administrator"), "{warnings}");
    });
}

#[test]
fn a_document_with_faults_says_all_of_them_and_changes_nothing() {
    on_both(|world| async move {
        let before = world.last_event().await;
        let document = json!({
            "users": [{"name": "new"}, {"name": "NEW"}, {"name": "12"}],
            "groups": [{"name": "Users", "members": []}, {"name": "Team", "members": ["new", "nobody"]}],
            "roles": [{"name": "Editor", "permissions": []}, {"name": "night", "permissions": ["experiment:read"]}],
            "workspaces": [{"name": "default", "archived": true}],
            "assignments": [
                {"role": "Editr", "user": "new"},
                {"role": "Editor", "user": "new", "group": "Team"},
                {"role": "Editor", "user": "new", "workspace": "Defualt"},
                {"role": "Editor", "user": "new", "project": "default"},
                {"role": "ClusterAdmin", "user": "new", "workspace": "default"},
                {"role": "Member", "group": "Users"},
                {"role": "Editor", "user": "new", "on": "experiment:77"},
                {"role": "Editor", "user": "new"},
                {"role": "editor", "user": "New"},
            ],
        });
        let answer = apply(&world.admin, document.clone()).await;
        assert_eq!(answer.status, 422);
        let message = answer.message();
        for line in [
            "users, entry 2 (NEW): the name stands here twice (letter case does not matter)",
            "users, entry 3 (12): a user name of digits alone would be taken for an id",
            "groups, entry 1 (Users): everybody belongs to this group: leave it out",
            "groups, entry 2 (Team), members: there is no user or service account `nobody`",
            "roles, entry 1 (Editor): this role is built in and stays as it is: leave it out",
            "roles, entry 2 (night): there is no permission `experiment:read`; did you mean `experiments:read`?",
            "workspaces, entry 1 (default): the workspace `default` cannot be archived",
            "assignments, entry 1 (Editr): there is no role `Editr`; did you mean `Editor`?",
            "assignments, entry 2 (Editor): give exactly one of `user` and `group`",
            "assignments, entry 3 (Editor): there is no workspace `Defualt`; did you mean `default`?",
            "assignments, entry 4 (Editor): a project needs its workspace beside it",
            "assignments, entry 5 (ClusterAdmin): ClusterAdmin can only be assigned globally: leave out where",
            "assignments, entry 6 (Member): the role `Member` is not in the section `roles`, which is complete",
            "assignments, entry 7 (Editor): there is no experiment `77`",
            "assignments, entry 9 (editor): entry 8 says the same",
        ] {
            assert!(message.contains(line), "{line}\n{message}");
        }
        let planned = world
            .admin
            .post("/api/v1/access/plan", json!({"document": document}))
            .await;
        assert_eq!(planned.message(), message);
        let unknown = world
            .admin
            .post("/api/v1/access/apply", json!({"document": {"user": []}}))
            .await;
        assert_eq!(unknown.status, 422);
        // A role that stays assigned cannot go.
        let answer = apply(&world.admin, json!({"roles": []})).await;
        assert!(
            answer
                .message()
                .contains("the role Member is not here, but is still assigned (1)"),
            "{}",
            answer.message()
        );
        assert_eq!(world.last_event().await, before);
        assert_eq!(world.count("principals WHERE name = 'new'").await, 0);
    });
}

#[test]
fn each_change_needs_what_it_would_need_by_itself() {
    on_both(|world| async move {
        let boss = world.person_with("boss", "Administrator").await;
        let ana = world.person("ana").await;
        assert_eq!(apply(&ana, json!({})).await.status, 403);
        assert_eq!(ana.get("/api/v1/access/export").await.status, 403);
        assert_eq!(apply(&boss, json!({"users": [{"name": "new"}]})).await.status, 200);
        let refused = async |document: Value| {
            let before = world.last_event().await;
            let plan = plan(&boss, document.clone()).await;
            assert!(
                plan["changes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|change| !change["missing"].is_null()),
                "{plan}"
            );
            let answer = apply(&boss, document).await;
            assert_eq!(answer.status, 403, "{}", answer.text);
            let events = world.events(&format!("id > {before}")).await;
            assert!(events.len() == 1 && events[0].ends_with(" denied"), "{events:?}");
            answer.message()
        };
        let mut kept = serde_json::to_value(export(&boss).await).unwrap()["assignments"].clone();
        let list = kept.as_array_mut().unwrap();
        list.push(json!({"role": "QueueAdmin", "user": "new"}));
        assert_eq!(
            refused(json!({"users": [{"name": "newer"}], "assignments": kept})).await,
            "Insufficient permissions: boss needs queues:create on the whole installation (globally), to assign QueueAdmin to user new globally; nothing was changed"
        );
        assert_eq!(world.count("principals WHERE name = 'newer'").await, 0);
        let queue_admins = json!({"groups": [{"name": "Queue admins", "members": ["boss"]}]});
        assert!(
            refused(queue_admins)
                .await
                .contains("to put boss into group \"Queue admins\"")
        );
        make_role(&world, "night", &["experiments:read"]).await;
        give(&world.admin, "night", "ana", "").await;
        let member = |more: &str| {
            json!({"roles": [
                {"name": "Member", "permissions": ["me", "tokens:*:own", "stacks:create", "stacks:read:own", "stacks:update:own", "stacks:delete:own", "vaults:read:own", "vaults:update:own"]},
                {"name": "QueueAgent", "permissions": ["queues:read", "queues:serve"]},
                {"name": "night", "permissions": ["experiments:read", more]},
            ]})
        };
        assert!(refused(member("queues:delete")).await.contains("queues:delete"));
        assert_eq!(
            applied(&boss, member("experiments:edit")).await,
            ["~ change role night: also experiments:edit"]
        );
    });
}

#[test]
fn the_last_administrator_stays_and_a_plan_that_is_out_of_date_is_refused() {
    on_both(|world| async move {
        let gone = apply(&world.admin, json!({"assignments": []})).await;
        assert_eq!(gone.status, 409);
        assert!(
            gone.message().contains("without an active administrator"),
            "{}",
            gone.message()
        );
        let off = apply(
            &world.admin,
            json!({"users": [{"name": "admin", "state": "deactivated"}]}),
        )
        .await;
        assert_eq!(off.status, 409);
        assert_eq!(world.admin.get("/api/v1/me").await.status, 200);

        let document = AccessDocument::parse("users: [{name: new}]").unwrap();
        let planned = world
            .admin
            .client
            .plan_access(&PlanDocument {
                document: document.clone(),
            })
            .await
            .unwrap();
        let apply = ApplyDocument {
            document,
            plan_version: Some(planned.version),
        };
        // A sign-out changes nobody's rights.
        let ana = world.person("ana").await;
        let stale = world.admin.client.apply_access(&apply).await.unwrap_err();
        assert_eq!(stale.status(), Some(409));
        for never in [i64::MIN, -1, 0, i64::MAX] {
            let apply = ApplyDocument {
                plan_version: Some(never),
                ..apply.clone()
            };
            let stale = world.admin.client.apply_access(&apply).await.unwrap_err();
            assert_eq!(stale.status(), Some(409), "{never}");
        }
        let planned = world
            .admin
            .client
            .plan_access(&PlanDocument {
                document: apply.document.clone(),
            })
            .await
            .unwrap();
        let session = json!({"name": "ana", "password": crate::world::PASSWORD});
        let session = world.nobody().post("/api/v1/login", session).await.json();
        ana.client.with_key(session["token"].as_str()).logout().await.unwrap();
        let apply = ApplyDocument {
            plan_version: Some(planned.version),
            ..apply
        };
        assert_eq!(world.admin.client.apply_access(&apply).await.unwrap().pending, ["new"]);
    });
}

#[test]
fn a_document_changes_ends_states_and_names_in_place() {
    on_both(|world| async move {
        applied(&world.admin, team()).await;
        let ben = world.person("ben").await;
        let mut later = team();
        later["users"] = json!([{"name": "Ben", "state": "deactivated"}, {"name": "old", "state": "active"}, {"name": "rob", "remote": false}]);
        later["workspaces"] = json!([{"name": "stop signs", "archived": true, "projects": [{"name": "Euro", "description": "12 stars"}]}]);
        later["groups"][0]["members"] = json!(["robot", "ben"]);
        later["assignments"][2]["until"] = json!("2026-11-30");
        later["assignments"][3]["until"] = json!("2027-01-31");
        assert_eq!(
            applied(&world.admin, later.clone()).await,
            [
                "~ change user ben: written Ben; deactivated: every session and key ends",
                "~ change user old: pending again",
                "~ change user rob: no longer remote",
                "~ change workspace \"Stop Signs\": written stop signs; archived",
                "~ change project \"Euro\" (workspace \"Stop Signs\"): another description",
                "~ let Viewer of service account robot on project \"Euro\" (workspace \"Stop Signs\") end otherwise: 2026-12-31T00:00:00Z → 2026-11-30T00:00:00Z",
                "~ let Reader of user rob on queue \"default\" end otherwise: no end → 2027-01-31T00:00:00Z",
                "- take ana, rob out of group \"Stop Signs Team\"",
                "+ put ben into group \"Stop Signs Team\"",
            ]
        );
        assert_eq!(ben.get("/api/v1/me").await.status, 401);
        assert_eq!(applied(&world.admin, later).await, [""; 0]);
        let user = |name: &str| {
            let admin = world.admin.clone();
            let path = format!("/api/v1/users/{name}");
            async move { admin.get(&path).await.json() }
        };
        assert_eq!(
            (&user("old").await["state"], &user("rob").await["remote"]),
            (&json!("pending"), &json!(false))
        );
        // Single experiments are shared by a document, too.
        let train = world.admin.submit("train").await;
        let mut shared = serde_json::to_value(export(&world.admin).await).unwrap();
        let list = shared["assignments"].as_array_mut().unwrap();
        list.push(json!({"role": "Reader", "group": "Stop Signs Team", "on": format!("experiment:{}", train.id)}));
        assert_eq!(
            applied(&world.admin, shared.clone()).await,
            [format!(
                "+ assign Reader to group \"Stop Signs Team\" on experiment {}",
                train.id
            )]
        );
        assert_eq!(applied(&world.admin, shared).await, [""; 0]);
    });
}

#[test]
fn whoever_may_see_only_some_of_it_gets_none_of_it() {
    on_both(|world| async move {
        make_role(&world, "half", &["roles:read", "users:read"]).await;
        let ana = world.person("ana").await;
        give(&world.admin, "half", "ana", "").await;
        for answer in [
            ana.get("/api/v1/access/export").await,
            ana.post("/api/v1/access/plan", json!({"document": {}})).await,
            apply(&ana, json!({})).await,
        ] {
            assert_eq!(answer.status, 403);
            assert!(answer.message().contains("needs groups:read"), "{}", answer.message());
        }
        give(&world.admin, "guest", "ana", "").await;
        let seen = export(&ana).await;
        assert_eq!(seen.users.unwrap().len(), 2);
        assert_eq!(
            apply(&ana, json!({"groups": []})).await.status,
            200,
            "nothing is to be done"
        );
        assert_eq!(apply(&ana, json!({"groups": [{"name": "x"}]})).await.status, 403);
    });
}

#[test]
fn a_world_made_anew_from_its_document_is_the_same() {
    on_both(|world| async move {
        applied(&world.admin, team()).await;
        let first = export(&world.admin).await;
        let ids = async |world: &World| world.count("assignments").await;
        let before = ids(&world).await;
        applied(
            &world.admin,
            json!({"groups": [], "assignments": [{"role": "ClusterAdmin", "user": "admin"}]}),
        )
        .await;
        assert!(ids(&world).await < before);
        applied(&world.admin, serde_json::to_value(&first).unwrap()).await;
        assert_eq!(export(&world.admin).await, first);
    });
}

#[test]
fn a_document_opens_no_way_into_an_account_that_may_do_more() {
    on_both(|world| async move {
        // `Administrator` lacks only the making of queues, and that is enough.
        let lesser = world.person_with("lesser", "Administrator").await;
        world.person("ana").await;
        let rem = json!({"name": "rem", "remote": true, "role": "ClusterAdmin"});
        assert_eq!(world.admin.post("/api/v1/users", rem).await.status, 200);
        for user in [
            json!({"name": "rem", "remote": false}),
            json!({"name": "admin", "remote": true}),
            json!({"name": "REM"}),
        ] {
            let before = world.last_event().await;
            let document = json!({"users": [user]});
            let planned = plan(&lesser, document.clone()).await;
            let missing = planned["changes"][0]["missing"].to_string();
            assert!(missing.contains("you need queues:"), "{planned}");
            let answer = apply(&lesser, document).await;
            assert_eq!(answer.status, 403, "{}", answer.text);
            let events = world.events(&format!("id > {before}")).await;
            assert!(events.len() == 1 && events[0].ends_with(" denied"), "{events:?}");
        }
        let own = json!({"users": [{"name": "ana", "remote": true}, {"name": "LESSER"}]});
        assert_eq!(applied(&lesser, own).await.len(), 2);
        let rem = json!({"users": [{"name": "REM", "remote": false}]});
        assert_eq!(applied(&world.admin, rem).await.len(), 1);
        // A key that ends opens no other way in for its owner.
        let key = json!({"lifetime_ms": 60_000});
        let key = world.admin.post("/api/v1/tokens", key).await.json();
        let with_key = Person {
            client: world.admin.client.with_key(key["secret"].as_str()),
            ..world.admin.clone()
        };
        let remote = json!({"users": [{"name": "admin", "remote": true}]});
        let answer = apply(&with_key, remote.clone()).await;
        assert_eq!(answer.status, 403, "{}", answer.text);
        assert!(answer.text.contains("opens no other way in"), "{}", answer.text);
        assert_eq!(apply(&world.admin, remote).await.status, 409, "the last one");
    });
}

#[test]
fn whom_the_roles_of_everybody_reach_is_for_those_who_may_assign_them() {
    on_both(|world| async move {
        world.person("ana").await;
        let looks = ["roles:read", "users:read", "groups:read", "users:update"];
        make_role(&world, "desk", &looks).await;
        make_role(&world, "assigner", &[&looks[..], &["roles:assign"]].concat()).await;
        let desk = world.person_with("desk", "Viewer").await;
        let assigner = world.person_with("assigner", "Viewer").await;
        give(&world.admin, "desk", "desk", "").await;
        give(&world.admin, "assigner", "assigner", "").await;
        let only = |only: bool| json!({"users": [{"name": "ana", "own_roles_only": only}]});
        let refused = async |by: &Person, document: Value, needs: &str| {
            let answer = apply(by, document).await;
            assert_eq!(answer.status, 403, "{}", answer.text);
            assert!(answer.message().contains(needs), "{}", answer.text);
        };
        refused(&desk, only(true), "needs roles:assign on workspace").await;
        assert_eq!(applied(&assigner, only(true)).await.len(), 1, "it takes away");
        refused(&desk, only(false), "needs roles:assign on workspace").await;
        refused(&assigner, only(false), "assigner needs ").await;
        assert_eq!(applied(&world.admin, only(false)).await.len(), 1);
    });
}
