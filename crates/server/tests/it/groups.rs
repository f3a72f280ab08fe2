//! Groups: what they hold, their members hold.

use bailiwick_api::groups::{ChangeGroup, NewGroup};
use bailiwick_api::users::NewUser;
use serde_json::{Value, json};

use crate::world::{Answer, Database, Person, World, on_both};

async fn patch(who: &Person, path: &str, body: Value) -> Answer {
    Answer::of(who.request("PATCH", path).json(&body)).await
}

fn group(name: &str, users: &[&str]) -> NewGroup {
    NewGroup {
        name: name.into(),
        users: users.iter().map(ToString::to_string).collect(),
        ..NewGroup::default()
    }
}

async fn assign(world: &World, one: Value) -> Answer {
    let answer = world
        .admin
        .post("/api/v1/assignments", json!({"assignments": [one]}))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

async fn sees(who: &Person, experiment: i64) -> bool {
    match who.get(&format!("/api/v1/experiments/{experiment}")).await.status {
        200 => true,
        404 => false,
        other => panic!("neither seen nor unseen: {other}"),
    }
}

async fn member_names(world: &World, name: &str) -> Vec<String> {
    let detail = world.admin.client.group(name, None).await.unwrap();
    detail.members.items.into_iter().map(|member| member.name).collect()
}

#[test]
fn members_hold_what_their_group_holds_until_they_leave_it_or_it_goes() {
    on_both(|world| async move {
        let (ana, bob, eve) = (
            world.person("ana").await,
            world.person("bob").await,
            world.person("eve").await,
        );
        let one = eve.submit("one").await.id.0;
        let admin = &world.admin.client;
        let made = admin
            .create_group(&group("Traffic Lights Team", &["ana", "BOB", "ana"]))
            .await
            .unwrap();
        assert_eq!((made.group.members, made.users.len()), (Some(2), 2));
        assert!(!sees(&ana, one).await);
        assign(
            &world,
            json!({"role": "Viewer", "group": "traffic lights team", "on": "workspace:default"}),
        )
        .await;
        assert!(sees(&ana, one).await && sees(&bob, one).await);
        let me = ana.client.me().await.unwrap().user;
        assert_eq!(me.groups, ["Traffic Lights Team"]);
        assert!(
            me.roles
                .iter()
                .any(|role| role.role == "Viewer" && role.through_group.as_deref() == Some("Traffic Lights Team")),
            "{:?}",
            me.roles
        );
        let there = match world.database {
            Database::Postgres => Some(bob.at(&world.another_server(|_| {}).await)),
            Database::Sqlite => None,
        };
        let change = admin
            .remove_from_group("Traffic Lights Team", &["bob".into()])
            .await
            .unwrap();
        assert_eq!((change.group.members, change.users[0].name.as_str()), (Some(1), "bob"));
        assert!(!sees(&bob, one).await && sees(&ana, one).await);
        if let Some(bob) = there {
            assert!(!sees(&bob, one).await, "on another server, too");
            admin
                .add_to_group("Traffic Lights Team", &["bob".into()])
                .await
                .unwrap();
            assert!(sees(&bob, one).await);
        }
        admin.delete_group("Traffic Lights Team").await.unwrap();
        assert!(!sees(&ana, one).await && !sees(&bob, one).await);
        assert_eq!(ana.submit("own").await.owner, "ana", "nothing else is lost");
        assert_eq!(
            world.admin.get("/api/v1/groups/Traffic%20Lights%20Team").await.status,
            404
        );
        assert_eq!(world.count("assignments WHERE group_id > 3").await, 0);
        let events = world.events("object_kind = 'group'").await;
        assert_eq!(
            events[0],
            "admin groups:create create group Traffic Lights Team allowed"
        );
        assert_eq!(
            events.last().unwrap(),
            "admin groups:delete delete group Traffic Lights Team allowed"
        );
    });
}

#[test]
fn a_group_is_seen_by_administrators_and_by_whoever_belongs_to_it() {
    on_both(|world| async move {
        let (ana, eve) = (world.person("ana").await, world.person("eve").await);
        let admin = &world.admin.client;
        admin.create_group(&group("Team", &["ana"])).await.unwrap();
        assign(
            &world,
            json!({"role": "Viewer", "group": "Team", "on": "workspace:default"}),
        )
        .await;
        let names = |person: &Person| {
            let client = person.client.clone();
            async move {
                let page = client.groups(None).await.unwrap();
                let items = page.items.into_iter();
                items.map(|group| (group.name, group.members)).collect::<Vec<_>>()
            }
        };
        assert_eq!(
            names(&world.admin).await,
            [
                ("Users".to_owned(), Some(3)),
                ("Admins".into(), Some(0)),
                ("Queue admins".into(), Some(0)),
                ("Team".into(), Some(1))
            ]
        );
        assert_eq!(names(&ana).await, [("Users".to_owned(), None), ("Team".into(), None)]);
        assert_eq!(names(&eve).await, [("Users".to_owned(), None)]);
        let detail = ana.client.group("team", None).await.unwrap();
        assert_eq!(detail.roles.len(), 1);
        assert_eq!(detail.members.items.len(), 1, "herself");
        assert_eq!(ana.client.group("Users", None).await.unwrap().members.items.len(), 1);
        // What is hidden reads as what is not there, whatever is asked of it.
        for (method, rest, body) in [
            ("GET", "", json!({})),
            ("PATCH", "", json!({"name": "x"})),
            ("DELETE", "", json!({})),
            ("POST", "/members", json!({"users": ["eve"]})),
            ("POST", "/members/remove", json!({"users": ["ana"]})),
        ] {
            let ask = |name: &str| {
                let request = eve.request(method, &format!("/api/v1/groups/{name}{rest}")).json(&body);
                Answer::of(request)
            };
            let before = world.last_event().await;
            let (hidden, missing) = (ask("Team").await, ask("Tram").await);
            assert_eq!(hidden.status, 404);
            assert_eq!(hidden.without("Team"), missing.without("Tram"));
            let events = world.events(&format!("id > {before}")).await;
            assert_eq!(
                events[0].replace("Team", "Tram"),
                events[1],
                "and leaves the same trace"
            );
        }
        // A member sees it, and may do no more.
        assert_eq!(
            patch(&ana, "/api/v1/groups/Team", json!({"name": "x"})).await.status,
            403
        );
        assert_eq!(
            ana.post("/api/v1/groups/Team/members", json!({"users": ["eve"]}))
                .await
                .status,
            403
        );
        assert_eq!(ana.delete("/api/v1/groups/Team").await.status, 403);
        assert_eq!(ana.post("/api/v1/groups", json!({"name": "Mine"})).await.status, 403);
    });
}

#[test]
fn who_administers_a_workspace_learns_of_a_group_no_more_than_its_name() {
    on_both(|world| async move {
        let boss = world.person_with("boss", "WorkspaceAdmin").await;
        let (_ana, _eve) = (world.person("ana").await, world.person("eve").await);
        let made = world
            .admin
            .client
            .create_group(&group("Secret Team", &["ana", "eve"]))
            .await;
        let id = made.unwrap().group.id;
        let give = |group: String| {
            let one = json!({"role": "Editor", "group": group, "on": "workspace:default"});
            let boss = boss.clone();
            async move { boss.post("/api/v1/assignments", json!({"assignments": [one]})).await }
        };
        let (unseen, missing) = (give(id.to_string()).await, give("900000".into()).await);
        assert_eq!(unseen.status, 404, "{}", unseen.text);
        assert_eq!(unseen.without(&id.to_string()), missing.without("900000"));
        assert_eq!(
            give("Secret Team".into()).await.status,
            200,
            "who types the name knows it"
        );
        let old = json!({"assignments": [{"role": "Editor", "group": id.to_string(), "on": "workspace:default"}]});
        assert_eq!(boss.post("/api/v1/assignments/remove", old).await.status, 404);

        let members = boss.get("/api/v1/workspaces/default/members").await;
        assert!(
            members.text.contains("Secret Team") && !members.text.contains("\"members\""),
            "{}",
            members.text
        );
        let question = json!({"permission": "experiments:update", "on": "workspace:default", "limit": 1});
        let told = boss.post("/api/v1/access/who-can", question.clone()).await.json();
        let of = |told: &Value| -> Vec<String> {
            let items = told["items"].as_array().unwrap().iter();
            items.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            (told["total"].clone(), told["unseen_groups"].clone()),
            (json!(2), json!(["Secret Team"]))
        );
        assert_eq!(of(&told), ["admin"]);
        let next = json!({"permission": "experiments:update", "on": "workspace:default", "after": told["next"]});
        let told = boss.post("/api/v1/access/who-can", next.clone()).await.json();
        assert_eq!((of(&told), told["next"].is_null()), (vec!["boss".to_owned()], true));
        // Held otherwise as well, it is told through what, but for the group.
        assert_eq!(give_user(&boss, "eve").await.status, 200);
        let told = boss.post("/api/v1/access/who-can", next.clone()).await.json();
        assert_eq!(of(&told), ["boss", "eve"]);
        assert!(!told["items"].to_string().contains("Secret Team"), "{told}");
        // Who belongs to it, or reads roles everywhere, is told all.
        let told = world.admin.post("/api/v1/access/who-can", question).await.json();
        assert_eq!(
            (told["total"].clone(), told["unseen_groups"].clone()),
            (json!(4), json!(null))
        );
        world
            .admin
            .client
            .add_to_group("Secret Team", &["boss".into()])
            .await
            .unwrap();
        let told = boss.post("/api/v1/access/who-can", next).await.json();
        assert_eq!(of(&told), ["boss", "ana", "eve"]);
        let members = boss.get("/api/v1/workspaces/default/members").await;
        assert!(members.text.contains("\"members\":3"), "{}", members.text);
    });
}

async fn give_user(by: &Person, user: &str) -> Answer {
    crate::roles::give(by, "Editor", user, "workspace:default").await
}

#[test]
fn nobody_puts_others_into_a_group_that_holds_more_than_he_does() {
    on_both(|world| async move {
        let role = json!({"name": "GroupKeeper", "permissions": ["groups:*"]});
        assert_eq!(world.admin.post("/api/v1/roles", role).await.status, 200);
        let keeper = world.person_with("keeper", "GroupKeeper").await;
        world.person("bob").await;
        let admin = &world.admin.client;
        assert_eq!(keeper.post("/api/v1/groups", json!({"name": "Team"})).await.status, 200);
        let add = |who: &Person, group: &str| {
            let (who, path) = (who.clone(), format!("/api/v1/groups/{group}/members"));
            async move { who.post(&path, json!({"users": ["bob"]})).await }
        };
        assert_eq!(add(&keeper, "Team").await.status, 200, "it holds nothing");
        let take = |group: &str| {
            let path = format!("/api/v1/groups/{group}/members/remove");
            let keeper = keeper.clone();
            async move { keeper.post(&path, json!({"users": ["bob"]})).await }
        };
        assign(
            &world,
            json!({"role": "Editor", "group": "Team", "on": "workspace:default"}),
        )
        .await;
        assert_eq!(take("Team").await.status, 200, "taking out gives nobody anything");
        let sees = json!({"role": "Viewer", "user": "keeper", "on": "workspace:default"});
        assign(&world, sees).await;
        let before = world.last_event().await;
        let refused = add(&keeper, "Team").await;
        assert_eq!(refused.status, 403);
        assert!(
            refused
                .message()
                .starts_with("Insufficient permissions: keeper needs experiments:create on workspace \"default\""),
            "{}",
            refused.message()
        );
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            ["keeper experiments:create create group Team denied"]
        );
        // Nor does a refusal tell of a place that one may not see.
        let hidden = json!({"name": "Hidden place"});
        assert_eq!(world.admin.post("/api/v1/workspaces", hidden).await.status, 200);
        let elsewhere = json!({"name": "Elsewhere"});
        assert_eq!(world.admin.post("/api/v1/groups", elsewhere).await.status, 200);
        assign(
            &world,
            json!({"role": "Editor", "group": "Elsewhere", "on": "workspace:Hidden place"}),
        )
        .await;
        let refused = add(&keeper, "Elsewhere").await;
        assert_eq!(refused.status, 403);
        assert!(!refused.text.contains("Hidden"), "{}", refused.text);
        for built_in in ["Admins", "QueueAdmins"] {
            assert_eq!(add(&keeper, built_in).await.status, 403, "{built_in}");
        }
        // Reach counts: whoever holds only his own does not give all.
        assign(
            &world,
            json!({"role": "DataScientist", "user": "keeper", "on": "workspace:default"}),
        )
        .await;
        assert_eq!(add(&keeper, "Team").await.status, 403);
        assign(
            &world,
            json!({"role": "Editor", "user": "keeper", "on": "workspace:default"}),
        )
        .await;
        assert_eq!(add(&keeper, "Team").await.status, 200);
        // What has ended gives nothing.
        assign(
            &world,
            json!({"role": "ClusterAdmin", "group": "Team", "lifetime_ms": 60_000}),
        )
        .await;
        assert_eq!(take("Team").await.status, 200);
        assert_eq!(add(&keeper, "Team").await.status, 403);
        world.pass_ms(60_000);
        assert_eq!(add(&keeper, "Team").await.status, 200);
        assert_eq!(admin.group("Team", None).await.unwrap().roles.len(), 1);
    });
}

#[test]
fn members_come_and_go_all_together_or_not_at_all() {
    on_both(|world| async move {
        for name in ["ana", "bob", "eve"] {
            world.person(name).await;
        }
        let admin = &world.admin;
        admin.client.create_group(&group("Team", &["ana"])).await.unwrap();
        let ask = |verb: &str, users: Value| {
            let path = format!("/api/v1/groups/Team/members{verb}");
            let admin = admin.clone();
            async move { admin.post(&path, json!({"users": users})).await }
        };
        let before = world.last_event().await;
        let twice = ask("", json!(["bob", "ana"])).await;
        assert_eq!(
            (twice.status, twice.message().as_str()),
            (409, "`ana` already belongs to the group `Team`; nobody was added")
        );
        let unknown = ask("", json!(["bob", "nemo", "nobody"])).await;
        assert_eq!(
            (unknown.status, unknown.message().as_str()),
            (404, "there is no user `nemo`, `nobody`")
        );
        let absent = ask("/remove", json!(["ana", "bob", "eve"])).await;
        assert_eq!(
            (absent.status, absent.message().as_str()),
            (
                404,
                "`bob`, `eve` do not belong to the group `Team`; nobody was removed"
            )
        );
        assert_eq!(ask("", json!([])).await.status, 422);
        assert_eq!(ask("/remove", json!(["nemo"])).await.status, 404);
        let nobody = admin
            .post("/api/v1/groups", json!({"name": "Other", "users": ["ana", "nemo"]}))
            .await;
        assert_eq!(nobody.message(), "there is no user `nemo`");
        assert_eq!(admin.get("/api/v1/groups/Other").await.status, 404);
        assert_eq!(member_names(&world, "Team").await, ["ana"]);
        assert_eq!(world.last_event().await, before, "what does not fit leaves no trace");
        assert_eq!(ask("", json!(["eve", "bob", "Bob"])).await.status, 200);
        assert_eq!(member_names(&world, "Team").await, ["ana", "bob", "eve"]);
        // A page at a time.
        let first = admin.get("/api/v1/groups/Team?limit=2").await.json();
        let next = first["members"]["next"].as_str().unwrap().to_owned();
        let second = admin
            .get(&format!("/api/v1/groups/Team?limit=2&after={next}"))
            .await
            .json();
        assert_eq!(
            (&second["members"]["items"][0]["name"], &second["members"]["next"]),
            (&json!("eve"), &Value::Null)
        );
        // Whom one may not know of is as unknown as who is not there; a removed user is nobody's member.
        let role = json!({"name": "GroupKeeper", "permissions": ["groups:*"]});
        assert_eq!(admin.post("/api/v1/roles", role).await.status, 200);
        let keeper = world.person_with("keeper", "GroupKeeper").await;
        let invited = NewUser {
            name: "invited".into(),
            ..NewUser::default()
        };
        admin.client.create_user(&invited).await.unwrap();
        let hidden = keeper
            .post("/api/v1/groups/Team/members", json!({"users": ["invited"]}))
            .await;
        let missing = keeper
            .post("/api/v1/groups/Team/members", json!({"users": ["nemo"]}))
            .await;
        assert_eq!(hidden.without("invited"), missing.without("nemo"));
        assert_eq!(ask("", json!(["invited"])).await.status, 200);
        admin.client.remove_user("invited").await.unwrap();
        assert_eq!(member_names(&world, "Team").await, ["ana", "bob", "eve"]);
    });
}

#[test]
fn the_built_in_groups_stay_as_they_are() {
    on_both(|world| async move {
        world.person("ana").await;
        let admin = &world.admin;
        for (path, shown) in [
            ("Users", "Users"),
            ("Admins", "Admins"),
            ("QueueAdmins", "Queue admins"),
        ] {
            let path = format!("/api/v1/groups/{path}");
            assert_eq!(admin.get(&path).await.json()["group"]["name"], shown);
            assert_eq!(admin.delete(&path).await.status, 409);
            assert_eq!(patch(admin, &path, json!({"name": "Others"})).await.status, 409);
        }
        for rest in ["members", "members/remove"] {
            let path = format!("/api/v1/groups/Users/{rest}");
            let refused = admin.post(&path, json!({"users": ["ana"]})).await;
            assert_eq!(
                (refused.status, refused.message().as_str()),
                (
                    409,
                    "everybody belongs to the group `Users`: nobody can be added or removed"
                )
            );
        }
        for taken in ["users", "ADMINS", "Queue Admins", "queueadmins"] {
            let answer = admin.post("/api/v1/groups", json!({"name": taken})).await;
            assert_eq!(answer.status, 409, "{taken}");
        }
        admin.client.add_to_group("Admins", &["ana".into()]).await.unwrap();
        assert_eq!(
            admin.client.user("ana").await.unwrap().groups,
            ["Admins"],
            "their members come and go"
        );
        let everybody = member_names(&world, "Users").await;
        assert_eq!(everybody, ["admin", "ana"]);
    });
}

#[test]
fn the_last_administrator_is_not_lost_through_a_group() {
    on_both(|world| async move {
        let boss = world.person("boss").await;
        world.person("deputy").await;
        let admin = &world.admin;
        admin.client.create_group(&group("Bosses", &["boss"])).await.unwrap();
        assign(&world, json!({"role": "ClusterAdmin", "group": "Bosses"})).await;
        let own = json!({"assignments": [{"role": "ClusterAdmin", "user": "admin"}]});
        let taken = boss.post("/api/v1/assignments/remove", own).await;
        assert_eq!(taken.status, 200, "{}", taken.text);
        let users = json!({"users": ["boss"]});
        for refused in [
            boss.post("/api/v1/groups/Bosses/members/remove", users.clone()).await,
            boss.delete("/api/v1/groups/Bosses").await,
            boss.post("/api/v1/users/boss/deactivate", json!({})).await,
            boss.delete("/api/v1/users/boss").await,
            patch(&boss, "/api/v1/users/boss", json!({"active": false})).await,
            patch(&boss, "/api/v1/users/boss", json!({"remote": true})).await,
        ] {
            assert_eq!(refused.status, 409, "{}", refused.text);
            assert!(refused.message().contains("active administrator"), "{}", refused.text);
        }
        assert_eq!(member_names_by(&boss, "Bosses").await, ["boss"]);
        boss.client.add_to_group("Bosses", &["deputy".into()]).await.unwrap();
        let out = boss.post("/api/v1/groups/Bosses/members/remove", users).await;
        assert_eq!(out.status, 200, "{}", out.text);
        assert_eq!(boss.get("/api/v1/audit").await.status, 403);
    });
}

async fn member_names_by(who: &Person, name: &str) -> Vec<String> {
    let detail = who.client.group(name, None).await.unwrap();
    detail.members.items.into_iter().map(|member| member.name).collect()
}

#[test]
fn groups_have_names_that_are_unique_whatever_their_case() {
    on_both(|world| async move {
        let admin = &world.admin;
        for name in ["Vision", "träning №5", "a/b"] {
            let made = admin.client.create_group(&group(name, &[])).await.unwrap();
            assert_eq!(admin.client.group(name, None).await.unwrap().group.id, made.group.id);
            let by_id = admin.client.group(&made.group.id.to_string(), None).await.unwrap();
            assert_eq!(by_id.group.name, name);
        }
        let taken = admin.post("/api/v1/groups", json!({"name": "vision"})).await;
        assert_eq!(
            (taken.status, taken.message().as_str()),
            (409, "there is already a group `vision` (letter case does not matter)")
        );
        let taken = patch(admin, "/api/v1/groups/a%2Fb", json!({"name": "VISION"})).await;
        assert_eq!(taken.status, 409);
        for bad in ["", " x", "12", "a\nb", ".", "..", "a  b", "a\u{A0}b", &"x".repeat(256)] {
            assert_eq!(
                admin.post("/api/v1/groups", json!({"name": bad})).await.status,
                422,
                "{bad:?}"
            );
            let changed = patch(admin, "/api/v1/groups/Vision", json!({"name": bad})).await;
            assert_eq!(changed.status, 422, "{bad:?}");
        }
        assert_eq!(patch(admin, "/api/v1/groups/Vision", json!({})).await.status, 422);
        for bad in ["two\nlines", "a\u{202E}b"] {
            let changed = patch(admin, "/api/v1/groups/Vision", json!({"description": bad})).await;
            assert_eq!(changed.status, 422, "{bad:?}");
        }
        let change = ChangeGroup {
            name: Some("VISION".into()),
            description: Some("everything with a camera".into()),
        };
        let changed = admin.client.change_group("Vision", &change).await.unwrap();
        assert_eq!(
            (changed.name.as_str(), changed.description.as_str()),
            ("VISION", "everything with a camera")
        );
        assert_eq!(admin.client.group("vision", None).await.unwrap().group.name, "VISION");
        assert_eq!(
            world.events("object_kind = 'group' AND verb = 'update'").await,
            ["admin groups:update update group Vision allowed"]
        );
    });
}
