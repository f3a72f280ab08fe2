//! Vaults: whose they are, what they come to, and that nobody gets at those of others.

use bailiwick_api::experiments::State;
use bailiwick_api::groups::NewGroup;
use bailiwick_api::users::NewServiceAccount;
use bailiwick_api::vault::VaultFormat;
use bailiwick_api::vaults::{NewVault, VaultEdit};
use serde_json::{Value, json};
use sqlx::Row;

use crate::world::{Hand, Person, World, on_both, registration};

/// A value that must stand nowhere but where it was asked for.
const SECRET: &str = "s3cr3t-fjord-quartz";

fn own(text: &str) -> NewVault {
    NewVault {
        text: text.into(),
        ..NewVault::default()
    }
}

fn of_user(user: &str, text: &str) -> NewVault {
    NewVault {
        user: Some(user.into()),
        ..own(text)
    }
}

fn organisation(name: &str, text: &str) -> NewVault {
    NewVault {
        organisation: true,
        name: Some(name.into()),
        ..own(text)
    }
}

fn text(text: &str) -> VaultEdit {
    VaultEdit {
        text: Some(text.into()),
        ..VaultEdit::default()
    }
}

fn enabled(enabled: bool) -> VaultEdit {
    VaultEdit {
        enabled: Some(enabled),
        ..VaultEdit::default()
    }
}

async fn group(world: &World, name: &str, users: &[&str]) {
    let new = NewGroup {
        name: name.into(),
        users: users.iter().map(|user| (*user).to_owned()).collect(),
        ..NewGroup::default()
    };
    world.admin.client.create_group(&new).await.unwrap();
}

/// An agent that runs jobs as their owners, under the account `machine`.
async fn impersonating(world: &World) -> Hand {
    let new = NewServiceAccount {
        name: "machine".into(),
        serve: vec!["default".into()],
        impersonate: true,
    };
    let made = world.admin.client.create_service_account(&new).await.unwrap();
    let client = world.admin.client.with_key(Some(&made.secret));
    let mut register = registration("machine-1", 4);
    register.use_owner_token = true;
    let id = client.register_agent(&register).await.unwrap().agent;
    Hand {
        client,
        id,
        key: made.secret,
    }
}

async fn cause(world: &World, experiment: bailiwick_api::ExperimentId) -> (State, String) {
    let found = world.admin.client.experiment(&experiment.to_string()).await.unwrap();
    (found.experiment.state, found.experiment.cause)
}

#[test]
fn ones_own_vault_is_kept_sealed_and_shown_with_values_only_where_asked_for() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let typed = format!("# mine\nenvironment {{ TOKEN = \"{SECRET}\" }}\n");
        let made = ana.client.create_vault(&own(&typed)).await.unwrap();
        assert_eq!(
            (made.vault.name.as_str(), made.vault.version, made.vault.enabled),
            ("@ana", 1, true)
        );
        assert_eq!(made.vault.keys, ["environment.TOKEN"]);
        let masked = ana.client.vault("@ana", false).await.unwrap();
        assert!(masked.text.is_none() && masked.content == json!({"environment": {"TOKEN": "********"}}));
        let shown = ana.client.vault("@ana", true).await.unwrap();
        assert_eq!(
            (shown.text.as_deref(), &shown.content["environment"]["TOKEN"]),
            (Some(typed.as_str()), &json!(SECRET))
        );
        // Saved again and again (the original lost it at the second save), switched off and on, it is what was typed last.
        for round in 2..5 {
            let again = format!("environment {{ TOKEN = \"{SECRET}\", ROUND = {round} }}");
            let edit = VaultEdit {
                version: Some(round - 1),
                ..text(&again)
            };
            assert_eq!(
                ana.client.update_vault("@ana", &edit).await.unwrap().vault.version,
                round
            );
            let now = ana.client.vault("@ana", true).await.unwrap();
            assert_eq!((now.text.as_deref(), now.vault.enabled), (Some(again.as_str()), true));
        }
        let stale = VaultEdit {
            version: Some(2),
            ..text("")
        };
        let refused = ana.client.update_vault("@ana", &stale).await.unwrap_err();
        assert_eq!(refused.status(), Some(409));
        assert!(refused.to_string().contains("changed meanwhile by ana"), "{refused}");
        for on in [false, true] {
            let switched = ana.client.update_vault("@ana", &enabled(on)).await.unwrap();
            assert_eq!(switched.vault.enabled, on);
            assert_eq!(
                ana.client.vault("@ana", true).await.unwrap().content["environment"]["ROUND"],
                4
            );
        }
        // One for each; another is told so.
        assert_eq!(ana.client.create_vault(&own("")).await.unwrap_err().status(), Some(409));
        let verbs: Vec<String> = ana
            .client
            .vault_changes("@ana")
            .await
            .unwrap()
            .items
            .into_iter()
            .map(|one| one.verb)
            .collect();
        assert_eq!(verbs, ["enable", "disable", "edit", "edit", "edit", "create"]);
        // In the database and the audit stands no value.
        let rows = world.rows("SELECT sealed, keys, name FROM vaults").await;
        let sealed: Vec<u8> = rows[0].get(0);
        assert!(sealed.len() > SECRET.len() && !sealed.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
        for (what, sql) in [
            ("audit", "SELECT COUNT(*) FROM audit_events WHERE detail LIKE"),
            ("history", "SELECT COUNT(*) FROM vault_changes WHERE keys LIKE"),
        ] {
            let found: i64 = world.rows(format!("{sql} '%{SECRET}%'")).await[0].get(0);
            assert_eq!(found, 0, "{what}");
        }
        let key_file = world.data().join("vault.keys");
        let mode = std::os::unix::fs::PermissionsExt::mode(&key_file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        ana.client.delete_vault("@ana").await.unwrap();
        assert_eq!(ana.client.vault("@ana", false).await.unwrap_err().status(), Some(404));
    });
}

#[test]
fn a_text_that_is_not_right_is_refused_with_its_place_and_changes_nothing() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.client.create_vault(&own("sdk.a = 1")).await.unwrap();
        for (format, wrong, words) in [
            (VaultFormat::Hocon, "environment {\n  A = {{\n", "line "),
            (VaultFormat::Json, "{\n \"sdk\": }", "line 2"),
            (VaultFormat::Yaml, "sdk:\n  a: [1\n", "line "),
            (VaultFormat::Yaml, "enviroment: {}", "did you mean `environment`"),
            (VaultFormat::Hocon, "include \"/etc/passwd\"", "line 1"),
            (VaultFormat::Yaml, "environment: {ML_API_KEY: x}", "ML_API_KEY"),
            (VaultFormat::Yaml, "environment: {LD_PRELOAD: /x.so}", "LD_PRELOAD"),
            (VaultFormat::Yaml, "files: {../../etc/passwd: x}", "files"),
            (VaultFormat::Yaml, "files: {.ml/sdk.json: x}", "name another"),
            (VaultFormat::Yaml, "files: {a: {content: b, mode: '+600'}}", "octal"),
            (VaultFormat::Yaml, "agent: {worker_name: x}", "machine's own"),
        ] {
            let edit = VaultEdit {
                format: Some(format),
                ..text(wrong)
            };
            let refused = ana.client.update_vault("@ana", &edit).await.unwrap_err();
            assert_eq!(refused.status(), Some(422), "{wrong}: {refused}");
            assert!(refused.to_string().contains(words), "{wrong}: {refused}");
        }
        let large = text(&format!("sdk.a = \"{}\"", "x".repeat(256 * 1024)));
        assert_eq!(
            ana.client.update_vault("@ana", &large).await.unwrap_err().status(),
            Some(422)
        );
        let kept = ana.client.vault("@ana", true).await.unwrap();
        assert_eq!((kept.text.as_deref(), kept.vault.version), (Some("sdk.a = 1"), 1));
        // Each format is really read, and told apart from what it is not.
        let yaml = VaultEdit {
            format: Some(VaultFormat::Yaml),
            ..text("sdk: {list: [a, b]}")
        };
        assert_eq!(
            ana.client.update_vault("@ana", &yaml).await.unwrap().content,
            json!({"sdk": {"list": ["********", "********"]}})
        );
        assert_eq!(
            ana.client.applied_vaults(None, true).await.unwrap().content["sdk"]["list"],
            json!(["a", "b"])
        );
    });
}

#[test]
fn nobody_gets_at_the_vault_of_another() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let number = ana
            .client
            .create_vault(&own(&format!("environment.T = \"{SECRET}\"")))
            .await
            .unwrap()
            .vault
            .id;
        let missing = bob.get("/api/v1/vaults/@nobody-of-that-name").await;
        for which in ["@ana".to_owned(), number.to_string()] {
            let path = format!("/api/v1/vaults/{which}");
            let seen = bob.get(&path).await;
            assert_eq!(seen.status, 404);
            assert_eq!(
                seen.message(),
                missing.message().replace("@nobody-of-that-name", &which)
            );
            let edit = json!({"text": "sdk.a = 1"});
            assert_eq!(
                bob.request("PATCH", &path).json(&edit).send().await.unwrap().status(),
                404
            );
            assert_eq!(bob.delete(&path).await.status, 404);
            assert_eq!(bob.get(&format!("{path}/changes")).await.status, 404);
            assert_eq!(bob.get(&format!("{path}?reveal=true")).await.status, 404);
        }
        assert_eq!(bob.get("/api/v1/vaults/applied?user=ana&reveal=true").await.status, 403);
        assert_eq!(
            bob.post("/api/v1/vaults", json!({"user": "ana", "text": ""}))
                .await
                .status,
            403
        );
        assert_eq!(
            bob.post("/api/v1/vaults", json!({"organisation": true, "name": "x", "text": ""}))
                .await
                .status,
            403
        );
        assert!(bob.client.vaults().await.unwrap().items.is_empty());
        // An administrator looks, and that is on record; whoever may do less than she does not change it.
        let looked = world.admin.client.vault("@ana", true).await.unwrap();
        assert_eq!(looked.content["environment"]["T"], SECRET);
        assert_eq!(world.events("verb = 'reveal'").await.len(), 1);
        assert_eq!(ana.client.vault_changes("@ana").await.unwrap().items[0].verb, "reveal");
        let half = world.person_with("half", "Administrator").await;
        world
            .admin
            .client
            .create_vault(&of_user("admin", "sdk.a = 1"))
            .await
            .unwrap();
        let refused = half
            .client
            .update_vault("@admin", &text("environment.A = 1"))
            .await
            .unwrap_err();
        assert_eq!(
            refused.status(),
            Some(403),
            "an Administrator is less than the ClusterAdmin: {refused}"
        );
        // Nor does a job, be it hers or another's.
        let machine = impersonating(&world).await;
        ana.submit("hers").await;
        let lease = machine.take(1).await.remove(0);
        let job = Person {
            key: lease.token.clone(),
            client: world.admin.client.with_key(Some(&lease.token)),
            ..world.nobody()
        };
        for path in [
            "/api/v1/vaults",
            "/api/v1/vaults/@ana?reveal=true",
            "/api/v1/vaults/@bob",
            "/api/v1/vaults/applied?reveal=true",
        ] {
            let answer = job.get(path).await;
            assert_eq!(answer.status, 403, "{path}");
            assert!(!answer.text.contains(SECRET));
        }
        assert_eq!(job.post("/api/v1/admin/rotate-key", json!({})).await.status, 403);
    });
}

#[test]
fn administrators_vaults_are_seen_by_whom_they_are_for_only_as_far_as_they_apply() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        group(&world, "vision", &["ana"]).await;
        let admin = &world.admin.client;
        let of_group = NewVault {
            group: Some("vision".into()),
            name: Some("proxies".into()),
            ..own(&format!("environment.PROXY = \"{SECRET}\""))
        };
        admin.create_vault(&of_group).await.unwrap();
        admin
            .create_vault(&organisation("house", "sdk.level = info"))
            .await
            .unwrap();
        let names = |applied: bailiwick_api::vaults::AppliedVaults| {
            applied.vaults.into_iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(
            names(ana.client.applied_vaults(None, false).await.unwrap()),
            ["house", "proxies"]
        );
        assert_eq!(names(bob.client.applied_vaults(None, false).await.unwrap()), ["house"]);
        assert_eq!(
            ana.client.applied_vaults(None, false).await.unwrap().content["environment"]["PROXY"],
            "********"
        );
        assert_eq!(
            ana.client.applied_vaults(None, true).await.unwrap().content["environment"]["PROXY"],
            SECRET
        );
        // The vault itself, and one that is switched off, is for administrators alone.
        admin.update_vault("proxies", &enabled(false)).await.unwrap();
        assert_eq!(names(ana.client.applied_vaults(None, false).await.unwrap()), ["house"]);
        for which in ["proxies", "house"] {
            assert_eq!(ana.client.vault(which, true).await.unwrap_err().status(), Some(404));
        }
        assert!(ana.client.vaults().await.unwrap().items.is_empty());
        assert_eq!(admin.vaults().await.unwrap().items.len(), 2);
        assert_eq!(
            admin.vault("proxies", true).await.unwrap().content["environment"]["PROXY"],
            SECRET,
            "switching it off keeps it"
        );
        // It goes with its group, and that is on record.
        admin.update_vault("proxies", &enabled(true)).await.unwrap();
        admin.delete_group("vision").await.unwrap();
        assert_eq!(admin.vault("proxies", false).await.unwrap_err().status(), Some(404));
        assert_eq!(names(ana.client.applied_vaults(None, false).await.unwrap()), ["house"]);
        for wrong in [
            json!({"name": "x", "group": "nowhere", "text": ""}),
            json!({"name": "7", "organisation": true, "text": ""}),
            json!({"name": "@x", "organisation": true, "text": ""}),
            json!({"organisation": true, "text": ""}),
            json!({"name": "x", "organisation": true, "place": 0, "text": ""}),
            json!({"name": "HOUSE", "organisation": true, "text": ""}),
        ] {
            let status = world.admin.post("/api/v1/vaults", wrong.clone()).await.status;
            assert!([404, 409, 422].contains(&status), "{wrong}: {status}");
        }
    });
}

#[test]
fn a_job_is_given_what_the_vaults_come_to_in_their_order() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        group(&world, "vision", &["ana"]).await;
        let admin = &world.admin.client;
        let layer = |name: &str, group: Option<&str>, place: i64, enforced: bool, text: &str| NewVault {
            name: Some(name.into()),
            group: group.map(str::to_owned),
            organisation: group.is_none(),
            place: Some(place),
            enforced: Some(enforced),
            ..own(text)
        };
        for new in [
            layer(
                "a-low",
                None,
                10,
                false,
                "environment { A = low, B = low, C = low, D = low, E = low }\nsdk.list = [1, 2]",
            ),
            layer(
                "z-same",
                None,
                50,
                false,
                "environment { B = same, C = same, D = same, E = same }",
            ),
            layer(
                "a-group",
                Some("vision"),
                50,
                false,
                "environment { C = group, D = group, E = group }",
            ),
            layer(
                "b-group",
                Some("vision"),
                50,
                false,
                "environment { D = later, E = later }",
            ),
            layer(
                "forced",
                None,
                1,
                true,
                "environment.F = forced\nstorage.s3 { key = AKIAEXAMPLE, secret = wJalrEXAMPLE }",
            ),
        ] {
            admin.create_vault(&new).await.unwrap();
        }
        ana.client.create_vault(&own("environment { E = mine, F = mine }\nsdk { list = [3], mine = yes-it-is }\nfiles { \"conf/a.ini\" { content = \"[x]\\ny=abcdefgh\", mode = \"0640\" } }")).await.unwrap();
        let machine = impersonating(&world).await;
        ana.submit("one").await;
        let lease = machine.take(1).await.remove(0);
        let env: Vec<(&str, &str)> = lease
            .vault
            .env
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            env,
            [
                ("A", "low"),
                ("B", "same"),
                ("C", "group"),
                ("D", "later"),
                ("E", "mine"),
                ("F", "mine")
            ]
        );
        assert_eq!(lease.vault.enforced_env["F"], "forced");
        assert_eq!(lease.vault.enforced_env["AWS_SECRET_ACCESS_KEY"], "wJalrEXAMPLE");
        let file = lease.vault.files.iter().find(|file| file.path == "conf/a.ini").unwrap();
        assert_eq!((file.mode, file.enforced), (0o640, false));
        assert!(lease.vault.files.iter().any(|file| file.path == ".ml/sdk.json"));
        for secret in ["wJalrEXAMPLE", "forced", "y=abcdefgh"] {
            assert!(
                lease.vault.secrets.iter().any(|one| one == secret),
                "{secret}: {:?}",
                lease.vault.secrets
            );
        }
        assert_eq!(
            ana.client.applied_vaults(None, true).await.unwrap().content["sdk"]["list"],
            json!([3]),
            "lists replace"
        );
        // Which vaults it had stands in the audit, by name.
        let rows = world.rows("SELECT detail FROM audit_events WHERE verb = 'take'").await;
        let detail: Value = serde_json::from_str(rows[0].get(0)).unwrap();
        assert_eq!(detail["vaults"].as_array().unwrap().len(), 6, "{detail}");
        assert!(!detail.to_string().contains("wJalrEXAMPLE"));
        // Said again after a lost answer, it is the same.
        let again = machine.poll(&[], 4).await.start.remove(0);
        assert_eq!(again.vault, lease.vault);
    });
}

#[test]
fn without_the_flag_a_job_has_the_vaults_of_the_agents_account_and_none_of_its_owners() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.client
            .create_vault(&own(&format!("environment.HERS = \"{SECRET}\"")))
            .await
            .unwrap();
        let agent = world.agent("machine-1", 1).await;
        world
            .admin
            .client
            .create_vault(&of_user("machine-1-account", "environment.ITS = its-own"))
            .await
            .unwrap();
        ana.submit("one").await;
        let lease = agent.take(1).await.remove(0);
        assert_eq!(lease.vault.env.keys().collect::<Vec<_>>(), ["ITS"]);
        // The section for agents comes with the next registration, and to its own account's agents alone.
        let edit = text("agent { fair = true, job_env.X = y }\nenvironment.ITS = its-own");
        world
            .admin
            .client
            .update_vault("@machine-1-account", &edit)
            .await
            .unwrap();
        let known = agent
            .client
            .register_agent(&registration("machine-1", 1))
            .await
            .unwrap();
        assert_eq!(
            (known.settings, known.enforced),
            (json!({"fair": true, "job_env": {"X": "y"}}), Value::Null)
        );
        let other = world.agent("machine-2", 1).await;
        let known = other
            .client
            .register_agent(&registration("machine-2", 1))
            .await
            .unwrap();
        assert_eq!(known.settings, Value::Null);
        let forced = NewVault {
            enforced: Some(true),
            ..organisation("forced", "agent.isolate = require")
        };
        world.admin.client.create_vault(&forced).await.unwrap();
        let known = other
            .client
            .register_agent(&registration("machine-2", 1))
            .await
            .unwrap();
        assert_eq!(known.enforced, json!({"isolate": "require"}));
    });
}

#[test]
fn a_vault_that_cannot_be_read_or_applied_stops_the_job_with_a_reason() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        // A service account may set for its own agents what an owner may not for another's.
        let ci = NewServiceAccount {
            name: "ci".into(),
            serve: Vec::new(),
            impersonate: false,
        };
        let key = world.admin.client.create_service_account(&ci).await.unwrap().secret;
        let ci = Person::of(&world.admin.client, "ci", &key).await;
        world
            .admin
            .client
            .create_vault(&of_user("ci", "environment.PATH = /opt/bin"))
            .await
            .unwrap();
        let machine = impersonating(&world).await;
        let one = ci.submit("one").await;
        assert!(machine.take(1).await.is_empty());
        let (state, why) = cause(&world, one.id).await;
        assert_eq!(state, State::Error);
        assert!(why.contains("vaults that apply to ci") && why.contains("PATH"), "{why}");
        let ended = world
            .rows("SELECT COUNT(*) FROM job_attempts WHERE ended_at IS NULL")
            .await[0]
            .get::<i64, _>(0);
        assert_eq!(ended, 0, "no attempt is left open");
        world
            .admin
            .client
            .create_vault(&organisation(
                "house",
                "environment { HOUSE = \"everywhere\", PATH = /house/bin }",
            ))
            .await
            .unwrap();
        // The key is gone: jobs do not run without, saving is refused, and everything else goes on.
        let key_file = world.data().join("vault.keys");
        let aside = world.data().join("aside");
        std::fs::rename(&key_file, &aside).unwrap();
        let url = world.restart(|_| {}).await;
        let (machine, ana) = (machine.at(&url), ana.at(&url));
        let two = ana.submit("two").await;
        assert!(machine.take(1).await.is_empty());
        let found = ana.client.experiment(&two.id.to_string()).await.unwrap().experiment;
        assert_eq!(found.state, State::Error);
        assert!(
            found.cause.contains("vault_key_file") && found.cause.contains("cannot be read"),
            "{}",
            found.cause
        );
        let refused = ana.client.create_vault(&own("sdk.a = 1")).await.unwrap_err();
        assert_eq!((refused.status(), refused.code()), (Some(503), Some("sealed")));
        assert!(!key_file.exists(), "no other key is made in its place");
        std::fs::rename(&aside, &key_file).unwrap();
        ana.submit("three").await;
        assert_eq!(machine.take(1).await.remove(0).vault.env["HOUSE"], "everywhere");
        // What was changed in the database does not pass for a vault.
        world
            .sql("UPDATE vaults SET name = name || ' ', principal_id = NULL, group_id = (SELECT MIN(id) FROM groups)")
            .await
            .unwrap();
        let four = ana.submit("four").await;
        assert!(
            machine
                .poll(&[], 1)
                .await
                .start
                .iter()
                .all(|lease| lease.experiment != four.id)
        );
    });
}

#[test]
fn an_agent_that_knows_no_vaults_is_given_no_job_that_needs_one() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let agent = world.agent("old-1", 1).await;
        let mut old = registration("old-1", 1);
        old.vaults = false;
        agent.client.register_agent(&old).await.unwrap();
        world
            .admin
            .client
            .create_vault(&organisation("house", "environment.HOUSE = 1"))
            .await
            .unwrap();
        let one = ana.submit("one").await;
        let answer = agent.poll(&[], 1).await;
        assert!(answer.start.is_empty());
        assert!(answer.refused.is_some_and(|why| why.contains("update ml on old-1")));
        assert_eq!(cause(&world, one.id).await.0, State::Queued);
        agent.client.register_agent(&registration("old-1", 1)).await.unwrap();
        assert_eq!(agent.take(1).await.len(), 1);
    });
}

#[test]
fn a_new_key_seals_everything_anew_and_the_old_one_may_go() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let admin = &world.admin.client;
        ana.client
            .create_vault(&own(&format!("environment.T = \"{SECRET}\"")))
            .await
            .unwrap();
        for at in 0..120 {
            admin
                .create_vault(&organisation(&format!("v{at}"), &format!("sdk.v{at} = {at}")))
                .await
                .unwrap();
        }
        assert_eq!(ana.post("/api/v1/admin/rotate-key", json!({})).await.status, 403);
        let rotated = admin.rotate_vault_key().await.unwrap();
        assert_eq!(rotated.vaults, 121);
        let key_file = world.data().join("vault.keys");
        let lines = std::fs::read_to_string(&key_file).unwrap();
        assert_eq!(lines.lines().count(), 2);
        let newest = lines.lines().next().unwrap();
        assert!(newest.starts_with(&rotated.key));
        std::fs::write(&key_file, format!("{newest}\n")).unwrap();
        // One that the rotation did not get to before the server ended is sealed anew after its start.
        let url = world.restart(|_| {}).await;
        let ana = ana.at(&url);
        assert_eq!(
            ana.client.vault("@ana", true).await.unwrap().content["environment"]["T"],
            SECRET
        );
        assert_eq!(
            ana.client.applied_vaults(None, true).await.unwrap().content["sdk"]["v119"],
            119
        );
        assert_eq!(
            world.events("verb = 'rotate-key' AND outcome = 'allowed'").await.len(),
            1
        );
    });
}

#[test]
fn a_removed_user_comes_back_without_the_vault() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.client.create_vault(&own("sdk.a = 1")).await.unwrap();
        world.admin.client.remove_user("ana").await.unwrap();
        assert_eq!(world.count("vaults").await, 0);
        assert_eq!(world.count("vault_changes").await, 0);
        let again = world.person("ana").await;
        assert_eq!(again.client.vault("@ana", false).await.unwrap_err().status(), Some(404));
    });
}
