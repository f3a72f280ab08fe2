//! Who may do what, why, and what a change would make of it.

use bailiwick_api::access::{CanI, Explain, Explanation, NearWhy, WhatCan, WhoCan};
use bailiwick_api::experiments::Experiment;
use serde_json::{Value, json};

use crate::world::{Answer, Person, World, on_both};

async fn can_i(who: &Person, permission: &str, on: &str) -> (bool, String) {
    let question = CanI {
        permission: permission.into(),
        on: on.into(),
    };
    let answer = who.client.can_i(&question).await.expect("the question is answered");
    (answer.allowed, answer.words)
}

async fn explain(asker: &Person, who: Option<&str>, permission: &str, on: &str) -> Explanation {
    let question = Explain {
        who: who.map(str::to_owned),
        permission: permission.into(),
        on: on.into(),
    };
    asker.client.explain_access(&question).await.expect("it is explained")
}

async fn assign(world: &World, role: &str, to: (&str, &str), on: &str) {
    let (kind, name) = to;
    let on = if on.is_empty() { "installation" } else { on };
    let assignment = json!({"role": role, kind: name, "on": on});
    let answer = world
        .admin
        .post("/api/v1/assignments", json!({"assignments": [assignment]}))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn workspace(world: &World, name: &str) {
    let answer = world.admin.post("/api/v1/workspaces", json!({"name": name})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn on(experiment: &Experiment) -> String {
    format!("experiment:{}", experiment.id)
}

#[test]
fn everybody_may_ask_what_he_may_do_and_learns_nothing_else_by_it() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        let hers = ana.submit("hers").await;
        assert_eq!(
            can_i(&ana, "experiments:update", &on(&hers)).await,
            (
                true,
                format!(
                    "Yes: you have experiments:update on experiment {} (workspace \"default\")",
                    hers.id
                )
            )
        );
        let hidden = can_i(&ben, "experiments:update", &on(&hers)).await;
        let missing = can_i(&ben, "experiments:update", "experiment:900000").await;
        assert_eq!(
            hidden,
            (
                false,
                format!("No: there is no experiment:{} that you may see", hers.id)
            )
        );
        assert_eq!(hidden.1.replace(&hers.id.to_string(), "900000"), missing.1);
        assert!(!can_i(&ben, "experiments:read", "experiment:hers").await.0);

        // Words that stand for several, the reach of one's own, places that are asked about by name or not at all.
        assert!(!can_i(&ana, "jobs:read", "workspace:default").await.0);
        assert!(can_i(&ana, "jobs:read:own", "workspace:default").await.0);
        assert!(can_i(&ana, "experiments:create", "project:default/default").await.0);
        assert!(can_i(&ana, "tokens:create:own", "").await.0);
        assert_eq!(
            can_i(&ana, "experiments:create", "").await.1,
            "No: you do not have experiments:create on the whole installation (globally)"
        );
        let several = ana
            .post(
                "/api/v1/access/can-i",
                json!({"permission": "jobs:update", "on": on(&hers)}),
            )
            .await;
        assert_eq!(
            several.json()["each"],
            json!([{"permission": "experiments:update", "allowed": true}, {"permission": "experiments:edit", "allowed": true}])
        );
        // A queue that is open to every workspace is used through one's own.
        assert!(can_i(&ana, "queues:submit", "queue:default").await.0);
        assert!(!can_i(&ana, "queues:serve", "queue:default").await.0);
        assert!(can_i(&world.admin, "cluster:update-config", "").await.0);

        for (body, says) in [
            (
                json!({"permission": "experiments:raed"}),
                "did you mean `experiments:read`?",
            ),
            (
                json!({"permission": "experiments:read", "on": "planet:earth"}),
                "there is no kind `planet`",
            ),
            (
                json!({"permission": "experiments:read", "user": "ben"}),
                "unknown field `user`",
            ),
        ] {
            let answer = ana.post("/api/v1/access/can-i", body).await;
            assert_eq!(answer.status, 422, "{answer:?}");
            assert!(answer.message().contains(says), "{answer:?}");
        }
        assert_eq!(
            world
                .nobody()
                .post("/api/v1/access/can-i", json!({"permission": "me"}))
                .await
                .status,
            401
        );
    });
}

#[test]
fn an_explanation_names_each_assignment_and_for_a_no_what_is_nearly_there_and_who_could_help() {
    on_both(|world| async move {
        let (ana, _ben, lea) = (
            world.person("ana").await,
            world.person("ben").await,
            world.person("lea").await,
        );
        workspace(&world, "Stop Signs").await;
        assign(&world, "WorkspaceAdmin", ("user", "lea"), "workspace:default").await;
        assign(&world, "Editor", ("user", "ben"), "workspace:Stop Signs").await;
        let hers = ana.submit("hers").await;

        let own = explain(&ana, None, "experiments:update", &on(&hers)).await;
        let [one] = own.answers.as_slice() else {
            panic!("{own:?}")
        };
        assert!(
            own.allowed && one.near.is_empty() && one.could_give.is_empty(),
            "{own:?}"
        );
        let ways: Vec<&str> = one.reasons.iter().map(|way| way.words.as_str()).collect();
        assert_eq!(
            ways,
            ["DataScientist on workspace \"default\", through group \"Users\", on what is one's own"]
        );

        let of_ben = explain(&world.admin, Some("ben"), "experiments:update", &on(&hers)).await;
        assert_eq!(of_ben.who, "ben");
        let one = &of_ben.answers[0];
        assert!(!one.allowed && one.reasons.is_empty(), "{one:?}");
        assert_eq!(one.words, "no role that counts here gives ben experiments:update");
        let near: Vec<(NearWhy, &str)> = one.near.iter().map(|miss| (miss.why, miss.way.on.as_str())).collect();
        assert_eq!(
            near,
            [
                (NearWhy::NotOwned, "workspace:default"),
                (NearWhy::Elsewhere, "workspace:Stop Signs")
            ]
        );
        assert_eq!(one.could_give, ["admin", "lea"]);

        // Who administers one workspace is not told what somebody holds in another.
        let of_ben = explain(&lea, Some("ben"), "experiments:update", &on(&hers)).await;
        let near: Vec<&str> = of_ben.answers[0].near.iter().map(|miss| miss.way.on.as_str()).collect();
        assert_eq!(near, ["workspace:default"]);
    });
}

#[test]
fn whoever_was_made_with_a_role_of_his_own_is_told_that_what_everybody_holds_does_not_reach_him() {
    on_both(|world| async move {
        let (ana, vic) = (world.person("ana").await, world.person_with("vic", "Viewer").await);
        let hers = ana.submit("hers").await;
        let of_vic = explain(&vic, None, "experiments:update", &on(&hers)).await;
        let one = &of_vic.answers[0];
        assert_eq!(one.near.len(), 1, "{one:?}");
        assert_eq!(one.near[0].why, NearWhy::LeftOutByOwnRolesOnly);
        let ask = one.ask.as_deref().unwrap();
        assert!(
            ask.starts_with("ml access request ") && ask.contains(&format!(" --on {} ", on(&hers))),
            "{ask}"
        );
        // What is asked for would do.
        let role = ask.split(' ').nth(3).unwrap();
        assign(&world, role, ("user", "vic"), &on(&hers)).await;
        assert!(can_i(&vic, "experiments:update", &on(&hers)).await.0);
    });
}

#[test]
fn about_others_only_those_may_ask_who_read_roles_there() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        let hers = ana.submit("hers").await;
        let about = |who: &str, on: &str| json!({"who": who, "permission": "experiments:read", "on": on});
        let refused = ana
            .post("/api/v1/access/explain", about("ben", "workspace:default"))
            .await;
        assert_eq!(refused.status, 403, "{refused:?}");
        assert_eq!(
            refused.message(),
            "Insufficient permissions: ana needs roles:read on workspace \"default\""
        );
        // What one may not see is not there, whoever is asked about.
        for who in ["ana", "ben"] {
            let hidden = ben.post("/api/v1/access/explain", about(who, &on(&hers))).await;
            let missing = ben
                .post("/api/v1/access/explain", about(who, "experiment:900000"))
                .await;
            assert_eq!(hidden.status, 404, "{hidden:?}");
            assert_eq!(hidden.without(&hers.id.to_string()), missing.without("900000"));
        }
        let nobody = ana
            .post("/api/v1/access/explain", about("nemo", "workspace:default"))
            .await;
        assert_eq!(
            (nobody.status, nobody.message().as_str()),
            (404, "there is no user `nemo`")
        );
        for (path, body) in [
            (
                "/api/v1/access/who-can",
                json!({"permission": "experiments:read", "on": "workspace:default"}),
            ),
            ("/api/v1/access/what-can", json!({"who": "ben"})),
            (
                "/api/v1/access/diff",
                json!({"changes": [{"change": "deactivate", "user": "ben"}]}),
            ),
        ] {
            assert_eq!(ana.post(path, body.clone()).await.status, 403, "{path}");
            assert_eq!(world.admin.post(path, body).await.status, 200, "{path}");
        }
        for path in ["/api/v1/access/check", "/api/v1/access/shadow-report"] {
            assert_eq!(ana.get(path).await.status, 403, "{path}");
            assert_eq!(world.admin.get(path).await.status, 200, "{path}");
        }
        assert_eq!(ana.delete("/api/v1/access/shadow-report").await.status, 403);
    });
}

#[test]
fn a_refusal_says_how_to_ask_why_and_how_to_ask_for_it() {
    on_both(|world| async move {
        let (ana, vic) = (world.person("ana").await, world.person_with("vic", "Viewer").await);
        let hint = |answer: Answer| answer.json()["error"]["hint"].as_str().unwrap_or_default().to_owned();
        let hers = ana.submit("hers").await;
        let refused = vic
            .post(&format!("/api/v1/experiments/{}/kill", hers.id), json!({}))
            .await;
        assert_eq!(refused.status, 403);
        let refused = vic
            .post(
                "/api/v1/experiments",
                json!({"config": {"name": "x", "entrypoint": "true"}}),
            )
            .await;
        assert_eq!(refused.status, 403);
        assert_eq!(
            hint(refused),
            "`ml access explain experiments:create workspace:default` says why, and who could give it; \
             `ml access request DataScientist -w default --for 8h --why \"…\"` asks for it"
        );
        let refused = ana.post("/api/v1/workspaces", json!({"name": "Mine"})).await;
        assert_eq!(refused.status, 403);
        assert_eq!(
            hint(refused),
            "`ml access explain workspaces:create` says why, and who could give it; \
             `ml access request WorkspaceCreator --for 8h --why \"…\"` asks for it"
        );
    });
}

#[test]
fn who_can_names_everybody_with_every_way_and_page_by_page() {
    on_both(|world| async move {
        let (ana, _ben) = (world.person("ana").await, world.person("ben").await);
        let hers = ana.submit("hers").await;
        let group = json!({"name": "Team", "users": ["ben"]});
        assert_eq!(world.admin.post("/api/v1/groups", group).await.status, 200);
        assign(&world, "Editor", ("group", "Team"), "workspace:default").await;
        assign(&world, "Writer", ("user", "ben"), &on(&hers)).await;
        let mut question = WhoCan {
            permission: "jobs:update".into(),
            on: on(&hers),
            limit: Some(2),
            ..WhoCan::default()
        };
        let first = world.admin.client.who_can(&question).await.unwrap();
        assert_eq!((first.total, first.items.len()), (3, 2), "{first:?}");
        question.after = first.next.clone();
        let second = world.admin.client.who_can(&question).await.unwrap();
        assert_eq!((second.total, second.next.clone()), (3, None));
        let all: Vec<_> = first.items.iter().chain(&second.items).collect();
        let names: Vec<&str> = all.iter().map(|able| able.name.as_str()).collect();
        assert_eq!(names, ["admin", "ana", "ben"]);
        let ways: Vec<&str> = all[2].can[0].ways.iter().map(|way| way.words.as_str()).collect();
        assert_eq!(
            ways,
            [
                "Editor on workspace \"default\", through group \"Team\"".to_owned(),
                format!("Writer on experiment {}", hers.id)
            ]
        );
        assert_eq!(all[2].can.len(), 2, "each permission of the word is answered");
        question.after = Some("x".into());
        let wrong = world
            .admin
            .post("/api/v1/access/who-can", serde_json::to_value(&question).unwrap())
            .await;
        assert_eq!(wrong.status, 422);
        let own = json!({"permission": "experiments:read:own"});
        assert_eq!(world.admin.post("/api/v1/access/who-can", own).await.status, 422);
    });
}

#[test]
fn what_can_lists_place_by_place_and_a_narrowed_key_shows_only_what_it_leaves() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let mine = ana.client.what_can(&WhatCan::default()).await.unwrap();
        let places: Vec<&str> = mine.items.iter().map(|one| one.on.as_str()).collect();
        assert_eq!(places, ["installation", "workspace:default"]);
        assert!(
            mine.items[1].permissions.contains(&"experiments:read:own".to_owned()),
            "{mine:?}"
        );
        let about = WhatCan {
            who: Some("ana".into()),
            limit: Some(1),
            ..WhatCan::default()
        };
        let page = world.admin.client.what_can(&about).await.unwrap();
        assert_eq!((page.total, page.next.as_deref()), (2, Some("1")));

        let key = json!({"permissions": ["experiments:read"], "label": "narrow"});
        let key = ana.post("/api/v1/tokens", key).await.json();
        let narrow = Person {
            client: ana.client.with_key(key["secret"].as_str()),
            ..ana.clone()
        };
        let hers = ana.submit("hers").await;
        assert!(can_i(&narrow, "experiments:read", &on(&hers)).await.0);
        assert!(!can_i(&narrow, "experiments:update", &on(&hers)).await.0);
        let why = explain(&narrow, None, "experiments:update", &on(&hers)).await;
        assert_eq!(
            why.answers[0].words,
            "the key used here is narrowed to other permissions"
        );
        assert_eq!(
            why.answers[0].reasons.len(),
            1,
            "what the key stops is there all the same"
        );
        let left = narrow.client.what_can(&WhatCan::default()).await.unwrap();
        assert_eq!(left.items.len(), 1, "{left:?}");
        assert_eq!(left.items[0].permissions, ["experiments:read:own"]);
    });
}

#[test]
fn a_plan_tells_what_it_would_give_and_take_and_changes_nothing() {
    on_both(|world| async move {
        let (ana, lea) = (world.person("ana").await, world.person("lea").await);
        world.person("ben").await;
        workspace(&world, "Stop Signs").await;
        assign(&world, "WorkspaceAdmin", ("user", "lea"), "workspace:Stop Signs").await;
        let group = json!({"name": "Team", "users": ["ana", "lea"]});
        assert_eq!(world.admin.post("/api/v1/groups", group).await.status, 200);
        assign(&world, "Viewer", ("group", "Team"), "workspace:Stop Signs").await;
        let role = json!({"name": "Sweeper", "permissions": ["experiments:delete"]});
        assert_eq!(world.admin.post("/api/v1/roles", role).await.status, 200);
        assign(&world, "Sweeper", ("user", "ben"), "workspace:Stop Signs").await;

        let diff =
            async |who: &Person, changes: Value| who.post("/api/v1/access/diff", json!({"changes": changes})).await;
        let told = |answer: Answer| -> Vec<(String, String, Vec<String>, Vec<String>)> {
            assert_eq!(answer.status, 200, "{answer:?}");
            let list = |value: &Value| serde_json::from_value::<Vec<String>>(value.clone()).unwrap_or_default();
            let items = answer.json()["items"].as_array().unwrap().clone();
            let items = items.iter().map(|one| {
                let text = |key: &str| one[key].as_str().unwrap().to_owned();
                (text("who"), text("on"), list(&one["gained"]), list(&one["lost"]))
            });
            items.collect()
        };
        let at = "workspace:Stop Signs".to_owned();

        let gained = told(diff(&lea, json!([{"change": "add-member", "group": "Team", "user": "ben"}])).await);
        assert_eq!((gained.len(), &gained[0].0, &gained[0].1), (1, &"ben".to_owned(), &at));
        assert!(
            gained[0].2.contains(&"experiments:read".to_owned()) && gained[0].3.is_empty(),
            "{gained:?}"
        );
        let lost = told(diff(&lea, json!([{"change": "delete-group", "group": "Team"}])).await);
        assert_eq!((lost.len(), &lost[0].0), (1, &"ana".to_owned()));
        assert!(
            lost[0].2.is_empty() && lost[0].3.contains(&"experiments:read".to_owned()),
            "{lost:?}"
        );
        let both = diff(
            &lea,
            json!([{"change": "unassign", "role": "Viewer", "group": "Team", "on": at}, {"change": "assign", "role": "Viewer", "user": "ana", "on": at}]),
        );
        assert!(told(both.await).is_empty(), "what is taken is given again");
        let edited = diff(
            &lea,
            json!([{"change": "edit-role", "role": "Sweeper", "add": ["experiments:read"], "remove": ["experiments:delete"]}]),
        );
        let words = |word: &str| vec![word.to_owned()];
        assert_eq!(
            told(edited.await),
            [(
                "ben".to_owned(),
                at.clone(),
                words("experiments:read"),
                words("experiments:delete")
            )]
        );
        let deleted = diff(&lea, json!([{"change": "delete-role", "role": "Sweeper"}])).await;
        assert_eq!(
            told(deleted),
            [("ben".to_owned(), at.clone(), vec![], words("experiments:delete"))]
        );
        let out = told(diff(&world.admin, json!([{"change": "deactivate", "user": "ana"}])).await);
        assert_eq!(out.len(), 3, "globally, in `default` and in `Stop Signs`: {out:?}");
        // Nothing of it was done.
        assert!(told(diff(&lea, json!([{"change": "delete-role", "role": "Sweeper"}])).await).len() == 1);
        assert_eq!(ana.client.me().await.unwrap().user.name, "ana");

        let wrong = [
            (
                json!([{"change": "assign", "role": "Edtor", "user": "ana"}]),
                404,
                "there is no role `Edtor`",
            ),
            (
                json!([{"change": "assign", "role": "Editor", "on": at}]),
                422,
                "exactly one of user and group",
            ),
            (
                json!([{"change": "assign", "role": "ClusterAdmin", "user": "ana", "on": at}]),
                422,
                "only be assigned globally",
            ),
            (
                json!([{"change": "add-member", "group": "Users", "user": "ana"}]),
                422,
                "everybody belongs",
            ),
            (json!([{"change": "delete-role", "role": "Editor"}]), 422, "built in"),
            (json!([{"change": "explode"}]), 422, "unknown variant"),
            (json!([]), 422, "1 to 200"),
            (
                json!([{"change": "assign", "role": "Viewer", "user": "ana", "on": "workspace:nowhere"}]),
                404,
                "there is no workspace `nowhere`",
            ),
        ];
        for (changes, status, says) in wrong {
            let answer = diff(&lea, changes).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert!(answer.message().contains(says), "{answer:?}");
        }
        // Not where one does not read roles.
        let elsewhere = json!([{"change": "assign", "role": "Viewer", "user": "ana", "on": "workspace:default"}]);
        assert_eq!(diff(&lea, elsewhere).await.status, 403);
    });
}

#[test]
fn a_plan_tells_nothing_of_groups_places_and_roles_that_one_may_not_see() {
    on_both(|world| async move {
        let (ana, lea) = (world.person("ana").await, world.person("lea").await);
        world.person("ben").await;
        for name in ["Stop Signs", "Hidden"] {
            workspace(&world, name).await;
        }
        assign(&world, "WorkspaceAdmin", ("user", "lea"), "workspace:Stop Signs").await;
        let group = json!({"name": "Hidden team", "users": ["ben"]});
        assert_eq!(world.admin.post("/api/v1/groups", group).await.status, 200);
        assign(&world, "Viewer", ("group", "Hidden team"), "workspace:Hidden").await;
        for name in ["Sweeper", "Unused"] {
            let role = json!({"name": name, "permissions": ["experiments:delete"]});
            assert_eq!(world.admin.post("/api/v1/roles", role).await.status, 200);
        }
        assign(&world, "Sweeper", ("user", "ben"), "workspace:Hidden").await;
        assign(&world, "Viewer", ("user", "ben"), "workspace:default").await;
        let diff =
            async |who: &Person, change: Value| who.post("/api/v1/access/diff", json!({"changes": [change]})).await;

        // A hidden group is not there.
        for who in [&ana, &lea] {
            let with_group = |group: &str| {
                [
                    json!({"change": "delete-group", "group": group}),
                    json!({"change": "add-member", "group": group, "user": "ben"}),
                    json!({"change": "remove-member", "group": group, "user": "ben"}),
                    json!({"change": "remove-member", "group": group, "user": "ana"}),
                    json!({"change": "assign", "role": "Viewer", "group": group, "on": "workspace:default"}),
                ]
            };
            for (hidden, missing) in with_group("Hidden team").into_iter().zip(with_group("No team")) {
                let (hidden, missing) = (diff(who, hidden).await, diff(who, missing).await);
                assert_eq!(hidden.status, 404, "{hidden:?}");
                assert_eq!(hidden.without("Hidden team"), missing.without("No team"));
            }
        }
        // Where something is assigned is not named, and that it is assigned nowhere reads the same.
        let changes = |role: &str| {
            [
                json!({"change": "delete-role", "role": role}),
                json!({"change": "edit-role", "role": role, "add": ["experiments:read"]}),
                json!({"change": "deactivate", "user": "ben"}),
            ]
        };
        for (assigned, unused) in changes("Sweeper").into_iter().zip(changes("Unused")) {
            let (assigned, unused) = (diff(&lea, assigned).await, diff(&lea, unused).await);
            assert_eq!(assigned.status, 403);
            assert_eq!(
                assigned.message(),
                "Insufficient permissions: lea needs roles:read where that is assigned"
            );
            assert_eq!(assigned.without("Sweeper"), unused.without("Unused"));
        }
        // Whether it is assigned is told only to those who read roles there, whether somebody is a member only to those who read roles wherever it counts.
        let unassign = |role: &str, on: &str| json!({"change": "unassign", "role": role, "user": "ben", "on": on});
        for role in ["Viewer", "Editor"] {
            assert_eq!(diff(&ana, unassign(role, "workspace:default")).await.status, 403);
            assert_eq!(diff(&lea, unassign(role, "workspace:Stop Signs")).await.status, 404);
        }
        assert_eq!(
            diff(&world.admin, unassign("Viewer", "workspace:default")).await.status,
            200
        );
        let member = |user: &str| json!({"change": "remove-member", "group": "Hidden team", "user": user});
        assert_eq!(diff(&world.admin, member("ben")).await.status, 200);
        assert_eq!(diff(&world.admin, member("ana")).await.status, 404);
    });
}

#[test]
fn a_key_narrowed_to_workspaces_does_nothing_on_the_installation_and_a_refusal_says_that_it_is_the_key() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        workspace(&world, "Gone").await;
        let key = json!({"workspaces": ["Stop Signs", "Gone"], "label": "narrow"});
        let key = world.admin.post("/api/v1/tokens", key).await.json();
        let narrow = Person {
            client: world.admin.client.with_key(key["secret"].as_str()),
            ..world.admin.clone()
        };
        let at = "workspace:Stop Signs";
        assert!(can_i(&world.admin, "workspaces:create", at).await.0);
        assert!(!can_i(&narrow, "workspaces:create", at).await.0);
        assert!(can_i(&narrow, "experiments:create", at).await.0);
        let why = explain(&narrow, None, "workspaces:create", at).await;
        assert_eq!(
            why.answers[0].words,
            "the key used here is narrowed to workspaces, and workspaces:create counts on the whole installation"
        );
        let gone = world.admin.delete("/api/v1/workspaces/Gone").await;
        assert!(gone.status < 300, "{gone:?}");
        let left = narrow.client.what_can(&WhatCan::default()).await.unwrap();
        let places: Vec<&str> = left.items.iter().map(|one| one.on.as_str()).collect();
        assert_eq!(places, [at]);
        assert!(
            !left.items[0].permissions.contains(&"workspaces:create".to_owned()),
            "{left:?}"
        );

        let hint = |answer: Answer| answer.json()["error"]["hint"].as_str().unwrap_or_default().to_owned();
        let refused = narrow.post("/api/v1/workspaces", json!({"name": "More"})).await;
        assert_eq!(refused.status, 403);
        assert_eq!(
            hint(refused),
            "this key is narrowed; its owner may do this when signed in, or with another key \
             (this one is narrowed to workspaces, and workspaces:create counts on the whole installation)"
        );
        // A person who lacks it on the installation asks for it there, not in the current workspace.
        let ana = world.person("ana").await;
        let refused = ana
            .post("/api/v1/access/who-can", json!({"permission": "experiments:read"}))
            .await;
        assert_eq!(refused.status, 403);
        let hint = hint(refused);
        assert!(hint.contains("`ml access explain roles:read installation`"), "{hint}");
        assert!(
            !hint.contains("access request") || hint.contains("--on installation"),
            "{hint}"
        );
    });
}

#[test]
fn what_is_held_globally_does_not_tell_whether_a_place_is_there() {
    on_both(|world| async move {
        workspace(&world, "Hidden").await;
        let mia = world.person_with("mia", "WorkspaceCreator").await;
        let hidden = can_i(&mia, "workspaces:create", "workspace:Hidden").await;
        let missing = can_i(&mia, "workspaces:create", "workspace:Nowhere").await;
        assert_eq!(hidden.1.replace("Hidden", "Nowhere"), missing.1);
        assert!(!hidden.0 && !missing.0);
        assert!(can_i(&mia, "workspaces:create", "").await.0);
    });
}
