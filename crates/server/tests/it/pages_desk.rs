//! The administrator's desk: seats, what the audit is filtered by, previews, suggestions, and forms that are shown again.

use bailiwick_api::audit::{AuditFilter, Outcome};
use bailiwick_api::groups::NewGroup;
use bailiwick_api::users::{ChangeUser, NewServiceAccount, NewUser, UserState};
use bailiwick_api::workspaces::NewWorkspace;
use bailiwick_client::Error;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::world::{PASSWORD, START, on_both, on_both_with};

fn new(name: &str) -> NewUser {
    NewUser {
        name: name.into(),
        password: Some(PASSWORD.into()),
        ..NewUser::default()
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    outcome.expect_err("there is no seat").to_string()
}

#[test]
fn no_user_is_made_or_let_in_beyond_the_seats() {
    on_both_with(
        |config| config.seats = Some(3),
        |world| async move {
            let admin = &world.admin.client;
            let ana = world.person("ana").await;
            let builder = NewServiceAccount {
                name: "builder".into(),
                serve: Vec::new(),
                impersonate: false,
            };
            admin.create_service_account(&builder).await.unwrap();
            admin
                .create_user(&NewUser {
                    password: None,
                    ..new("bob")
                })
                .await
                .unwrap();
            let why = refused(admin.create_user(&new("carla")).await);
            assert!(why.contains("there are 3 seats for users, and all are taken"), "{why}");
            assert!(admin.user("carla").await.is_err(), "nothing is left of it");

            let seats = admin.users_with_seats(true, None).await.unwrap().seats.unwrap();
            assert_eq!((seats.used, seats.allowed), (3, Some(3)));
            let hers = ana.client.users_with_seats(true, None).await.unwrap();
            assert_eq!(hers.seats, None, "who does not read users is told nothing");

            admin.deactivate_user("ana").await.unwrap();
            admin.create_user(&new("carla")).await.unwrap();
            let let_in = ChangeUser {
                active: Some(true),
                ..ChangeUser::default()
            };
            for why in [
                refused(admin.activate_user("ana").await),
                refused(admin.change_user("ana", &let_in).await),
            ] {
                assert!(why.contains("all are taken"), "{why}");
            }
            let rename = ChangeUser {
                name: Some("anna".into()),
                ..ChangeUser::default()
            };
            admin.change_user("ana", &rename).await.unwrap();
            admin.remove_user("bob").await.unwrap();
            admin.activate_user("anna").await.unwrap();

            let desk = Browser::of(&world, &world.admin).await;
            let list = desk.get("/users").await.page();
            assert!(
                list.contains("3 of 3 seats taken: nobody more can be invited"),
                "{list}"
            );
            let again = desk
                .post(
                    "/users",
                    &[("act", "invite"), ("name", "dmitri"), ("display_name", "Di")],
                )
                .await;
            assert_eq!(again.status, 409);
            assert!(
                again.text.contains("all are taken")
                    && again.text.contains("value=\"dmitri\"")
                    && again.text.contains("value=\"Di\""),
                "the form stands there as it was filled in: {}",
                again.text
            );
        },
    );
}

#[test]
fn two_at_once_do_not_both_take_the_last_seat() {
    on_both_with(
        |config| config.seats = Some(4),
        |world| async move {
            let make = |number: i32| {
                let world = world.clone();
                tokio::spawn(async move {
                    world
                        .admin
                        .client
                        .create_user(&new(&format!("user{number}")))
                        .await
                        .is_ok()
                })
            };
            let all: Vec<_> = (0..10).map(make).collect();
            let mut made = 0;
            for one in all {
                made += i32::from(one.await.unwrap());
            }
            assert_eq!(made, 3);
            let page = world.admin.client.users_with_seats(true, None).await.unwrap();
            assert_eq!(page.seats.unwrap().used, 4);
        },
    );
}

#[test]
fn a_document_is_applied_within_the_seats() {
    on_both_with(
        |config| config.seats = Some(2),
        |world| async move {
            let apply = |users: Value| {
                let body = json!({"document": {"users": users}});
                let world = world.clone();
                async move { world.admin.post("/api/v1/access/apply", body).await }
            };
            let two = apply(json!([{"name": "ana"}, {"name": "bob"}])).await;
            assert_eq!(two.status, 409, "{}", two.message());
            assert!(two.message().contains("all are taken"), "{}", two.message());
            assert!(world.admin.client.user("ana").await.is_err(), "nothing of it was made");
            assert_eq!(apply(json!([{"name": "ana"}])).await.status, 200);
            assert_eq!(world.admin.client.user("ana").await.unwrap().state, UserState::Pending);
        },
    );
}

#[test]
fn the_audit_is_narrowed_to_a_workspace_an_outcome_and_a_time() {
    on_both(|world| async move {
        let admin = &world.admin.client;
        let make = |name: &str| NewWorkspace {
            name: name.into(),
            ..NewWorkspace::default()
        };
        let speech = admin.create_workspace(&make("speech")).await.unwrap();
        world.pass_ms(1_200_000);
        admin.create_workspace(&make("vision")).await.unwrap();
        let ana = world.person("ana").await;
        ana.client.create_workspace(&make("mine")).await.unwrap_err();
        let found = |filter: AuditFilter| {
            let world = world.clone();
            async move {
                let page = world.admin.client.audit(&filter).await.unwrap();
                let words = page
                    .items
                    .into_iter()
                    .map(|event| format!("{} {}", event.verb, event.object));
                words.collect::<Vec<_>>()
            }
        };
        let everything = AuditFilter::default;
        let in_speech = AuditFilter {
            workspace: Some("Speech".into()),
            ..everything()
        };
        assert_eq!(found(in_speech.clone()).await, ["create workspace speech"]);
        let by_number = AuditFilter {
            workspace: Some(speech.id.to_string()),
            ..everything()
        };
        assert_eq!(found(by_number).await, ["create workspace speech"]);
        let denied = AuditFilter {
            outcome: Some(Outcome::Denied),
            ..everything()
        };
        assert_eq!(found(denied).await, ["create installation "]);
        let first_day = AuditFilter {
            until: Some(START.plus_ms(600_000)),
            action: Some("workspaces:create".into()),
            ..everything()
        };
        assert_eq!(found(first_day).await, ["create workspace speech"]);
        let later = AuditFilter {
            since: Some(START.plus_ms(600_000)),
            until: Some(START.plus_ms(3_000_000)),
            action: Some("workspaces:create".into()),
            outcome: Some(Outcome::Allowed),
            ..everything()
        };
        assert_eq!(found(later).await, ["create workspace vision"]);
        assert!(
            admin
                .audit(&AuditFilter {
                    workspace: Some("nowhere".into()),
                    ..everything()
                })
                .await
                .is_err()
        );

        // Whoever reads the audit of one workspace learns of no other.
        let role = json!({"assignments": [{"role": "WorkspaceAdmin", "user": "ana", "on": "workspace:speech"}]});
        assert_eq!(world.admin.post("/api/v1/assignments", role).await.status, 200);
        let hers = ana.client.audit(&in_speech).await.unwrap();
        assert!(hers.items.iter().any(|event| event.object == "workspace speech"));
        let other = ana.get("/api/v1/audit?workspace=vision").await;
        let none = ana.get("/api/v1/audit?workspace=nowhere").await;
        assert_eq!(other.without("vision"), none.without("nowhere"));

        let desk = Browser::of(&world, &world.admin).await;
        let query =
            "/audit?workspace=speech&outcome=allowed&since=2026-11-21&until=2026-11-21&user=admin&action=create";
        let page = desk.get(query).await.page();
        assert!(
            page.contains("workspace speech") && !page.contains("workspace vision"),
            "{page}"
        );
        assert!(
            page.contains("2026-11-21 00:00:00"),
            "an auditor compares moments: {page}"
        );
        assert!(
            page.contains(
                "/audit/export.ndjson?user=admin&#38;action=create&#38;workspace=speech&#38;since=2026-11-21T00"
            ),
            "the same events are taken along: {page}"
        );
        let gone = desk.get("/audit?workspace=nowhere").await;
        assert_eq!(gone.status, 404);
        assert!(gone.text.contains("there is no workspace `nowhere`") && gone.text.contains("value=\"nowhere\""));
        assert_eq!(desk.get("/audit?outcome=maybe").await.status, 422);
    });
}

#[test]
fn a_change_of_rights_is_looked_at_before_it_is_made() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let team = NewGroup {
            name: "team".into(),
            ..NewGroup::default()
        };
        let team = world.admin.client.create_group(&team).await.unwrap().group.id;
        let desk = Browser::of(&world, &world.admin).await;
        let path = format!("/users/{}", ana.id);
        let held = || async { world.admin.client.user("ana").await.unwrap().roles.len() };
        let before = held().await;

        let giving = [
            ("role", "Viewer"),
            ("on", "installation"),
            ("reason", "for a <b>look</b>"),
        ];
        let preview = desk
            .post(&path, &[&[("act", "preview-give")], &giving[..]].concat())
            .await
            .page();
        assert!(
            preview.contains("the rights of 1 account would change")
                && preview.contains("<code>experiments:read</code>"),
            "{preview}"
        );
        assert!(
            preview.contains("value=\"installation\"")
                && preview.contains("for a &#60;b&#62;look")
                && preview.contains("<option value=\"Viewer\" selected>"),
            "the form stands as it was filled in: {preview}"
        );
        assert_eq!(held().await, before, "nothing was changed");
        assert_eq!(
            desk.post(&path, &[&[("act", "give")], &giving[..]].concat())
                .await
                .leads(),
            path
        );
        assert_eq!(held().await, before + 1);

        let group = format!("/groups/{team}");
        let given = [("act", "give"), ("role", "Editor"), ("on", "workspace:default")];
        assert_eq!(desk.post(&group, &given).await.leads(), group);
        let joins = desk
            .post(&group, &[("act", "preview-add"), ("users", "ana")])
            .await
            .page();
        assert!(
            joins.contains("<td>ana</td>") && joins.contains("Nothing has been changed yet"),
            "{joins}"
        );
        let nobody = desk.post(&group, &[("act", "preview-add"), ("users", "anna")]).await;
        assert!(
            nobody.status == 404 && nobody.text.contains("value=\"anna\""),
            "{}",
            nobody.text
        );
        assert_eq!(
            desk.post(&group, &[("act", "add"), ("users", "ana")]).await.leads(),
            group
        );
        let ends = desk.post(&group, &[("act", "preview-delete")]).await.page();
        assert!(ends.contains("<td>ana</td>") && ends.contains("− "), "{ends}");

        let made = [("act", "create"), ("name", "Labeller"), ("p.experiments:read", "all")];
        let role = desk.post("/roles", &made).await.leads();
        let named = [("act", "give"), ("role", "Labeller"), ("on", "workspace:default")];
        assert_eq!(desk.post(&path, &named).await.leads(), path);
        let changed = [
            ("name", "Labeller"),
            ("p.experiments:read", "all"),
            ("p.models:delete", "all"),
        ];
        let preview = desk
            .post(&role, &[&[("act", "preview-change")], &changed[..]].concat())
            .await
            .page();
        assert!(
            preview.contains("<details open>") && preview.contains("<code>models:delete</code>"),
            "{preview}"
        );
        let taken = desk.post(&role, &[("act", "preview-delete")]).await.page();
        assert!(taken.contains("Nothing has been changed yet"), "{taken}");

        let adding = [
            ("act", "preview-add"),
            ("kind", "group"),
            ("who", "team"),
            ("role", "WorkspaceAdmin"),
        ];
        let members = desk.post("/workspaces/1/members", &adding).await.page();
        assert!(
            members.contains("would change") && members.contains("value=\"team\""),
            "{members}"
        );
        assert_eq!(
            desk.post(
                "/workspaces/1/members",
                &[("act", "add"), ("who", ""), ("role", "Viewer")]
            )
            .await
            .status,
            422
        );

        // Whoever may not, is refused as before.
        let bob = world.person("bob").await;
        let his = Browser::of(&world, &bob).await;
        let refused = his
            .post(
                &path,
                &[
                    ("act", "preview-give"),
                    ("role", "ClusterAdmin"),
                    ("on", "installation"),
                ],
            )
            .await;
        assert_eq!(refused.status, 403, "{}", refused.text);
    });
}

#[test]
fn names_are_suggested_as_far_as_they_may_be_seen() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        world
            .admin
            .client
            .create_workspace(&NewWorkspace {
                name: "Speech <1>".into(),
                ..NewWorkspace::default()
            })
            .await
            .unwrap();
        world
            .admin
            .client
            .create_group(&NewGroup {
                name: "night".into(),
                ..NewGroup::default()
            })
            .await
            .unwrap();
        let desk = Browser::of(&world, &world.admin).await;
        for (typed, shown) in [
            ("user=an", "value=\"ana\""),
            ("users=admin,an", "value=\"admin, ana\""),
            ("group=IGH", "value=\"night\""),
            ("role=restrict", "value=\"EditorRestricted\""),
            ("workspace=spee", "value=\"Speech &lt;1&gt;\""),
            ("on=workspace:spee", "value=\"workspace:Speech &lt;1&gt;\""),
            ("on=project:default/", "value=\"project:default/default\""),
            ("on=queue:", "value=\"queue:default\""),
            ("on=inst", "value=\"installation\""),
            ("who=an&kind=user", "value=\"ana\""),
            ("who=ni&kind=group", "value=\"night\""),
        ] {
            let options = desk.get(&format!("/names?{typed}")).await.page();
            assert!(options.contains(shown), "{typed}: {options}");
        }
        assert_eq!(desk.get("/names?user=zz%25").await.page(), "");
        let hers = Browser::of(&world, &ana).await;
        for hidden in [
            "group=night",
            "workspace=speech",
            "on=speech",
            "on=project:Speech%20%3C1%3E/",
        ] {
            assert_eq!(hers.get(&format!("/names?{hidden}")).await.page(), "", "{hidden}");
        }
        assert!(hers.get("/users").await.page().contains("ana"));
        assert!(!hers.get("/groups?text=night").await.page().contains("/groups/5\""));
        assert!(desk.get("/groups?text=NIGHT").await.page().contains(">night</a>"));
        assert!(
            desk.get("/workspaces?text=speech")
                .await
                .page()
                .contains("Speech &#60;1&#62;")
        );
        assert!(desk.get("/roles?text=queuead").await.page().contains(">QueueAdmin</a>"));
    });
}

#[test]
fn a_refusal_names_whom_to_ask_and_the_way_in_says_what_to_do_without_a_password() {
    on_both_with(
        |config| config.contact = Some("the platform team, #ml-help".into()),
        |world| async move {
            let stranger = Browser::new(&world);
            let page = stranger.get("/sign-in").await.page();
            assert!(
                page.contains("Forgot your password") && page.contains("the platform team, #ml-help"),
                "{page}"
            );
            assert!(
                !page.contains("Sign in with "),
                "there is no provider yet, and no dead button: {page}"
            );
            assert!(!page.contains("admin<"), "a stranger is told no name: {page}");

            let ana = world.person("ana").await;
            let hers = Browser::of(&world, &ana).await;
            let refused = hers.post("/workspaces", &[("act", "create"), ("name", "mine")]).await;
            assert_eq!(refused.status, 403);
            for piece in [
                ">admin</a>",
                "Request access",
                "/access?permission=workspaces%3Acreate",
                "You may not ",
            ] {
                assert!(refused.text.contains(piece), "{piece}: {}", refused.text);
            }
            assert!(!refused.text.contains("ml access explain"), "{}", refused.text);
            let missing = hers.get("/workspaces/999").await;
            assert!(
                missing.status == 404 && !missing.text.contains(">admin</a>"),
                "{}",
                missing.text
            );
        },
    );
}
