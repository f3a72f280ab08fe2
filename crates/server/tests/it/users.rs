//! Users and their lives.

use bailiwick_api::experiments::ExperimentFilter;
use bailiwick_api::users::{NewUser, UserState};
use bailiwick_client::Client;
use serde_json::json;

use crate::browser::Browser;
use crate::roles::{give, make_role};
use crate::world::{Answer, PASSWORD, Person, World, held, on_both};

async fn sign_in(world: &World, name: &str) -> Answer {
    world
        .nobody()
        .post("/api/v1/login", json!({"name": name, "password": PASSWORD}))
        .await
}

#[test]
fn the_first_link_works_once() {
    on_both(|world| async move {
        let stranger = world.nobody();
        let used = stranger
            .post("/api/v1/login/link", json!({"token": world.first_link}))
            .await;
        assert_eq!(used.status, 401);
        assert!(used.message().contains("has been used"), "{}", used.message());
        assert_eq!(sign_in(&world, "admin").await.status, 200);
        assert_eq!(
            sign_in(&world, "ADMIN").await.status,
            200,
            "letter case does not matter"
        );
    });
}

#[test]
fn an_activation_link_asks_for_a_password_works_once_and_ends() {
    on_both(|world| async move {
        let invite = |name: &str| NewUser {
            name: name.into(),
            ..NewUser::default()
        };
        let made = world.admin.client.create_user(&invite("ana")).await.unwrap();
        assert_eq!(made.user.state, UserState::Pending);
        let token = made.link.expect("a user without password gets a link").token;
        let stranger = world.nobody();
        let without = stranger.post("/api/v1/login/link", json!({"token": token})).await;
        assert_eq!((without.status, without.code().as_str()), (422, "password_needed"));
        let weak = stranger
            .post("/api/v1/login/link", json!({"token": token, "password": "password1"}))
            .await;
        assert_eq!(
            (weak.status, weak.code().as_str()),
            (422, "invalid"),
            "and the link is not used up"
        );
        let session = stranger
            .post("/api/v1/login/link", json!({"token": token, "password": PASSWORD}))
            .await;
        assert_eq!(session.status, 200, "{}", session.text);
        let again = stranger
            .post("/api/v1/login/link", json!({"token": token, "password": PASSWORD}))
            .await;
        assert_eq!(again.status, 401);
        assert_eq!(world.admin.client.user("ana").await.unwrap().state, UserState::Active);

        // A newer link takes the place of the older, and each ends after a week.
        let first = world
            .admin
            .client
            .create_user(&invite("bob"))
            .await
            .unwrap()
            .link
            .unwrap();
        let second = world.admin.client.user_link("bob").await.unwrap();
        let old = stranger
            .post(
                "/api/v1/login/link",
                json!({"token": first.token, "password": PASSWORD}),
            )
            .await;
        assert_eq!(old.status, 401);
        world.pass_ms(7 * 86_400_000);
        let late = stranger
            .post(
                "/api/v1/login/link",
                json!({"token": second.token, "password": PASSWORD}),
            )
            .await;
        assert_eq!(late.status, 401);
        world.pass_ms(-1);
        let in_time = stranger
            .post(
                "/api/v1/login/link",
                json!({"token": second.token, "password": PASSWORD}),
            )
            .await;
        assert_eq!(in_time.status, 200, "a clock set back breaks nothing");
    });
}

#[test]
fn the_page_behind_a_link_sets_the_password() {
    on_both(|world| async move {
        let new = NewUser {
            name: "ana".into(),
            ..NewUser::default()
        };
        let token = world.admin.client.create_user(&new).await.unwrap().link.unwrap().token;
        let browser = Browser::new(&world);
        browser.get("/activate").await;
        let form = |token: &str, again: &str| {
            let (browser, token, again) = (&browser, token.to_owned(), again.to_owned());
            async move {
                let fields = [
                    ("token", token.as_str()),
                    ("password", PASSWORD),
                    ("again", again.as_str()),
                ];
                browser.post("/activate", &fields).await
            }
        };
        let differ = form(&token, "other").await;
        assert_eq!(differ.status, 422);
        assert!(
            differ.text.contains("the two passwords differ") && differ.text.contains(&format!("value=\"{token}\"")),
            "only the password is typed again: {}",
            differ.text
        );
        let used = form("mll_<b>wrong", PASSWORD).await;
        assert!(used.text.contains("never was one") && !used.text.contains("<b>wrong"));
        let done = form(&format!("http://x/activate#{token}"), PASSWORD).await;
        assert_eq!(done.leads(), "/");
        assert_eq!(sign_in(&world, "ana").await.status, 200);
        let page = world.nobody().get("/activate").await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
    });
}

#[test]
fn deactivation_ends_every_session_key_and_job_token_for_good() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.submit("one").await;
        let agent = world.agent("machine-1", 1).await;
        let lease = agent.take(1).await.remove(0);
        agent.started(held(&lease)).await.unwrap();
        let session = sign_in(&world, "ana").await.json()["token"]
            .as_str()
            .unwrap()
            .to_owned();
        let link = world.admin.client.user_link("ana").await.unwrap().token;
        let holders: Vec<Client> = [&ana.key, &session, &lease.token]
            .map(|key| world.nobody().client.with_key(Some(key)))
            .into();
        for client in &holders {
            client.me().await.unwrap();
            client.experiment("one").await.unwrap();
        }
        world.admin.client.deactivate_user("ana").await.unwrap();
        let dead = || async {
            for client in &holders {
                assert_eq!(client.me().await.unwrap_err().to_string(), "Invalid API key");
                assert_eq!(client.experiment("one").await.unwrap_err().status(), Some(401));
                assert_eq!(client.experiment("99999").await.unwrap_err().status(), Some(401));
            }
            let by_link = world.nobody().post("/api/v1/login/link", json!({"token": link})).await;
            assert_eq!(by_link.status, 401);
        };
        dead().await;
        assert_eq!(sign_in(&world, "ana").await.status, 401);
        world.admin.client.activate_user("ana").await.unwrap();
        dead().await;
        assert_eq!(
            sign_in(&world, "ana").await.status,
            200,
            "the password is the user's still"
        );
        assert_eq!(
            world.admin.client.experiment("one").await.unwrap().experiment.owner,
            "ana"
        );
        agent.ended(held(&lease), 0).await.unwrap();
    });
}

#[test]
fn a_removed_users_name_is_free_and_the_newcomer_gets_nothing_of_the_old() {
    on_both(|world| async move {
        let old = world.person_with("ana", "WorkspaceAdmin").await;
        let code = old.send_code(b"the old one's").await;
        old.submit("secret").await;
        let removed = world.admin.client.remove_user("ana").await.unwrap();
        assert_eq!(removed.state, UserState::Removed);
        assert_eq!(old.get("/api/v1/me").await.status, 401);
        let new = world.person("Ana").await;
        assert_ne!(new.id, old.id);
        assert!(
            new.client
                .experiments(&ExperimentFilter::default())
                .await
                .unwrap()
                .items
                .is_empty()
        );
        assert_eq!(new.get("/api/v1/experiments/secret").await.status, 404);
        assert_eq!(
            Answer::of(new.request("HEAD", &format!("/api/v1/code/{code}")))
                .await
                .status,
            404
        );
        assert_eq!(new.client.tokens(None, true, None).await.unwrap().items.len(), 1);
        let me = new.client.me().await.unwrap().user;
        assert!(
            me.roles.iter().all(|role| role.through_group.is_some()),
            "{:?}",
            me.roles
        );
        // Two of one name, one of them gone: by number both are found, by name the living one, and removing again finds nothing to remove.
        let admin = &world.admin.client;
        assert_eq!(admin.user("ana").await.unwrap().id, new.id);
        assert_eq!(admin.user(&old.id.to_string()).await.unwrap().state, UserState::Removed);
        assert_eq!(new.get(&format!("/api/v1/users/{}", old.id)).await.status, 404);
        assert_eq!(
            admin.remove_user(&old.id.to_string()).await.unwrap_err().status(),
            Some(409)
        );
        assert_eq!(
            admin.activate_user(&old.id.to_string()).await.unwrap_err().status(),
            Some(409)
        );
    });
}

#[test]
fn names_are_unique_whatever_their_case_and_say_so_without_a_trace() {
    on_both(|world| async move {
        world.person("Ana").await;
        for name in ["ana", "ANA", "Ana"] {
            let answer = world.admin.post("/api/v1/users", json!({"name": name})).await;
            assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"));
            let account = world
                .admin
                .post("/api/v1/service-accounts", json!({"name": name}))
                .await;
            assert_eq!(account.status, 409);
        }
        for bad in ["", "a b", "12", "-x", "a/b", "x\n", &"x".repeat(65), "<script>"] {
            assert_eq!(
                world.admin.post("/api/v1/users", json!({"name": bad})).await.status,
                422,
                "{bad:?}"
            );
        }
        assert_eq!(world.count("principals").await, 2);
        for name in ["Zoë", "träning", "a.b-c_d@e+f"] {
            let made = world.admin.post("/api/v1/users", json!({"name": name})).await;
            assert_eq!(made.status, 200);
            assert_eq!(world.admin.client.user(name).await.unwrap().name, name);
        }
    });
}

#[test]
fn the_last_administrator_cannot_be_ended_not_even_by_two_at_once() {
    on_both(|world| async move {
        let admin = &world.admin;
        for answer in [
            admin.post("/api/v1/users/admin/deactivate", json!({})).await,
            admin.delete("/api/v1/users/admin").await,
        ] {
            assert_eq!(answer.status, 409);
            assert_eq!(
                answer.message(),
                "`admin` is the last active administrator with a password here; give another user who has one the role ClusterAdmin first"
            );
        }
        // An administrator who has not signed in yet, or cannot any more, does not count.
        admin
            .client
            .create_user(&NewUser {
                name: "invited".into(),
                role: Some("admin".into()),
                ..NewUser::default()
            })
            .await
            .unwrap();
        world.person_with("gone", "ClusterAdmin").await;
        admin.client.deactivate_user("gone").await.unwrap();
        assert_eq!(admin.delete("/api/v1/users/admin").await.status, 409);
        let mut left = world.admin.clone();
        for round in 0..10 {
            // Two administrators, and no other.
            let name = format!("other{round}");
            let made = left
                .post(
                    "/api/v1/users",
                    json!({"name": name, "role": "ClusterAdmin", "password": PASSWORD}),
                )
                .await;
            assert_eq!(made.status, 200);
            let key = left.post("/api/v1/tokens", json!({"user": name})).await.json();
            let other = Person::of(&left.client, &name, key["secret"].as_str().unwrap()).await;
            let (path, other_path) = (format!("/api/v1/users/{}", left.name), format!("/api/v1/users/{name}"));
            let (a, b) = tokio::join!(left.delete(&other_path), other.delete(&path));
            assert!(
                (a.status == 200) != (b.status == 200),
                "exactly one is left: {a:?} {b:?}"
            );
            left = if a.status == 200 { left } else { other };
            left.client.users(false, None).await.unwrap();
        }
        assert_eq!(left.delete(&format!("/api/v1/users/{}", left.name)).await.status, 409);
    });
}

#[test]
fn a_password_is_long_or_hard_to_guess_and_changing_it_ends_other_sessions() {
    on_both(|world| async move {
        for bad in ["", "            ", "short", "password1", "benbenben", &"x".repeat(2000)] {
            let answer = world
                .admin
                .post("/api/v1/users", json!({"name": "ben", "password": bad}))
                .await;
            assert_eq!(answer.status, 422, "{bad:?}: {}", answer.text);
        }
        let ana = world.person("ana").await;
        let session = |answer: Answer| world.nobody().client.with_key(answer.json()["token"].as_str());
        let (here, there) = (
            session(sign_in(&world, "ana").await),
            session(sign_in(&world, "ana").await),
        );
        let change = |old: Option<&str>, new: &str| bailiwick_api::users::ChangePassword {
            old_password: old.map(str::to_owned),
            new_password: new.into(),
        };
        let before = world.last_event().await;
        for wrong in [None, Some("wrong horse battery")] {
            let refused = here
                .change_password("ana", &change(wrong, "another long one"))
                .await
                .unwrap_err();
            assert_eq!(refused.status(), Some(403));
        }
        assert_eq!(
            world.events(&format!("id > {before}")).await,
            ["ana me:update update user ana denied"; 2]
        );
        here.change_password("ana", &change(Some(PASSWORD), "another long one"))
            .await
            .unwrap();
        here.me().await.unwrap();
        assert_eq!(there.me().await.unwrap_err().status(), Some(401));
        ana.client.me().await.expect("API keys stay");
        assert_eq!(sign_in(&world, "ana").await.status, 401);
        let kept: String = sqlx::Row::get(
            &world
                .rows("SELECT password_hash FROM principals WHERE name = 'ana'")
                .await[0],
            0,
        );
        assert!(kept.starts_with("$argon2id$"));
    });
}

#[test]
fn nobody_gets_into_an_account_that_may_do_more_than_he() {
    on_both(|world| async move {
        // `Administrator` lacks only the making of queues, and that is enough.
        let lesser = world.person_with("lesser", "Administrator").await;
        let ana = world.person("ana").await;
        let before = world.last_event().await;
        for answer in [
            lesser.post("/api/v1/users/admin/link", json!({})).await,
            lesser
                .post(
                    "/api/v1/users/admin/password",
                    json!({"new_password": "another long one"}),
                )
                .await,
            lesser.post("/api/v1/tokens", json!({"user": "admin"})).await,
            lesser
                .post("/api/v1/users", json!({"name": "more", "role": "ClusterAdmin"}))
                .await,
            lesser
                .post("/api/v1/users", json!({"name": "more", "role": "QueueAdmin"}))
                .await,
        ] {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, "forbidden"),
                "{}",
                answer.text
            );
        }
        // The name that is left could be taken, and whoever looks for it would meet somebody else.
        let renamed = edit(&lesser, "admin", json!({"name": "root"})).await;
        assert_eq!((renamed.status, renamed.code().as_str()), (403, "forbidden"));
        let events = world.events(&format!("id > {before}")).await;
        assert_eq!(events.len(), 6);
        assert!(events.iter().all(|event| event.ends_with("denied")), "{events:?}");
        assert_eq!(edit(&lesser, "ana", json!({"name": "anna"})).await.status, 200);
        assert_eq!(edit(&lesser, "anna", json!({"name": "ana"})).await.status, 200);
        assert_eq!(edit(&lesser, "lesser", json!({"name": "less"})).await.status, 200);
        assert_eq!(edit(&lesser, "less", json!({"name": "lesser"})).await.status, 200);
        assert_eq!(lesser.post("/api/v1/users/ana/link", json!({})).await.status, 200);
        assert_eq!(lesser.post("/api/v1/tokens", json!({"user": "ana"})).await.status, 200);
        // Others neither make nor see keys of others.
        assert_eq!(ana.post("/api/v1/tokens", json!({"user": "lesser"})).await.status, 403);
        assert_eq!(ana.get("/api/v1/tokens?user=lesser").await.status, 403);
        assert_eq!(
            lesser.get("/api/v1/tokens?user=ana").await.json()["items"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    });
}

#[test]
fn fellow_users_see_names_and_nothing_else() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        world.person("bob").await;
        world
            .admin
            .client
            .create_user(&NewUser {
                name: "invited".into(),
                ..NewUser::default()
            })
            .await
            .unwrap();
        let seen = ana.client.user("bob").await.unwrap();
        assert!(seen.roles.is_empty() && seen.created_at.is_none() && seen.last_seen_at.is_none());
        let names = |page: bailiwick_api::Page<bailiwick_api::users::User>| -> Vec<String> {
            page.items.into_iter().map(|user| user.name).collect()
        };
        assert_eq!(
            names(ana.client.users(true, None).await.unwrap()),
            ["admin", "ana", "bob"]
        );
        assert_eq!(
            names(world.admin.client.users(false, None).await.unwrap()),
            ["admin", "ana", "bob", "invited"]
        );
        let (hidden, missing) = (
            ana.get("/api/v1/users/invited").await,
            ana.get("/api/v1/users/nemo").await,
        );
        assert_eq!(hidden.without("invited"), missing.without("nemo"));
        assert_eq!(
            world.admin.post("/api/v1/users/bob/deactivate", json!({})).await.status,
            200
        );
        let shut_out = ana.get("/api/v1/users/bob").await;
        assert_eq!(shut_out.without("bob"), missing.without("nemo"));
    });
}

#[test]
fn a_role_that_cannot_be_given_leaves_no_user() {
    on_both(|world| async move {
        let make = |role: &str, workspace: Option<&str>| {
            let mut body = json!({"name": "ana", "role": role});
            if let Some(workspace) = workspace {
                body["workspace"] = json!(workspace);
            }
            let admin = world.admin.clone();
            async move { admin.post("/api/v1/users", body).await }
        };
        let typo = make("Viewr", None).await;
        assert_eq!(typo.message(), "there is no role `Viewr`; did you mean `Viewer`?");
        for answer in [
            typo,
            make("Viewer", Some("nowhere")).await,
            make("ClusterAdmin", Some("default")).await,
        ] {
            assert_eq!(answer.status, 422);
        }
        assert_eq!(world.count("principals").await, 1);
        assert_eq!(make("viewer", Some("DEFAULT")).await.status, 200);
    });
}

async fn edit(who: &Person, user: &str, body: serde_json::Value) -> Answer {
    Answer::of(who.request("PATCH", &format!("/api/v1/users/{user}")).json(&body)).await
}

#[test]
fn a_remote_user_has_neither_password_nor_link_and_comes_in_by_a_key_made_for_him() {
    on_both(|world| async move {
        let admin = &world.admin;
        let with_password = json!({"name": "far", "remote": true, "password": PASSWORD});
        let refused = admin.post("/api/v1/users", with_password).await;
        assert_eq!((refused.status, refused.code().as_str()), (422, "invalid"));
        let made = admin
            .post("/api/v1/users", json!({"name": "far", "remote": true}))
            .await;
        assert_eq!(made.status, 200, "{}", made.text);
        let made = made.json();
        assert_eq!(
            (&made["user"]["state"], &made["user"]["remote"], &made["link"]),
            (&json!("active"), &json!(true), &json!(null))
        );
        let new_password = json!({"new_password": "another long one"});
        for refused in [
            admin.post("/api/v1/users/far/link", json!({})).await,
            admin.post("/api/v1/users/far/password", new_password.clone()).await,
        ] {
            assert_eq!(refused.status, 409);
            assert!(refused.message().contains("`far` is a remote user"), "{}", refused.text);
        }
        let unknown = world
            .nobody()
            .post("/api/v1/login", json!({"name": "nemo", "password": PASSWORD}))
            .await;
        assert_eq!(
            sign_in(&world, "far").await.without("far"),
            unknown.without("nemo"),
            "no sign-in here, and not said why"
        );
        let key = admin.post("/api/v1/tokens", json!({"user": "far"})).await.json();
        let far = Person::of(&admin.client, "far", key["secret"].as_str().unwrap()).await;
        assert_eq!(far.submit("one").await.owner, "far");
        let own = far.post("/api/v1/users/far/password", new_password).await;
        assert_eq!(own.status, 409);
        assert_eq!(
            edit(&far, "far", json!({"remote": false})).await.status,
            403,
            "nobody turns himself into a local user"
        );
        // Deactivated and back: the account is active again, the key is not.
        admin.client.deactivate_user("far").await.unwrap();
        assert_eq!(
            admin.client.activate_user("far").await.unwrap().state,
            UserState::Active
        );
        assert_eq!(far.get("/api/v1/me").await.status, 401);
    });
}

#[test]
fn making_a_user_remote_takes_the_password_and_ends_sessions_and_links() {
    on_both(|world| async move {
        let admin = &world.admin;
        let ana = world.person("ana").await;
        let session = sign_in(&world, "ana").await.json();
        let session = admin.client.with_key(session["token"].as_str());
        let link = admin.client.user_link("ana").await.unwrap().token;
        let changed = edit(admin, "ana", json!({"remote": true})).await;
        assert_eq!((changed.status, &changed.json()["remote"]), (200, &json!(true)));
        assert_eq!(session.me().await.unwrap_err().status(), Some(401));
        assert_eq!(sign_in(&world, "ana").await.status, 401);
        let by_link = world
            .nobody()
            .post("/api/v1/login/link", json!({"token": link, "password": PASSWORD}))
            .await;
        assert_eq!(by_link.status, 401);
        ana.client.me().await.expect("API keys stay");
        assert_eq!(
            world
                .count("principals WHERE name = 'ana' AND password_hash IS NULL")
                .await,
            1
        );
        // Back again there is no password, and certainly not an empty one.
        assert_eq!(edit(admin, "ana", json!({"remote": false})).await.status, 200);
        for password in [PASSWORD, ""] {
            let attempt = json!({"name": "ana", "password": password});
            assert_eq!(world.nobody().post("/api/v1/login", attempt).await.status, 401);
        }
        let link = admin.client.user_link("ana").await.unwrap().token;
        let back = json!({"token": link, "password": PASSWORD});
        assert_eq!(world.nobody().post("/api/v1/login/link", back).await.status, 200);
        // An invited user who is made remote waits for no link any more.
        let invited = NewUser {
            name: "bob".into(),
            ..NewUser::default()
        };
        let link = admin.client.create_user(&invited).await.unwrap().link.unwrap().token;
        assert_eq!(
            edit(admin, "bob", json!({"remote": true})).await.json()["state"],
            "active"
        );
        let late = json!({"token": link, "password": PASSWORD});
        assert_eq!(world.nobody().post("/api/v1/login/link", late).await.status, 401);
        // It is a way into the account, or out of it, like a new password.
        let lesser = world.person_with("lesser", "Administrator").await;
        let boss = world.person_with("boss", "ClusterAdmin").await;
        assert_eq!(edit(&lesser, "boss", json!({"remote": true})).await.status, 403);
        assert_eq!(edit(&lesser, "ana", json!({"remote": true})).await.status, 200);
        assert_eq!(edit(&boss, "boss", json!({"remote": true})).await.status, 200);
        let last = edit(admin, "admin", json!({"remote": true})).await;
        assert_eq!(last.status, 409, "nobody else could sign in: {}", last.text);
    });
}

#[test]
fn administrators_change_users_and_everybody_his_own_display_name() {
    on_both(|world| async move {
        let admin = &world.admin;
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let own = edit(&ana, "ana", json!({"display_name": "Ana Lima"})).await;
        assert_eq!((own.status, &own.json()["display_name"]), (200, &json!("Ana Lima")));
        let before = world.last_event().await;
        for (user, body) in [
            ("ana", json!({"name": "anna"})),
            ("ana", json!({"display_name": "x", "name": "anna"})),
            ("ana", json!({"active": false})),
            ("bob", json!({"display_name": "x"})),
        ] {
            assert_eq!(edit(&ana, user, body).await.status, 403);
        }
        let events = world.events(&format!("id > {before}")).await;
        assert!(
            events.len() == 4 && events.iter().all(|event| event.ends_with("denied")),
            "{events:?}"
        );
        assert_eq!(edit(&ana, "nemo", json!({"display_name": "x"})).await.status, 404);
        assert_eq!(edit(admin, "ana", json!({})).await.status, 422);
        assert_eq!(edit(admin, "ana", json!({"name": "a b"})).await.status, 422);
        for bad in ["two\nlines", "a\u{202E}b", "a\u{200B}b", "\u{1b}[2J"] {
            assert_eq!(
                edit(admin, "ana", json!({"display_name": bad})).await.status,
                422,
                "{bad:?}"
            );
            assert_eq!(
                admin.post("/api/v1/tokens", json!({"label": bad})).await.status,
                422,
                "{bad:?}"
            );
        }
        assert_eq!(
            edit(admin, "ana", json!({"display_name": "x".repeat(256)}))
                .await
                .status,
            422
        );
        // Taken whatever the case; and then nothing of the change is made.
        let taken = edit(
            admin,
            "ana",
            json!({"name": "BOB", "remote": true, "display_name": "B"}),
        )
        .await;
        assert_eq!((taken.status, taken.code().as_str()), (409, "conflict"));
        assert_eq!(sign_in(&world, "ana").await.status, 200);
        let changed = edit(admin, "ana", json!({"name": "Ana.Lima", "display_name": ""})).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        assert_eq!(changed.json()["display_name"], json!(null));
        assert_eq!(ana.client.me().await.unwrap().user.name, "Ana.Lima");
        assert_eq!(sign_in(&world, "ana.lima").await.status, 200);
        assert_eq!(sign_in(&world, "ana").await.status, 401);
        assert_eq!(bob.get("/api/v1/users/ana").await.status, 404);
        // A letter's case alone may change.
        assert_eq!(edit(admin, "ana.lima", json!({"name": "ana.lima"})).await.status, 200);
        // Shut out and let in again: as by the commands of that name.
        assert_eq!(
            edit(admin, "bob", json!({"active": false})).await.json()["state"],
            "deactivated"
        );
        assert_eq!(bob.get("/api/v1/me").await.status, 401);
        assert_eq!(
            edit(admin, "bob", json!({"active": true})).await.json()["state"],
            "active"
        );
        assert_eq!(bob.get("/api/v1/me").await.status, 401, "what has ended stays ended");
        assert_eq!(sign_in(&world, "bob").await.status, 200);
        let last = edit(admin, "admin", json!({"active": false})).await;
        assert_eq!(
            last.message(),
            "`admin` is the last active administrator with a password here; give another user who has one the role ClusterAdmin first"
        );
        admin.client.remove_user("bob").await.unwrap();
        assert_eq!(edit(admin, &bob.id.to_string(), json!({"name": "b"})).await.status, 409);
        let removed = admin.client.user(&bob.id.to_string()).await.unwrap();
        assert!(removed.roles.is_empty(), "whoever is gone holds nothing: {removed:?}");
    });
}

#[test]
fn groups_and_roles_of_a_user_are_shown_to_himself_and_to_administrators() {
    on_both(|world| async move {
        let admin = &world.admin;
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        for name in ["Vision", "Speech"] {
            let body = json!({"name": name, "users": ["ana"]});
            assert_eq!(admin.post("/api/v1/groups", body).await.status, 200);
        }
        for seen in [
            ana.client.me().await.unwrap().user,
            ana.client.user("ana").await.unwrap(),
            admin.client.user("ana").await.unwrap(),
        ] {
            assert_eq!(seen.groups, ["Speech", "Vision"]);
            assert!(!seen.roles.is_empty());
        }
        assert!(bob.client.user("ana").await.unwrap().groups.is_empty());
        // Removed and invited again under the name: nothing comes back.
        let key = admin.post("/api/v1/tokens", json!({"user": "ana"})).await.json();
        let assigned = json!({"assignments": [{"role": "Viewer", "user": "ana"}]});
        assert_eq!(admin.post("/api/v1/assignments", assigned).await.status, 200);
        admin.client.remove_user("ana").await.unwrap();
        let again = world.person("ana").await;
        let me = again.client.me().await.unwrap().user;
        assert!(me.groups.is_empty() && me.roles.iter().all(|role| role.through_group.is_some()));
        let old = admin.client.with_key(key["secret"].as_str());
        assert_eq!(old.me().await.unwrap_err().status(), Some(401));
        assert_eq!(world.count("group_members").await, 0);
    });
}

#[test]
fn a_link_is_withdrawn_once_its_maker_does_not_hold_what_it_opens() {
    on_both(|world| async move {
        make_role(&world, "Inviting", &["users:create", "users:update", "users:read"]).await;
        let maker = world.person("maker").await;
        assert_eq!(give(&world.admin, "Inviting", "maker", "").await.status, 200);
        let lesser = world.person_with("lesser", "Administrator").await;
        let invite = async |by: &Person, name: &str| {
            let made = by.post("/api/v1/users", json!({"name": name})).await;
            assert_eq!(made.status, 200, "{}", made.text);
            made.json()["link"]["token"].as_str().unwrap().to_owned()
        };
        let open = async |token: &str| {
            let body = json!({"token": token, "password": PASSWORD});
            world.nobody().post("/api/v1/login/link", body).await
        };
        let withdrawn = async |token: &str, name: &str| {
            let before = world.last_event().await;
            let refused = open(token).await;
            let words = format!(
                "this link is withdrawn: whoever made it, and may have kept it, does not hold all that `{name}` may do by now"
            );
            assert_eq!((refused.status, refused.message()), (401, words));
            let hint = format!("an administrator has to make a new one with `ml user link {name}`");
            assert_eq!(refused.json()["error"]["hint"], json!(hint));
            assert_eq!(
                world.events(&format!("id > {before}")).await,
                [format!("{name} sign-in link user {name} denied")]
            );
            assert!(open(token).await.message().contains("has been used"));
        };
        // Who is what everybody is comes in by anybody's invitation.
        let token = invite(&maker, "plain").await;
        // Nor does a change from beside the server hold the link up.
        for sql in [
            "UPDATE access_version SET version = version + 1",
            "INSERT INTO access_changes (version, kind, object_id) SELECT version, 'everything', 0 FROM access_version",
        ] {
            world.sql(sql).await.unwrap();
        }
        assert_eq!(open(&token).await.status, 200);

        // Given more while the invitation waits: by a role, or by a group; by a role that the maker of a link holds as well, nothing changes.
        let token = invite(&maker, "ana").await;
        assert_eq!(
            give(&world.admin, "Viewer", "ana", "workspace:default").await.status,
            200
        );
        withdrawn(&token, "ana").await;
        let anew = lesser.client.user_link("ana").await.unwrap().token;
        assert_eq!(
            give(&world.admin, "Editor", "ana", "workspace:default").await.status,
            200
        );
        assert_eq!(open(&anew).await.status, 200);
        let token = invite(&lesser, "bob").await;
        let team = json!({"name": "Heads", "users": ["bob"]});
        assert_eq!(world.admin.post("/api/v1/groups", team).await.status, 200);
        let heads = json!({"assignments": [{"role": "ClusterAdmin", "group": "Heads"}]});
        assert_eq!(world.admin.post("/api/v1/assignments", heads).await.status, 200);
        withdrawn(&token, "bob").await;
        let anew = world.admin.client.user_link("bob").await.unwrap().token;
        assert_eq!(open(&anew).await.status, 200);

        // The link for a forgotten password is no other; nor is one made with a key that was for less.
        let link = lesser.client.user_link("plain").await.unwrap().token;
        assert_eq!(give(&world.admin, "QueueAdmin", "plain", "").await.status, 200);
        withdrawn(&link, "plain").await;
        let narrow = json!({"permissions": ["users:create", "users:read"]});
        let key = world.admin.post("/api/v1/tokens", narrow).await.json()["secret"].clone();
        let narrow = Person::of(&world.admin.client, "admin", key.as_str().unwrap()).await;
        let token = invite(&narrow, "carl").await;
        assert_eq!(open(&token).await.status, 200);
        let token = invite(&narrow, "dora").await;
        assert_eq!(
            give(&world.admin, "Viewer", "dora", "workspace:default").await.status,
            200
        );
        withdrawn(&token, "dora").await;

        // Nor does one outlive its maker's rights, or its maker.
        let token = invite(&lesser, "eve").await;
        world.admin.client.deactivate_user("lesser").await.unwrap();
        withdrawn(&token, "eve").await;
    });
}

/// Somebody who may do this alone, and read no users.
async fn only(world: &World, name: &str, permissions: &[&str]) -> Person {
    let role = format!("only {name}");
    make_role(world, &role, permissions).await;
    world.person_with(name, &role).await
}

#[test]
fn whoever_may_change_and_not_read_is_told_what_he_changed() {
    on_both(|world| async move {
        let maker = only(&world, "maker", &["users:create", "service-accounts:create"]).await;
        let new = json!({"name": "ana", "display_name": "Ana"});
        let made = maker.post("/api/v1/users", new).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let made = made.json();
        let told = (&made["user"]["state"], &made["user"]["display_name"]);
        assert_eq!(told, (&json!("pending"), &json!("Ana")));
        let link = json!({"token": made["link"]["token"], "password": PASSWORD});
        assert_eq!(world.nobody().post("/api/v1/login/link", link).await.status, 200);
        assert_eq!(maker.get("/api/v1/users/ana").await.json()["display_name"], json!(null));
        let account = maker.post("/api/v1/service-accounts", json!({"name": "robot"})).await;
        assert_eq!(account.status, 200, "{}", account.text);

        let changer = only(&world, "changer", &["users:update"]).await;
        let named = edit(&changer, "ana", json!({"display_name": "Ana L."})).await;
        assert_eq!((named.status, &named.json()["display_name"]), (200, &json!("Ana L.")));
        let ended = changer.post("/api/v1/users/ana/deactivate", json!({})).await;
        assert_eq!((ended.status, &ended.json()["state"]), (200, &json!("deactivated")));
        assert_eq!(changer.get("/api/v1/users/ana").await.status, 404);
        world.person("bob").await;
        let ended = edit(&changer, "bob", json!({"active": false})).await;
        assert_eq!((ended.status, &ended.json()["state"]), (200, &json!("deactivated")));

        let remover = only(&world, "remover", &["users:delete", "service-accounts:delete"]).await;
        world.person("vic").await;
        for path in ["/api/v1/users/vic", "/api/v1/service-accounts/robot"] {
            let gone = remover.delete(path).await;
            assert_eq!((gone.status, &gone.json()["state"]), (200, &json!("removed")), "{path}");
            assert_eq!(remover.delete(path).await.status, 404, "{path}");
        }

        let grouper = only(&world, "grouper", &["groups:create", "groups:update", "groups:delete"]).await;
        let group = grouper.post("/api/v1/groups", json!({"name": "Team"})).await;
        assert_eq!(group.status, 200, "{}", group.text);
        let placer = only(&world, "placer", &["workspaces:create"]).await;
        let place = placer.post("/api/v1/workspaces", json!({"name": "Lights"})).await;
        assert_eq!((place.status, &place.json()["name"]), (200, &json!("Lights")));
        let giver = only(&world, "giver", &["roles:create", "roles:update", "roles:delete"]).await;
        let role = giver
            .post("/api/v1/roles", json!({"name": "one", "permissions": ["stacks:read"]}))
            .await;
        assert_eq!(
            (role.status, giver.delete("/api/v1/roles/one").await.status),
            (200, 200)
        );
    });
}

#[test]
fn names_that_look_like_others_are_refused() {
    on_both(|world| async move {
        for (path, body) in [
            ("/api/v1/users", json!({"name": "\u{430}dmin"})),
            ("/api/v1/users", json!({"name": "admin\u{3164}"})),
            ("/api/v1/service-accounts", json!({"name": "\u{FF41}gent"})),
            ("/api/v1/groups", json!({"name": "Admin\u{455}"})),
            (
                "/api/v1/roles",
                json!({"name": "Vi\u{AD}ewer", "permissions": ["stacks:read"]}),
            ),
            ("/api/v1/workspaces", json!({"name": "def\u{3B1}ult"})),
            (
                "/api/v1/workspaces/default/projects",
                json!({"name": "default\u{2800}"}),
            ),
        ] {
            let refused = world.admin.post(path, body).await;
            assert_eq!(refused.status, 422, "{path}: {}", refused.text);
            assert!(refused.message().contains("U+"), "{}", refused.message());
        }
        let place = world
            .admin
            .post("/api/v1/workspaces", json!({"name": "GPU-сервер"}))
            .await;
        assert_eq!(place.status, 200, "{}", place.text);
    });
}
