//! Keys, sessions and signing in.

use std::time::Duration;

use bailiwick_api::key;
use bailiwick_api::tokens::NewToken;
use serde_json::json;

use crate::world::{Answer, PASSWORD, Person, World, eventually, on_both};

async fn me_with(world: &World, bearer: &str) -> Answer {
    Answer::of(
        world
            .nobody()
            .request("GET", "/api/v1/me")
            .header("authorization", format!("Bearer {bearer}")),
    )
    .await
}

#[test]
fn a_key_opens_plain_and_hashed_and_what_is_stored_opens_nothing() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let stored: String = sqlx::Row::get(
            &world.rows("SELECT hash FROM credentials WHERE kind = 'key'").await[0],
            0,
        );
        let wire = key::wire_form(&ana.key);
        assert_eq!(me_with(&world, &ana.key).await.status, 200);
        assert_eq!(me_with(&world, &wire).await.status, 200);
        let last = if ana.key.ends_with('a') { 'b' } else { 'a' };
        let mistyped = format!("{}{last}", &ana.key[..ana.key.len() - 1]);
        for bad in [
            stored.as_str(),
            &format!("mlh_{stored}"),
            &mistyped,
            &wire[..wire.len() - 1],
            "ml_",
            "mlh_",
            "your-api-key-here",
            &"x".repeat(5000),
        ] {
            let answer = me_with(&world, bad).await;
            assert_eq!(
                (answer.status, answer.message().as_str()),
                (401, "Invalid API key"),
                "{bad}"
            );
            assert!(answer.headers.contains_key("www-authenticate"));
        }
        let none = world.nobody().get("/api/v1/me").await;
        assert!(none.message().starts_with("Invalid API key"));
        let basic = world
            .nobody()
            .request("GET", "/api/v1/me")
            .basic_auth("ana", Some(PASSWORD));
        assert_eq!(Answer::of(basic).await.status, 401);
        let text = world.rows("SELECT hash, label FROM credentials").await.len();
        assert!(text >= 2);
    });
}

#[test]
fn keys_end_by_the_clock_and_by_revoking() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let new = NewToken {
            label: "short".into(),
            lifetime_ms: Some(60_000),
            ..NewToken::default()
        };
        let short = ana.client.create_token(&new).await.unwrap();
        assert_eq!(short.token.expires_at, Some(world.now().plus_ms(60_000)));
        world.pass_ms(59_999);
        assert_eq!(me_with(&world, &short.secret).await.status, 200);
        world.pass_ms(1);
        assert_eq!(me_with(&world, &short.secret).await.status, 401);
        let labels = |all| {
            let ana = ana.clone();
            async move {
                let page = ana.client.tokens(None, all, None).await.unwrap();
                page.items.into_iter().map(|token| token.label).collect::<Vec<_>>()
            }
        };
        assert_eq!(labels(false).await, ["test"]);
        assert_eq!(labels(true).await, ["short", "test"]);
        let long = ana
            .client
            .create_token(&NewToken {
                label: "long".into(),
                ..NewToken::default()
            })
            .await
            .unwrap();
        assert_eq!(me_with(&world, &long.secret).await.status, 200);
        let revoked = ana.client.revoke_token(long.token.id).await.unwrap();
        assert_eq!(revoked.revoked_at, Some(world.now()));
        assert_eq!(me_with(&world, &long.secret).await.status, 401);
        world.pass_ms(-3_600_000);
        assert_eq!(
            me_with(&world, &long.secret).await.status,
            401,
            "revoked is revoked whatever the clock says"
        );
        let token = &ana.client.tokens(None, true, None).await.unwrap().items[2];
        assert!(token.last_used_at.is_some());
        for lifetime in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(
                ana.post("/api/v1/tokens", json!({"lifetime_ms": lifetime}))
                    .await
                    .status,
                422
            );
        }
        assert_eq!(
            ana.post("/api/v1/tokens", json!({"label": "a\u{7}b"})).await.status,
            422
        );
    });
}

#[test]
fn a_key_makes_no_key_that_outlives_it() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let hour = NewToken {
            label: "hour".into(),
            lifetime_ms: Some(3_600_000),
            ..NewToken::default()
        };
        let hour = ana.client.create_token(&hour).await.unwrap();
        let with_hour = Person {
            client: ana.client.with_key(Some(&hour.secret)),
            ..ana.clone()
        };
        for longer in [json!({}), json!({"lifetime_ms": 3_600_001})] {
            let refused = with_hour.post("/api/v1/tokens", longer).await;
            assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"));
        }
        assert_eq!(
            with_hour
                .post("/api/v1/tokens", json!({"lifetime_ms": 3_600_000}))
                .await
                .status,
            200
        );
        let session = world
            .nobody()
            .post("/api/v1/login", json!({"name": "ana", "password": PASSWORD}))
            .await
            .json();
        let with_session = Person {
            client: ana.client.with_key(session["token"].as_str()),
            ..ana.clone()
        };
        assert_eq!(
            with_session.post("/api/v1/tokens", json!({})).await.status,
            200,
            "behind a session stands a password"
        );
    });
}

#[test]
fn a_session_ends_by_the_clock_and_by_signing_out() {
    on_both(|world| async move {
        world.person("ana").await;
        let sign_in = || async {
            let session = world
                .nobody()
                .post("/api/v1/login", json!({"name": "ana", "password": PASSWORD}))
                .await
                .json();
            session["token"].as_str().unwrap().to_owned()
        };
        let (one, two) = (sign_in().await, sign_in().await);
        assert!(one.starts_with("mls_"));
        let first = world.nobody().client.with_key(Some(&one));
        assert_eq!(first.me().await.unwrap().credential, "session");
        first.logout().await.unwrap();
        assert_eq!(first.me().await.unwrap_err().status(), Some(401));
        assert_eq!(me_with(&world, &two).await.status, 200);
        world.pass_ms(3_600_000);
        assert_eq!(me_with(&world, &two).await.status, 401);
    });
}

#[test]
fn a_key_cannot_be_signed_out() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let answer = ana.post("/api/v1/logout", json!({})).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"));
        assert_eq!(ana.get("/api/v1/me").await.status, 200);
    });
}

#[test]
fn failed_sign_ins_cost_time_and_a_right_one_is_forgiven() {
    on_both(|world| async move {
        world.person("ana").await;
        let attempt = |name: &str, password: &str| {
            let body = json!({"name": name, "password": password});
            let nobody = world.nobody();
            async move { nobody.post("/api/v1/login", body).await }
        };
        let unknown = attempt("nemo", "wrong horse battery").await;
        let wrong = attempt("ana", "wrong horse battery").await;
        assert_eq!(
            unknown.without("nemo"),
            wrong.without("ana"),
            "which names exist is not told"
        );
        for _ in 0..4 {
            assert_eq!(attempt("ana", "wrong horse battery").await.status, 401);
        }
        let stopped = attempt("ana", PASSWORD).await;
        assert_eq!((stopped.status, stopped.code().as_str()), (429, "too_many_attempts"));
        let wait: u64 = stopped.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=3).contains(&wait), "{wait}");
        assert_eq!(attempt("admin", PASSWORD).await.status, 200, "others sign in as ever");
        eventually("the time is over", || async {
            (attempt("ana", PASSWORD).await.status == 200).then_some(())
        })
        .await;
        for _ in 0..4 {
            assert_eq!(attempt("ana", "wrong horse battery").await.status, 401, "counted anew");
        }
        let bad_links = world.nobody();
        let mut last = 0;
        for _ in 0..6 {
            last = bad_links
                .post("/api/v1/login/link", json!({"token": "mll_x"}))
                .await
                .status;
        }
        assert_eq!(last, 429);
        let denied = world.events("action = 'sign-in' AND outcome = 'denied'").await;
        assert!(
            denied.len() >= 10 && !denied.iter().any(|event| event.contains("horse")),
            "{denied:?}"
        );
    });
}

#[test]
fn many_attempts_at_once_are_no_way_round_the_delay() {
    on_both(|world| async move {
        world.person("ana").await;
        let mut attempts = Vec::new();
        for number in 0..40 {
            let nobody = world.nobody();
            let password = format!("wrong horse {number}");
            attempts.push(tokio::spawn(async move {
                nobody
                    .post("/api/v1/login", json!({"name": "ana", "password": password}))
                    .await
                    .status
            }));
        }
        let mut tried = 0;
        for attempt in attempts {
            tried += usize::from(attempt.await.unwrap() != 429);
        }
        // Five are free; a slow machine gives time for a few more as the delays pass, two at once.
        assert!(tried <= 16, "{tried} of 40 attempts counted");
    });
}

#[test]
fn a_job_reads_its_own_experiment_and_nothing_else() {
    on_both(|world| async move {
        let boss = world.person_with("boss", "ClusterAdmin").await;
        let one = boss.submit("one").await;
        let two = boss.submit("two").await;
        let agent = world.agent("machine-1", 1).await;
        let lease = agent.take(1).await.remove(0);
        assert_eq!(lease.experiment, one.id);
        let job = Person {
            client: boss.client.with_key(Some(&lease.token)),
            ..boss.clone()
        };
        assert_eq!(job.get("/api/v1/experiments/one").await.status, 200);
        let (other, missing) = (
            job.get(&format!("/api/v1/experiments/{}", two.id)).await,
            job.get("/api/v1/experiments/900").await,
        );
        assert_eq!(
            other.without(&two.id.to_string()),
            missing.without("900"),
            "though its owner is an administrator"
        );
        assert_eq!(
            job.get("/api/v1/experiments").await.json()["items"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(job.post("/api/v1/users", json!({"name": "x"})).await.status, 403);
        assert_eq!(job.post("/api/v1/tokens", json!({})).await.status, 403);
        assert_eq!(job.get("/api/v1/audit").await.status, 403);
        assert_eq!(job.get("/api/v1/users").await.status, 403, "not even names");
        job.get("/api/v1/me").await;
        let events = world
            .admin
            .get("/api/v1/audit?denied=true&user=boss&limit=1")
            .await
            .json();
        let event = &events["items"][0];
        assert_eq!(
            event["principal"],
            format!("machine-1-account (job of experiment {})", one.id),
            "the job did it"
        );
        assert_eq!(event["on_behalf_of"], "boss");
        agent.started(crate::world::held(&lease)).await.unwrap();
        agent.ended(crate::world::held(&lease), 0).await.unwrap();
        assert_eq!(job.get("/api/v1/me").await.status, 401, "it dies with the job");
    });
}

#[test]
fn a_change_whose_requester_hangs_up_holds_all_the_same() {
    on_both(|world| async move {
        for round in 0..20u64 {
            let name = format!("user{round}");
            let made = world
                .admin
                .post("/api/v1/users", json!({"name": name, "password": PASSWORD}))
                .await;
            assert_eq!(made.status, 200);
            let key = world.admin.post("/api/v1/tokens", json!({"user": name})).await.json();
            let secret = key["secret"].as_str().unwrap().to_owned();
            assert_eq!(me_with(&world, &secret).await.status, 200);
            let request = world
                .admin
                .request("POST", &format!("/api/v1/users/{name}/deactivate"))
                .json(&json!({}));
            let _ = tokio::time::timeout(Duration::from_micros(300 * round), request.send()).await;
            // Either it happened, and then it holds, or it did not.
            let state = || async {
                let row = world
                    .rows(format!("SELECT state FROM principals WHERE name = '{name}'"))
                    .await;
                sqlx::Row::get::<String, _>(&row[0], 0)
            };
            if state().await == "deactivated" {
                // The server may still be about to count its own commit.
                eventually("the key is dead", || async {
                    (me_with(&world, &secret).await.status == 401).then_some(())
                })
                .await;
            }
        }
    });
}

/// The same person with a new key for which `body` asks.
async fn with_key(who: &Person, body: serde_json::Value) -> Person {
    let made = who.post("/api/v1/tokens", body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    Person {
        client: who.client.with_key(made.json()["secret"].as_str()),
        ..who.clone()
    }
}

#[test]
fn a_key_for_some_permissions_does_these_and_nothing_else() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await.id;
        let reader = with_key(&ana, json!({"permissions": ["jobs:read", "me", "workspaces:read"]})).await;
        assert_eq!(reader.get(&format!("/api/v1/experiments/{one}")).await.status, 200);
        assert_eq!(reader.get(&format!("/api/v1/experiments/{one}/logs")).await.status, 200);
        assert_eq!(
            reader.get("/api/v1/experiments").await.json()["items"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        let config = json!({"config": {"name": "two", "entrypoint": "true"}});
        assert_eq!(reader.post("/api/v1/experiments", config).await.status, 403);
        assert_eq!(
            reader
                .post(&format!("/api/v1/experiments/{one}/cancel"), json!({}))
                .await
                .status,
            403
        );
        assert_eq!(reader.get("/api/v1/tokens").await.status, 403);
        assert_eq!(reader.post("/api/v1/tokens", json!({})).await.status, 403);
        let me = reader.client.me().await.unwrap();
        assert_eq!(
            me.narrowed.permissions.unwrap(),
            [
                "experiments:read",
                "experiments:read-artifacts",
                "workspaces:read",
                "me:update"
            ]
        );
        assert_eq!(me.narrowed.workspaces, None);
        // Never more than its owner holds now.
        let boss = world.person_with("boss", "ClusterAdmin").await;
        let all = with_key(&boss, json!({"permissions": ["experiments:*", "users:read"]})).await;
        assert_eq!(all.get(&format!("/api/v1/experiments/{one}")).await.status, 200);
        assert_eq!(all.get("/api/v1/audit").await.status, 403);
        let taken = json!({"assignments": [{"role": "ClusterAdmin", "user": "boss"}]});
        assert_eq!(world.admin.post("/api/v1/assignments/remove", taken).await.status, 200);
        assert_eq!(all.get(&format!("/api/v1/experiments/{one}")).await.status, 404);
    });
}

#[test]
fn a_key_for_some_workspaces_reaches_nothing_outside() {
    on_both(|world| async move {
        let admin = &world.admin;
        for name in ["Stop Signs", "Traffic Lights"] {
            assert_eq!(
                admin.post("/api/v1/workspaces", json!({"name": name})).await.status,
                200
            );
        }
        let signs = with_key(admin, json!({"workspaces": ["stop signs"], "label": "signs"})).await;
        let inside = admin
            .submit_config(json!({"name": "in", "entrypoint": "true", "workspace": "Stop Signs"}))
            .await
            .id;
        let outside = admin
            .submit_config(json!({"name": "out", "entrypoint": "true", "workspace": "Traffic Lights"}))
            .await
            .id;
        assert_eq!(signs.get(&format!("/api/v1/experiments/{inside}")).await.status, 200);
        let (hidden, missing) = (
            signs.get(&format!("/api/v1/experiments/{outside}")).await,
            signs.get("/api/v1/experiments/900000").await,
        );
        assert_eq!(
            hidden.without(&outside.to_string()),
            missing.without("900000"),
            "though its owner is an administrator"
        );
        let listed = signs.get("/api/v1/experiments").await.json();
        let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|e| &e["name"]).collect();
        assert_eq!(names, ["in"]);
        let config = json!({"config": {"name": "new", "entrypoint": "true", "workspace": "Traffic Lights"}});
        assert!(matches!(
            signs.post("/api/v1/experiments", config).await.status,
            403 | 404 | 422
        ));
        // No act that concerns the whole installation.
        for refused in [
            signs.post("/api/v1/users", json!({"name": "eve"})).await,
            signs.post("/api/v1/workspaces", json!({"name": "Third"})).await,
            signs.post("/api/v1/tokens", json!({})).await,
            signs.get("/api/v1/audit/export").await,
            signs.post("/api/v1/groups", json!({"name": "Team"})).await,
        ] {
            assert_eq!(refused.status, 403, "{}", refused.text);
        }
        assert_eq!(signs.client.groups(None).await.unwrap().items.len(), 1);
        let me = signs.client.me().await.unwrap();
        assert_eq!(me.narrowed.workspaces.unwrap(), ["Stop Signs"]);
        // Also where the key cannot look at the workspace itself, as its owner can.
        let blind = json!({"workspaces": ["Stop Signs"], "permissions": ["experiments:read"]});
        let blind = with_key(admin, blind).await.client.me().await.unwrap();
        assert_eq!(blind.narrowed.workspaces.unwrap(), ["Stop Signs"]);
        assert_eq!(
            me.sees,
            "all experiments, as far as this key is for them: in Stop Signs"
        );
        let unknown = json!({"workspaces": ["Stop Signs", "Nowhere", "Elsewhere"]});
        let refused = admin.post("/api/v1/tokens", unknown).await;
        assert_eq!(
            (refused.status, refused.message().as_str()),
            (404, "there is no workspace `Nowhere`, `Elsewhere`")
        );
        // What one may not see reads as what is not there.
        let ana = world.person("ana").await;
        let (hidden, missing) = (
            ana.post("/api/v1/tokens", json!({"workspaces": ["Stop Signs"]})).await,
            ana.post("/api/v1/tokens", json!({"workspaces": ["Nowhere"]})).await,
        );
        assert_eq!(hidden.without("Stop Signs"), missing.without("Nowhere"));
    });
}

#[test]
fn a_key_can_be_for_nothing_that_its_owner_does_not_hold() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let before = world.count("credentials").await;
        for (body, says) in [
            (
                json!({"permissions": ["users:create"]}),
                "`ana` holds `users:create` nowhere",
            ),
            (
                json!({"permissions": ["experiments:read", "queues:serve"]}),
                "`ana` holds `queues:serve` nowhere",
            ),
            (
                json!({"permissions": ["experiment:read"]}),
                "did you mean `experiments:read`",
            ),
            (
                json!({"permissions": ["experiments:read:own"]}),
                "write `experiments:read`",
            ),
            (json!({"permissions": []}), "name at least one"),
            (json!({"workspaces": []}), "name at least one"),
            (
                json!({"lifetime_ms": 60_000, "until": "2027-01-01T00:00:00Z"}),
                "not both",
            ),
            (json!({"until": "2026-11-20T00:00:00Z"}), "has passed already"),
            (json!({"until": "9999-01-01T00:00:00Z"}), "within a thousand years"),
        ] {
            let refused = ana.post("/api/v1/tokens", body).await;
            assert_eq!(refused.status, 422, "{}", refused.text);
            assert!(refused.message().contains(says), "{}", refused.message());
        }
        assert_eq!(world.count("credentials").await, before);
        // A word that stands for several means those of them that the owner holds.
        let made = ana
            .post("/api/v1/tokens", json!({"permissions": ["read"]}))
            .await
            .json();
        let given = made["token"]["permissions"].as_array().unwrap();
        assert!(given.contains(&json!("experiments:read")) && !given.contains(&json!("users:read")));
        let until = json!({"until": "2026-11-22T00:00:00Z"});
        let made = ana.post("/api/v1/tokens", until).await.json();
        assert_eq!(made["token"]["expires_at"], "2026-11-22T00:00:00Z");
    });
}

#[test]
fn a_narrowed_key_makes_no_key_that_exceeds_it_and_opens_no_other_way_in() {
    on_both(|world| async move {
        let boss = world.person_with("boss", "ClusterAdmin").await;
        let ana = world.person("ana").await;
        let maker = with_key(
            &boss,
            json!({"permissions": ["tokens:create", "experiments:read", "users:update", "me:update"]}),
        )
        .await;
        let heir = maker.post("/api/v1/tokens", json!({})).await.json();
        assert_eq!(
            heir["token"]["permissions"],
            json!(["experiments:read", "users:update", "tokens:create", "me:update"]),
            "what is left out is what the key itself is for"
        );
        let less = maker
            .post("/api/v1/tokens", json!({"permissions": ["experiments:*"]}))
            .await
            .json();
        assert_eq!(less["token"]["permissions"], json!(["experiments:read"]));
        let before = world.last_event().await;
        let refused = maker
            .post("/api/v1/tokens", json!({"permissions": ["audit:read"]}))
            .await;
        assert_eq!(refused.status, 403);
        assert!(
            refused.message().contains("this key is not for `audit:read`"),
            "{}",
            refused.text
        );
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            [format!("boss tokens:create create tokens of {} denied", boss.id)]
        );
        for refused in [
            maker.post("/api/v1/users/boss/link", json!({})).await,
            maker.post("/api/v1/users/ana/link", json!({})).await,
            maker
                .post(
                    "/api/v1/users/ana/password",
                    json!({"new_password": "another long one"}),
                )
                .await,
            Answer::of(
                maker
                    .request("PATCH", "/api/v1/users/ana")
                    .json(&json!({"remote": true})),
            )
            .await,
        ] {
            assert_eq!(refused.status, 403, "{}", refused.text);
        }
        let shared = maker.post("/api/v1/tokens", json!({"user": "ana"})).await;
        assert_eq!(shared.status, 200, "{}", shared.text);
        assert_eq!(
            (&shared.json()["token"]["owner"], &shared.json()["token"]["permissions"]),
            (&json!("ana"), &heir["token"]["permissions"]),
            "another's key is for no more either"
        );
        // A key with an end opens no way in that has a later one.
        let hour = with_key(&boss, json!({"lifetime_ms": 3_600_000})).await;
        assert_eq!(hour.post("/api/v1/users/boss/link", json!({})).await.status, 403);
        assert_eq!(boss.post("/api/v1/users/boss/link", json!({})).await.status, 200);
        assert_eq!(ana.get("/api/v1/me").await.status, 200);
    });
}

#[test]
fn whoever_makes_a_key_for_another_holds_all_that_the_other_does_with_the_whole_reach() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let role = json!({"name": "KeyMaker", "permissions": ["tokens:create", "me:update", "tokens:*", "stacks:*", "vaults:*"]});
        assert_eq!(world.admin.post("/api/v1/roles", role).await.status, 200);
        let maker = world.person_with("maker", "KeyMaker").await;
        let for_ana = json!({"user": "ana"});
        assert_eq!(maker.post("/api/v1/tokens", for_ana.clone()).await.status, 403);
        // The same role on the same workspace, but over one's own things: hers are not his own.
        let assign = |role: &str| {
            let body = json!({"assignments": [{"role": role, "user": "maker", "on": "workspace:default"}]});
            let admin = world.admin.clone();
            async move { assert_eq!(admin.post("/api/v1/assignments", body).await.status, 200) }
        };
        assign("DataScientist").await;
        assert_eq!(maker.post("/api/v1/tokens", for_ana.clone()).await.status, 403);
        let part = json!({"user": "ana", "permissions": ["experiments:create"]});
        assert_eq!(maker.post("/api/v1/tokens", part).await.status, 200);
        // What the key is not for need not be held.
        assign("Editor").await;
        assert_eq!(
            maker.post("/api/v1/tokens", for_ana.clone()).await.status,
            403,
            "an editor does not delete others' models"
        );
        let part = json!({"user": "ana", "permissions": ["experiments:read"], "workspaces": ["default"]});
        let key = maker.post("/api/v1/tokens", part).await;
        assert_eq!(key.status, 200, "{}", key.text);
        assign("WorkspaceAdmin").await;
        assert_eq!(maker.post("/api/v1/tokens", for_ana).await.status, 200);
        assert_eq!(ana.client.tokens(None, false, None).await.unwrap().items.len(), 4);
    });
}

#[test]
fn one_sees_and_ends_ones_own_keys_and_anothers_read_as_if_they_were_not_there() {
    on_both(|world| async move {
        let creator = world.person_with("creator", "TokenCreator").await;
        let made = with_key(&creator, json!({"label": "ci", "permissions": ["tokens:read"]})).await;
        let list = creator.client.tokens(None, false, None).await.unwrap().items;
        let id = list[0].id;
        let shown = creator.client.token(id).await.unwrap();
        assert_eq!(
            (shown.label.as_str(), shown.narrowed.permissions.unwrap().as_slice()),
            ("ci", &["tokens:read".to_owned()][..])
        );
        assert_eq!(made.client.token(id).await.unwrap().id, id, "the key looks at itself");
        assert_eq!(world.admin.client.token(id).await.unwrap().owner, "creator");
        let ana = world.person("ana").await;
        for method in ["GET", "DELETE"] {
            let ask = |id: i64| Answer::of(ana.request(method, &format!("/api/v1/tokens/{id}")));
            let before = world.last_event().await;
            let (hidden, missing) = (ask(id.0).await, ask(900_000).await);
            assert_eq!(hidden.without(&id.to_string()), missing.without("900000"));
            let events = world.events(&format!("id > {before}")).await;
            assert_eq!(events[0].replace(&id.to_string(), "900000"), events[1]);
        }
        assert_eq!(
            creator.post("/api/v1/tokens", json!({"user": "ana"})).await.status,
            403,
            "for itself alone"
        );
        creator.client.revoke_token(id).await.unwrap();
        assert_eq!(made.get("/api/v1/me").await.status, 401);
        assert!(creator.client.token(id).await.unwrap().revoked_at.is_some());
    });
}

#[test]
fn a_narrowed_key_dies_with_its_owners_account_for_good() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let key = with_key(
            &ana,
            json!({"permissions": ["experiments:read"], "workspaces": ["default"]}),
        )
        .await;
        assert_eq!(key.get("/api/v1/experiments").await.status, 200);
        world.admin.client.deactivate_user("ana").await.unwrap();
        assert_eq!(key.get("/api/v1/experiments").await.status, 401);
        world.admin.client.activate_user("ana").await.unwrap();
        assert_eq!(key.get("/api/v1/experiments").await.status, 401);
    });
}

#[test]
fn the_first_key_of_a_service_account_ends_with_the_key_that_makes_it() {
    on_both(|world| async move {
        let admin = &world.admin;
        let made = admin.post("/api/v1/service-accounts", json!({"name": "lasting"})).await;
        assert_eq!((made.status, &made.json()["token"]["expires_at"]), (200, &json!(null)));
        let brief = with_key(admin, json!({"lifetime_ms": 60_000})).await;
        let made = brief.post("/api/v1/service-accounts", json!({"name": "brief"})).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let made = made.json();
        assert_eq!(made["token"]["expires_at"], json!(world.now().plus_ms(60_000)));
        let secret = made["secret"].as_str().unwrap();
        assert_eq!(me_with(&world, secret).await.status, 200);
        world.pass_ms(60_001);
        assert_eq!(me_with(&world, secret).await.status, 401);
    });
}

#[test]
fn an_end_that_is_too_far_away_is_refused_with_the_limit() {
    on_both(|world| async move {
        let far = json!({"until": "9999-12-31T23:59:59Z"});
        let refused = world.admin.post("/api/v1/tokens", far).await;
        assert!(
            refused
                .text
                .contains("is too far away: the last time is 9999-12-30T22:00:00Z"),
            "{}",
            refused.text
        );
    });
}
