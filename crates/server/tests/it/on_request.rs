//! Access on request, and break-glass.

use bailiwick_api::workspaces::NewWorkspace;
use serde_json::{Value, json};

use crate::roles::{give, patch};
use crate::world::{Answer, PASSWORD, Person, World, eventually, on_both};

pub const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

async fn workspace(world: &World, name: &str) {
    let new = NewWorkspace {
        name: name.into(),
        ..NewWorkspace::default()
    };
    world.admin.client.create_workspace(&new).await.unwrap();
}

async fn ask(who: &Person, role: &str, on: &str, hours: i64) -> Answer {
    let on = if on.is_empty() { "installation" } else { on };
    let body = json!({"role": role, "on": on, "lifetime_ms": hours * HOUR_MS, "why": "the night run fails"});
    who.post("/api/v1/access/requests", body).await
}

async fn asked(who: &Person, role: &str, on: &str, hours: i64) -> i64 {
    let answer = ask(who, role, on, hours).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["id"].as_i64().unwrap()
}

async fn decide(who: &Person, id: i64, act: &str, body: Value) -> Answer {
    who.post(&format!("/api/v1/access/requests/{id}/{act}"), body).await
}

/// The numbers of the requests that somebody sees.
async fn sees(who: &Person, query: &str) -> Vec<i64> {
    let page = who.get(&format!("/api/v1/access/requests{query}")).await.json();
    let items = page["items"].as_array().unwrap();
    items.iter().map(|one| one["id"].as_i64().unwrap()).collect()
}

async fn with_session(world: &World, who: &Person) -> Person {
    let body = json!({"name": who.name, "password": PASSWORD});
    let session = world.nobody().post("/api/v1/login", body).await.json();
    Person {
        client: who.client.with_key(session["token"].as_str()),
        ..who.clone()
    }
}

#[test]
fn what_was_asked_for_is_held_for_the_time_that_was_approved() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        let (ana, ben, boss) = (
            world.person("ana").await,
            world.person("ben").await,
            world.person("boss").await,
        );
        assert_eq!(
            give(&world.admin, "WorkspaceAdmin", "boss", "workspace:Stop Signs")
                .await
                .status,
            200
        );
        let before = world.last_event().await;
        let id = asked(&ana, "Editor", "workspace:Stop Signs", 8).await;
        let look = || async { ana.get("/api/v1/workspaces/Stop%20Signs").await.status };
        assert_eq!(look().await, 404);
        assert_eq!((sees(&boss, "").await, sees(&ana, "").await), (vec![id], vec![id]));
        assert_eq!(sees(&ben, "?all=true").await, [0; 0], "it is none of his business");
        assert_eq!(
            decide(&ben, id, "approve", json!({})).await.without(&id.to_string()),
            decide(&ben, 900, "approve", json!({})).await.without("900")
        );
        let own = decide(&ana, id, "approve", json!({})).await;
        assert_eq!(
            (own.status, own.code().as_str()),
            (409, "conflict"),
            "nobody approves his own"
        );
        let longer = decide(&boss, id, "approve", json!({"lifetime_ms": 9 * HOUR_MS})).await;
        assert_eq!(longer.status, 422);
        let approved = decide(
            &boss,
            id,
            "approve",
            json!({"lifetime_ms": 2 * HOUR_MS, "answer": "until two"}),
        )
        .await
        .json();
        assert_eq!(
            (&approved["state"], &approved["decided_by"], &approved["in_force"]),
            (&json!("approved"), &json!("boss"), &json!(true))
        );
        assert_eq!(approved["until"], json!(world.now().plus_ms(2 * HOUR_MS)));
        assert_eq!(look().await, 200);
        assert_eq!(
            decide(&boss, id, "decline", json!({})).await.status,
            409,
            "it is decided"
        );
        assert_eq!(
            (sees(&boss, "").await, sees(&boss, "?all=true").await),
            (vec![], vec![id])
        );
        let held = world.admin.get("/api/v1/assignments?user=ana&role=Editor").await.json();
        assert_eq!(held["items"][0]["reason"], format!("request {id}: the night run fails"));

        world.pass_ms(2 * HOUR_MS - 1);
        assert_eq!(look().await, 200);
        world.pass_ms(1);
        assert_eq!(look().await, 404, "it ends by itself");
        let mine = ana.get("/api/v1/access/requests?mine=true").await.json();
        assert_eq!(
            (&mine["items"][0]["state"], &mine["items"][0]["in_force"]),
            (&json!("approved"), &json!(false))
        );
        eventually("the end is on record", || async {
            let events = world.events(&format!("id > {before} AND outcome = 'allowed'")).await;
            (events.len() >= 3).then_some(events)
        })
        .await;
        assert_eq!(
            world.events(&format!("id > {before} AND outcome = 'allowed'")).await,
            [
                format!("ana roles:assign request access request {id} allowed"),
                "boss roles:assign approve user ana allowed".into(),
                "system: end of assignments roles:assign expire user ana allowed".into(),
            ]
        );
    });
}

#[test]
fn asking_for_what_one_may_not_see_reads_as_asking_for_what_is_not_there() {
    on_both(|world| async move {
        workspace(&world, "Secret").await;
        workspace(&world, "Other").await;
        let (ana, boss) = (world.person("ana").await, world.person("boss").await);
        give(&world.admin, "WorkspaceAdmin", "boss", "workspace:Other").await;
        let answer = |name: &'static str| {
            let ana = ana.clone();
            async move {
                let answer = ask(&ana, "Viewer", &format!("workspace:{name}"), 1).await;
                let mut body = answer.json();
                let id = body["id"].take().as_i64().unwrap();
                (id, answer.status, body.to_string().replace(name, "…"))
            }
        };
        let (there, missing) = (answer("Secret").await, answer("Nowhere").await);
        assert_eq!((there.1, &there.2), (missing.1, &missing.2));
        assert_eq!(sees(&boss, "?all=true").await, [0; 0], "neither is in his workspace");
        assert_eq!(sees(&world.admin, "").await, [missing.0, there.0]);
        let refused = decide(&world.admin, missing.0, "approve", json!({})).await;
        assert_eq!(refused.status, 409);
        assert!(
            refused.message().contains("there is no such thing"),
            "{}",
            refused.message()
        );
        assert_eq!(
            decide(&world.admin, missing.0, "decline", json!({"answer": "?"}))
                .await
                .status,
            200
        );
        assert_eq!(decide(&world.admin, there.0, "approve", json!({})).await.status, 200);
        assert_eq!(ana.get("/api/v1/workspaces/Secret").await.status, 200);
        let mine = ana.get("/api/v1/access/requests?mine=true").await.json();
        assert_eq!(
            (&mine["items"][0]["state"], &mine["items"][0]["answer"]),
            (&json!("declined"), &json!("?"))
        );
    });
}

#[test]
fn whoever_decides_holds_what_is_asked_for_himself() {
    on_both(|world| async move {
        let (ana, boss) = (
            world.person("ana").await,
            world.person_with("boss", "Administrator").await,
        );
        let queues = asked(&ana, "QueueAdmin", "", 1).await;
        let tokens = asked(&ana, "TokenCreator", "", 1).await;
        assert_eq!(
            sees(&boss, "").await,
            [tokens],
            "an Administrator has no say over queues"
        );
        assert_eq!(decide(&boss, queues, "approve", json!({})).await.status, 404);
        assert_eq!(decide(&boss, queues, "decline", json!({})).await.status, 404);
        let narrow = json!({"permissions": ["roles:read", "users:read"]});
        let key = boss.post("/api/v1/tokens", narrow).await.json();
        let with_key = Person {
            client: boss.client.with_key(key["secret"].as_str()),
            ..boss.clone()
        };
        assert_eq!(sees(&with_key, "").await, [0; 0]);
        assert_eq!(decide(&with_key, tokens, "approve", json!({})).await.status, 404);
        assert_eq!(decide(&boss, tokens, "approve", json!({})).await.status, 200);
        world.admin.client.deactivate_user("ana").await.unwrap();
        let inactive = decide(&world.admin, queues, "approve", json!({})).await;
        assert_eq!(
            (inactive.status, inactive.message().as_str()),
            (409, format!("request {queues} is withdrawn by admin already").as_str())
        );
    });
}

#[test]
fn a_second_approval_lets_a_role_last_longer_and_never_shorter() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        let ana = world.person("ana").await;
        let until = || async {
            let held = world.admin.get("/api/v1/assignments?user=ana&role=Viewer").await.json();
            assert_eq!(held["items"].as_array().unwrap().len(), 1, "{held}");
            held["items"][0]["until"].clone()
        };
        for (hours, status, ends) in [(2, 200, 2), (1, 409, 2), (4, 200, 4)] {
            let id = asked(&ana, "Viewer", "workspace:Stop Signs", hours).await;
            assert_eq!(decide(&world.admin, id, "approve", json!({})).await.status, status);
            assert_eq!(until().await, json!(world.now().plus_ms(ends * HOUR_MS)));
            decide(&world.admin, id, "decline", json!({})).await;
        }
        let mine = ana.get("/api/v1/access/requests?mine=true").await.json();
        assert_eq!(mine["items"].as_array().unwrap().len(), 3);
    });
}

#[test]
fn what_nobody_answers_is_over_after_a_week_and_what_is_taken_back_at_once() {
    on_both(|world| async move {
        let (ana, boss) = (
            world.person("ana").await,
            world.person_with("boss", "ClusterAdmin").await,
        );
        let late = asked(&ana, "TokenCreator", "", 1).await;
        let back = asked(&ana, "WorkspaceCreator", "", 1).await;
        assert_eq!(
            decide(&boss, back, "withdraw", json!({})).await.status,
            404,
            "only whoever asked"
        );
        assert_eq!(
            decide(&ana, back, "withdraw", json!({})).await.json()["state"],
            "withdrawn"
        );
        assert_eq!(decide(&ana, back, "withdraw", json!({})).await.status, 409);
        world.pass_ms(7 * DAY_MS - 1);
        assert_eq!(sees(&boss, "").await, [late]);
        world.pass_ms(1);
        assert_eq!(sees(&boss, "").await, [0; 0]);
        let refused = decide(&boss, late, "approve", json!({})).await;
        assert_eq!(
            (refused.status, refused.message()),
            (409, format!("request {late} is expired already"))
        );
        let events = eventually("the end is on record", || async {
            let events = world.events("verb = 'expire'").await;
            (!events.is_empty()).then_some(events)
        })
        .await;
        let expected = format!("system: end of assignments roles:assign expire access request {late} allowed");
        assert_eq!(events, [expected]);
    });
}

#[test]
fn requests_have_bounds() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let refused = |body: Value| {
            let ana = ana.clone();
            async move {
                let answer = ana.post("/api/v1/access/requests", body).await;
                assert_eq!(answer.status, 422, "{}", answer.text);
                answer.message()
            }
        };
        let role = refused(json!({"role": "Editr", "lifetime_ms": HOUR_MS, "why": "x"})).await;
        assert_eq!(role, "there is no role `Editr`; did you mean `Editor`?");
        refused(json!({"role": "Editor", "lifetime_ms": 91 * DAY_MS, "why": "x"})).await;
        refused(json!({"role": "Editor", "lifetime_ms": 1000, "why": "x"})).await;
        refused(json!({"role": "Editor", "lifetime_ms": HOUR_MS, "why": " "})).await;
        refused(json!({"role": "Editor", "lifetime_ms": HOUR_MS, "why": "x".repeat(1001)})).await;
        refused(json!({"role": "Editor", "lifetime_ms": HOUR_MS, "why": "x", "on": "planet:earth"})).await;
        refused(json!({"role": "Editor", "lifetime_ms": HOUR_MS, "why": "x", "on": "experiment:train"})).await;
        refused(json!({"role": "ClusterAdmin", "lifetime_ms": HOUR_MS, "why": "x", "on": "workspace:default"})).await;
        asked(&ana, "Editor", "workspace:w0", 1).await;
        assert_eq!(
            ask(&ana, "editor", "workspace:w0", 2).await.status,
            409,
            "that waits already"
        );
        for number in 1..20 {
            asked(&ana, "Editor", &format!("workspace:w{number}"), 1).await;
        }
        assert_eq!(ask(&ana, "Editor", "workspace:w20", 1).await.status, 409);
        assert_eq!(sees(&world.admin, "?limit=7").await.len(), 7);
        let page = world.admin.get("/api/v1/access/requests?limit=7").await.json();
        let next = page["next"].as_str().unwrap();
        assert_eq!(sees(&world.admin, &format!("?after={next}")).await.len(), 13);
    });
}

#[test]
fn break_glass_opens_everything_for_a_while_and_loudly() {
    on_both(|world| async move {
        let (ana, ben) = (world.person("ana").await, world.person("ben").await);
        let body = json!({"why": "the directory is down", "password": PASSWORD});
        let pull = async |who: &Person, body: &Value| who.post("/api/v1/access/break-glass", body.clone()).await;
        let bens = with_session(&world, &ben).await;
        assert_eq!(pull(&bens, &body).await.status, 403, "nobody holds it at first");
        assert_eq!(give(&world.admin, "BreakGlass", "ana", "").await.status, 200);
        let before = world.last_event().await;
        let by_key = pull(&ana, &body).await;
        assert_eq!(
            (by_key.status, by_key.message().as_str()),
            (403, "break-glass is opened from a session, not with an API key")
        );
        let anas = with_session(&world, &ana).await;
        let wrong = json!({"why": "the directory is down", "password": "wrong horse"});
        assert_eq!(pull(&anas, &wrong).await.message(), "the password is missing or wrong");
        let too_long = json!({"why": "x", "password": PASSWORD, "lifetime_ms": 5 * HOUR_MS});
        assert_eq!(pull(&anas, &too_long).await.status, 422);
        let all_users = || async { anas.get("/api/v1/users?all=true").await };
        assert_eq!(anas.get("/api/v1/audit").await.status, 403);
        let broken = pull(&anas, &body).await;
        assert_eq!(broken.status, 200, "{}", broken.text);
        assert_eq!(broken.json()["until"], json!(world.now().plus_ms(HOUR_MS)));
        assert_eq!(anas.get("/api/v1/audit").await.status, 200);
        let until = world.now().plus_ms(HOUR_MS).to_string();
        assert_eq!(
            all_users().await.headers["x-bailiwick-break-glass"],
            until,
            "each answer says so"
        );
        assert!(
            !bens
                .get("/api/v1/me")
                .await
                .headers
                .contains_key("x-bailiwick-break-glass")
        );
        assert_eq!(ana.get("/api/v1/me").await.json()["break_glass_until"], until);
        let listed = world.admin.get("/api/v1/access/requests?all=true").await.json();
        assert_eq!(
            (
                &listed["items"][0]["kind"],
                &listed["items"][0]["user"],
                &listed["items"][0]["in_force"]
            ),
            (&json!("break-glass"), &json!("ana"), &json!(true))
        );
        assert_eq!(sees(&bens, "?all=true").await, [0; 0]);

        world.pass_ms(HOUR_MS / 2);
        let again = json!({"why": "still down", "password": PASSWORD, "lifetime_ms": HOUR_MS});
        assert_eq!(
            pull(&anas, &again).await.status,
            200,
            "it may go on, with the password again"
        );
        let ended = anas.post("/api/v1/access/break-glass/end", json!({})).await;
        assert_eq!((ended.status, &ended.json()["in_force"]), (200, &json!(false)));
        assert!(!ended.headers.contains_key("x-bailiwick-break-glass"));
        assert_eq!(anas.get("/api/v1/audit").await.status, 403);
        assert_eq!(anas.post("/api/v1/access/break-glass/end", json!({})).await.status, 409);
        assert_eq!(
            world
                .events(&format!("id > {before} AND verb LIKE 'break-glass%'"))
                .await,
            [
                "ana cluster:break-glass break-glass installation  denied",
                "ana cluster:break-glass break-glass installation  denied",
                "ana roles:assign break-glass user ana allowed",
                "ana roles:assign break-glass user ana allowed",
                "ana roles:assign break-glass-end user ana allowed",
            ]
        );
    });
}

#[test]
fn nothing_happens_to_an_assignment_from_break_glass_but_its_end() {
    on_both(|world| async move {
        let ana = world.person_with("ana", "BreakGlass").await;
        let anas = with_session(&world, &ana).await;
        let body = json!({"why": "x", "password": PASSWORD, "lifetime_ms": HOUR_MS});
        let pull = async || anas.post("/api/v1/access/break-glass", body.clone()).await.status;
        assert_eq!(pull().await, 200);
        let held = || async {
            world
                .admin
                .get("/api/v1/assignments?user=ana&role=ClusterAdmin")
                .await
                .json()
        };
        let one = held().await["items"][0].clone();
        let path = format!("/api/v1/assignments/{}", one["id"]);
        for change in [
            json!({"no_end": true}),
            json!({"lifetime_ms": 1000}),
            json!({"role": "Viewer"}),
        ] {
            for who in [&anas, &world.admin] {
                let answer = patch(who, &path, change.clone()).await;
                assert_eq!(answer.status, 409, "{}", answer.text);
                assert!(answer.message().contains("`ml access break-glass --end`"));
            }
        }
        let endless = json!({"assignments": [{"role": "ClusterAdmin", "user": "ana"}, {"role": "ClusterAdmin", "user": "admin"}]});
        let planned = anas.post("/api/v1/access/plan", json!({"document": endless})).await;
        assert_eq!(planned.status, 422, "{}", planned.text);
        assert!(planned.text.contains("ml access break-glass --end"), "{}", planned.text);
        let request = asked(&ana, "ClusterAdmin", "", 8).await;
        assert_eq!(decide(&world.admin, request, "approve", json!({})).await.status, 409);
        assert_eq!(held().await["items"][0], one);

        assert_eq!(world.admin.delete(&path).await.status, 200, "it can be taken away");
        let after = anas.get("/api/v1/me").await;
        assert!(!after.headers.contains_key("x-bailiwick-break-glass"));
        // What is given afterwards is no break-glass, and can be changed as any other.
        let given = json!({"role": "ClusterAdmin", "user": "ana", "lifetime_ms": HOUR_MS});
        let given = world
            .admin
            .post("/api/v1/assignments", json!({"assignments": [given]}))
            .await
            .json();
        let me = anas.get("/api/v1/me").await;
        assert!(!me.headers.contains_key("x-bailiwick-break-glass"));
        assert_eq!(me.json()["break_glass_until"], Value::Null);
        assert_eq!(anas.post("/api/v1/access/break-glass/end", json!({})).await.status, 409);
        let path = format!("/api/v1/assignments/{}", given["items"][0]["id"]);
        let changed = patch(&world.admin, &path, json!({"no_end": true})).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
    });
}

#[test]
fn what_was_given_on_request_and_then_changed_is_an_assignment_as_any_other() {
    on_both(|world| async move {
        workspace(&world, "Stop Signs").await;
        let ana = world.person("ana").await;
        let id = asked(&ana, "Editor", "workspace:Stop Signs", 8).await;
        assert_eq!(decide(&world.admin, id, "approve", json!({})).await.status, 200);
        let exported = || async {
            let document = world.admin.get("/api/v1/access/export").await.text;
            document.contains("Editor") && document.contains("\"ana\",\"workspace\"")
        };
        assert!(!exported().await);
        let held = world.admin.get("/api/v1/assignments?user=ana&role=Editor").await.json();
        let path = format!("/api/v1/assignments/{}", held["items"][0]["id"]);
        assert_eq!(patch(&world.admin, &path, json!({"no_end": true})).await.status, 200);
        assert!(exported().await);
        let mine = ana.get("/api/v1/access/requests?mine=true").await.json();
        assert_eq!(mine["items"][0]["state"], "approved");
    });
}

#[test]
fn a_narrowed_key_asks_for_nothing_in_its_owners_name() {
    on_both(|world| async move {
        let boss = world.person("boss").await;
        let id = asked(&boss, "Editor", "workspace:default", 1).await;
        for narrow in [
            json!({"permissions": ["experiments:create"]}),
            json!({"workspaces": ["default"]}),
        ] {
            let key = boss.post("/api/v1/tokens", narrow).await;
            assert_eq!(key.status, 200, "{}", key.text);
            let key = key.json()["secret"].as_str().unwrap().to_owned();
            let with_key = Person {
                client: boss.client.with_key(Some(&key)),
                key,
                ..boss.clone()
            };
            let before = world.last_event().await;
            let refused = ask(&with_key, "ClusterAdmin", "", 1).await;
            assert_eq!(refused.status, 403, "{}", refused.text);
            assert!(refused.message().contains("this key is narrowed"));
            assert_eq!(decide(&with_key, id, "withdraw", json!({})).await.status, 403);
            assert_eq!(world.events(&format!("id > {before}")).await.len(), 2);
        }
        assert_eq!(sees(&boss, "?mine=true").await, [id]);
        assert_eq!(decide(&boss, id, "withdraw", json!({})).await.status, 200);
    });
}

#[test]
fn break_glass_ends_by_itself() {
    on_both(|world| async move {
        let ana = world.person_with("ana", "BreakGlass").await;
        let anas = with_session(&world, &ana).await;
        let body = json!({"why": "x", "password": PASSWORD, "lifetime_ms": HOUR_MS / 2});
        assert_eq!(anas.post("/api/v1/access/break-glass", body.clone()).await.status, 200);
        world.pass_ms(HOUR_MS / 2 - 1);
        assert_eq!(anas.get("/api/v1/audit").await.status, 200);
        world.pass_ms(1);
        let after = anas.get("/api/v1/audit").await;
        assert_eq!(after.status, 403);
        assert!(!after.headers.contains_key("x-bailiwick-break-glass"));
        let admins = with_session(&world, &world.admin).await;
        let already = admins.post("/api/v1/access/break-glass", body).await;
        assert_eq!(
            (already.status, already.message().as_str()),
            (409, "ClusterAdmin is held globally already")
        );
    });
}

#[test]
fn only_who_holds_everything_gives_break_glass_or_speaks_for_its_holders() {
    on_both(|world| async move {
        let boss = world.person_with("boss", "Administrator").await;
        let ana = world.person("ana").await;
        assert_eq!(give(&boss, "BreakGlass", "boss", "").await.status, 403);
        assert_eq!(
            give(&world.admin, "BreakGlass", "ana", "workspace:default")
                .await
                .status,
            422
        );
        assert_eq!(give(&world.admin, "BreakGlass", "ana", "").await.status, 200);
        for (path, body) in [
            ("/api/v1/users/ana/link", json!({})),
            (
                "/api/v1/users/ana/password",
                json!({"new_password": "another horse battery"}),
            ),
            ("/api/v1/tokens", json!({"user": "ana"})),
        ] {
            assert_eq!(boss.post(path, body).await.status, 403, "{path}");
        }
        let made = world
            .admin
            .post("/api/v1/groups", json!({"name": "Firefighters"}))
            .await;
        assert_eq!(made.status, 200);
        let list = json!({"assignments": [{"role": "BreakGlass", "group": "Firefighters"}]});
        assert_eq!(world.admin.post("/api/v1/assignments", list).await.status, 200);
        let joined = boss
            .post("/api/v1/groups/Firefighters/members", json!({"users": ["boss"]}))
            .await;
        assert_eq!(joined.status, 403);
        let role = json!({"name": "spark", "permissions": ["cluster:break-glass"]});
        boss.post("/api/v1/roles", role).await;
        assert_eq!(give(&boss, "spark", "boss", "").await.status, 403);
        // Nor does holding it oneself make one its giver.
        assert_eq!(give(&world.admin, "BreakGlass", "boss", "").await.status, 200);
        assert_eq!(give(&boss, "BreakGlass", &ana.name, "").await.status, 403);
        assert_eq!(give(&boss, "spark", "boss", "").await.status, 403);
    });
}

#[test]
fn what_somebody_waits_for_is_taken_back_when_the_account_ends() {
    on_both(|world| async move {
        let people = [
            world.person("ana").await,
            world.person("ben").await,
            world.person("eve").await,
            world.person("kim").await,
        ];
        let mut ids = Vec::new();
        for who in &people {
            ids.push(asked(who, "Editor", "workspace:default", 8).await);
        }
        let before = world.last_event().await;
        world.admin.client.deactivate_user("ana").await.unwrap();
        assert_eq!(world.admin.delete("/api/v1/users/ben").await.status, 200);
        let edited = patch(&world.admin, "/api/v1/users/eve", json!({"active": false})).await;
        assert_eq!(edited.status, 200, "{}", edited.text);
        let document = json!({"document": {"users": [{"name": "kim", "state": "deactivated"}]}});
        let applied = world.admin.post("/api/v1/access/apply", document).await;
        assert_eq!(applied.status, 200, "{}", applied.text);
        assert_eq!(sees(&world.admin, "").await, Vec::<i64>::new());
        let all = world.admin.get("/api/v1/access/requests?all=true").await.json();
        for one in all["items"].as_array().unwrap() {
            assert_eq!(
                (&one["state"], &one["decided_by"], &one["answer"]),
                (&json!("withdrawn"), &json!("admin"), &json!("the account was ended"))
            );
        }
        let events = world.events(&format!("id > {before} AND verb = 'withdraw'")).await;
        let told = |id: &i64| format!("admin roles:assign withdraw access request {id} allowed");
        assert_eq!(events, ids.iter().map(told).collect::<Vec<_>>());
        assert_eq!(decide(&world.admin, ids[0], "approve", json!({})).await.status, 409);
    });
}
