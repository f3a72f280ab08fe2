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
            user: None,
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
            user: None,
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
            format!("job of experiment {}", one.id),
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
