//! OpenID AuthZEN Authorization API 1.0, by the requests of its certification scenario: alice may read and write record-1, bob may read it and not write it.
//! A record is an experiment here, `write` is `experiments:update`. The scenario's rules about `properties` are turned round: what a caller says of somebody
//! gives nobody a right.

use bailiwick_api::authzen::Found;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::world::{Answer, Person, World, on_both};

struct Stage {
    world: World,
    /// The enforcement point: an account that reads roles everywhere and may nothing else.
    pep: Person,
    alice: Person,
    record_1: String,
    record_2: String,
}

async fn stage(world: World) -> Stage {
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let record_1 = alice.submit("record-1").await.id;
    let record_2 = bob.submit("record-2").await.id;
    let role = json!({"name": "Gateway", "permissions": ["roles:read"]});
    assert_eq!(world.admin.post("/api/v1/roles", role).await.status, 200);
    let pep = world.person("pep").await;
    let assignments = json!({"assignments": [
        {"role": "Gateway", "user": "pep"},
        {"role": "Reader", "user": "bob", "on": format!("experiment:{record_1}")},
    ]});
    assert_eq!(world.admin.post("/api/v1/assignments", assignments).await.status, 200);
    Stage {
        world,
        pep,
        alice,
        record_1: record_1.to_string(),
        record_2: record_2.to_string(),
    }
}

impl Stage {
    /// The scenario's text, with our names for its records and actions.
    fn ours(&self, text: &str) -> Value {
        let text = text
            .replace("\"record-1\"", &format!("\"{}\"", self.record_1))
            .replace("\"record-2\"", &format!("\"{}\"", self.record_2))
            .replace("\"record\"", "\"experiment\"")
            .replace("\"write\"", "\"update\"");
        serde_json::from_str(&text).expect("the scenario is JSON")
    }

    async fn ask(&self, path: &str, text: &str) -> Answer {
        self.pep.post(path, self.ours(text)).await
    }

    async fn decision(&self, text: &str) -> bool {
        let answer = self.ask("/access/v1/evaluation", text).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/json");
        answer.json()["decision"].as_bool().expect("a decision is a boolean")
    }

    async fn decisions(&self, text: &str) -> Vec<bool> {
        let answer = self.ask("/access/v1/evaluations", text).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        assert!(answer.get("decision").is_none(), "{answer}");
        let list = answer["evaluations"].as_array().expect("a list").iter();
        list.map(|one| one["decision"].as_bool().expect("a decision is a boolean"))
            .collect()
    }

    async fn search(&self, what: &str, text: &str) -> Found {
        let answer = self.ask(&format!("/access/v1/search/{what}"), text).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            answer.text.starts_with(r#"{"page":"#),
            "the page comes first: {answer:?}"
        );
        serde_json::from_str(&answer.text).expect("a page of results")
    }
}

fn ids(found: &Found) -> Vec<&str> {
    found.results.iter().filter_map(|one| one.id.as_deref()).collect()
}

fn names(found: &Found) -> Vec<&str> {
    found.results.iter().filter_map(|one| one.name.as_deref()).collect()
}

#[test]
fn one_question_is_answered_as_the_certification_scenario_wants_it() {
    on_both(|world| async move {
        let stage = stage(world).await;
        for (subject, action, expected) in [
            ("alice", "read", true),
            ("alice", "write", true),
            ("bob", "read", true),
            ("bob", "write", false),
            ("alice", "delete", true),
            ("bob", "delete", false),
        ] {
            for extra in [
                "",
                r#", "context": {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"}"#,
                r#", "foo": "bar", "futureField": {"nested": true}"#,
            ] {
                let text = format!(
                    r#"{{"subject": {{"type": "user", "id": "{subject}"}}, "action": {{"name": "{action}"}}, "resource": {{"type": "record", "id": "record-1"}}{extra}}}"#
                );
                assert_eq!(stage.decision(&text).await, expected, "{text}");
            }
        }
        // Whatever the caller says of them.
        let said = r#"{
            "subject": {"type": "user", "id": "bob", "properties": {"role": "admin", "department": "Sales"}},
            "action": {"name": "write", "properties": {"method": "GET", "soft": true}},
            "resource": {"type": "record", "id": "record-1", "properties": {"status": "archived", "owner": "bob"}}}"#;
        assert!(!stage.decision(said).await);
        assert!(stage.decision(&said.replace("bob\", \"prop", "alice\", \"prop")).await);
        // The full name of the permission; names that nothing bears; kinds that are none.
        let whole = r#"{"subject": {"type": "user", "id": "alice"}, "action": {"name": "experiments:read"}, "resource": {"type": "record", "id": "record-1"}}"#;
        assert!(stage.decision(whole).await);
        for (this, other) in [
            ("alice", "nonexistent-user"),
            ("\"user\"", "\"spaceship\""),
            ("\"user\"", "\"service-account\""),
            ("experiments:read", "experiments:fly"),
            ("record-1", "900000"),
            ("record-1", "record-3"),
            ("\"record\"", "\"spaceship\""),
        ] {
            assert!(!stage.decision(&whole.replace(this, other)).await, "{other}");
        }
        let places = [
            ("read", "workspace", "default", true),
            ("experiments:create", "workspace", "default", true),
            ("experiments:create", "project", "default/default", true),
            ("delete", "workspace", "default", false),
            ("submit", "queue", "default", true),
            ("serve", "queue", "default", false),
            ("me:update", "installation", "installation", true),
            ("read-usage", "installation", "installation", false),
        ];
        for (action, kind, id, expected) in places {
            let text = json!({"subject": {"type": "user", "id": "alice"}, "action": {"name": action}, "resource": {"type": kind, "id": id}});
            assert_eq!(stage.decision(&text.to_string()).await, expected, "{text}");
        }
    });
}

#[test]
fn what_is_no_question_is_refused_in_the_standards_manner() {
    on_both(|world| async move {
        let stage = stage(world).await;
        for (text, says) in [
            (
                r#"{"action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}}"#,
                "subject is missing",
            ),
            (
                r#"{"subject": {"type": "user", "id": "alice"}, "resource": {"type": "record", "id": "record-1"}}"#,
                "action is missing",
            ),
            (
                r#"{"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}}"#,
                "resource is missing",
            ),
            (
                r#"{"subject": {"id": "alice"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}}"#,
                "subject.type is missing",
            ),
            (
                r#"{"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}}"#,
                "subject.id is missing",
            ),
            (
                r#"{"subject": {"type": "user", "id": "alice"}, "action": {}, "resource": {"type": "record", "id": "record-1"}}"#,
                "action.name is missing",
            ),
            (
                r#"{"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, "resource": {"id": "record-1"}}"#,
                "resource.type is missing",
            ),
            (
                r#"{"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, "resource": {"type": "record"}}"#,
                "resource.id is missing",
            ),
            (
                r#"{"subject": "alice", "action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}}"#,
                "cannot be read",
            ),
            (
                r#"{"subject": {"type": "user", "id": "alice"}, "action": {"name": 123}, "resource": {"type": "record", "id": "record-1"}}"#,
                "cannot be read",
            ),
        ] {
            let answer = stage.ask("/access/v1/evaluation", text).await;
            assert_eq!(answer.status, 400, "{answer:?}");
            assert!(answer.text.contains(says), "{answer:?}");
            assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        }
        let good = r#"{"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, "resource": {"type": "experiment", "id": "1"}}"#;
        for (kind, body) in [
            ("text/plain", good),
            ("application/json", ""),
            ("application/json", "{\"subject\": "),
        ] {
            let request = stage
                .pep
                .request("POST", "/access/v1/evaluation")
                .header("content-type", kind);
            let answer = Answer::of(request.body(body.to_owned())).await;
            assert_eq!(answer.status, 400, "{kind} {body}: {answer:?}");
        }
        let stranger = Answer::of(
            stage
                .world
                .nobody()
                .request("POST", "/access/v1/evaluation")
                .json(&json!({})),
        )
        .await;
        assert_eq!(
            (stranger.status, stranger.text.as_str()),
            (401, "Invalid API key: none was sent")
        );

        // The caller's own id for the request comes back, also with a refusal; without one there is one of ours.
        for (body, status) in [(good, 200), ("{}", 400)] {
            let request = stage
                .pep
                .request("POST", "/access/v1/evaluation")
                .header("content-type", "application/json");
            let request = request.header("x-request-id", "bfe9eb29-ab87-4ca3-be83-a1d5d8305716");
            let answer = Answer::of(request.body(body)).await;
            assert_eq!(answer.status, status);
            assert_eq!(
                answer.headers["x-request-id"],
                HeaderValue::from_static("bfe9eb29-ab87-4ca3-be83-a1d5d8305716")
            );
        }
        let answer = stage.ask("/access/v1/evaluation", good).await;
        assert_eq!(answer.headers["x-request-id"].len(), 16);
    });
}

#[test]
fn many_questions_are_answered_in_order_with_defaults_and_all_three_semantics() {
    on_both(|world| async move {
        let stage = stage(world).await;
        let alice = r#""subject": {"type": "user", "id": "alice"}"#;
        let resource = |id: &str| format!(r#""resource": {{"type": "record", "id": "{id}"}}"#);
        let (one, two) = (resource("record-1"), resource("record-2"));
        let read = r#""action": {"name": "read"}"#;
        let both = format!(r#"{{{alice}, {read}, "evaluations": [{{{one}}}, {{{two}}}]}}"#);
        assert_eq!(stage.decisions(&both).await, [true, false]);
        let of_bob = format!(
            r#"{{"subject": {{"type": "user", "id": "bob"}}, {one}, "evaluations": [{{{read}}}, {{"action": {{"name": "write"}}}}]}}"#
        );
        assert_eq!(stage.decisions(&of_bob).await, [true, false]);
        let whole = format!(
            r#"{{"evaluations": [{{{alice}, {read}, {one}}}, {{"subject": {{"type": "user", "id": "bob"}}, "action": {{"name": "write"}}, {one}}}]}}"#
        );
        assert_eq!(stage.decisions(&whole).await, [true, false]);
        let context = format!(
            r#"{{{alice}, {read}, "context": {{"time": "2025-06-27T18:03-07:00"}}, "evaluations": [{{{one}}}, {{{two}, "context": {{"source": "batch-override"}}}}]}}"#
        );
        assert_eq!(stage.decisions(&context).await, [true, false]);
        // A part that is left out comes from the default; a whole one replaces it.
        let merged = format!(
            r#"{{{alice}, {read}, "resource": {{"type": "record"}}, "evaluations": [{{"resource": {{"id": "record-1", "properties": {{"status": "active"}}}}}}, {{{two}}}]}}"#
        );
        assert_eq!(stage.decisions(&merged).await, [true, false]);
        // One that cannot be answered does not spoil the rest.
        let broken = format!(r#"{{{alice}, {read}, "evaluations": [{{{one}}}, {{}}]}}"#);
        assert_eq!(stage.decisions(&broken).await, [true, false]);
        let answer = stage.ask("/access/v1/evaluations", &broken).await.json();
        assert_eq!(
            answer["evaluations"][1]["context"]["error"],
            json!({"status": 400, "message": "resource is missing"})
        );
        // Without a list, or with an empty one, it is the single question.
        for list in ["", r#", "evaluations": []"#] {
            let single = stage
                .ask("/access/v1/evaluations", &format!("{{{alice}, {read}, {one}{list}}}"))
                .await;
            assert_eq!(single.json(), json!({"decision": true}));
        }

        // The standard's example of the three semantics: three documents, of which the second may not be read.
        let three = |semantic: &str| {
            format!(
                r#"{{{alice}, {read}, "options": {{"evaluations_semantic": "{semantic}", "another_option": "value"}}, "evaluations": [{{{one}}}, {{{two}}}, {{{one}}}]}}"#
            )
        };
        assert_eq!(stage.decisions(&three("execute_all")).await, [true, false, true]);
        let denied = stage
            .ask("/access/v1/evaluations", &three("deny_on_first_deny"))
            .await
            .json();
        assert_eq!(
            denied,
            json!({"evaluations": [{"decision": true}, {"decision": false, "context": {"code": "200", "reason": "deny_on_first_deny"}}]})
        );
        let permitted = stage
            .ask("/access/v1/evaluations", &three("permit_on_first_permit"))
            .await
            .json();
        assert_eq!(permitted, json!({"evaluations": [{"decision": true}]}));
        assert_eq!(stage.ask("/access/v1/evaluations", &three("guess")).await.status, 400);

        let many: Vec<Value> = (0..1000).map(|_| stage.ours(&format!("{{{one}}}"))).collect();
        let many = json!({"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, "evaluations": many});
        assert_eq!(stage.decisions(&many.to_string()).await, vec![true; 1000]);
        let too_many = json!({"evaluations": vec![json!({}); 10_001]});
        assert_eq!(
            stage.ask("/access/v1/evaluations", &too_many.to_string()).await.status,
            400
        );
    });
}

#[test]
fn searches_find_subjects_resources_and_actions_page_by_page() {
    on_both(|world| async move {
        let stage = stage(world).await;
        let readers = r#"{"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}}"#;
        let found = stage.search("subject", readers).await;
        assert_eq!(ids(&found), ["admin", "alice", "bob"]);
        assert!(found.results.iter().all(|one| one.kind.as_deref() == Some("user")));
        assert_eq!((found.page.next_token.as_str(), found.page.count), ("", 3));
        // An id given beside the kind is ignored.
        let with_id = readers.replace(r#"{"type": "user"}"#, r#"{"type": "user", "id": "nemo"}"#);
        assert_eq!(ids(&stage.search("subject", &with_id).await).len(), 3);

        let of_alice = r#"{"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, "resource": {"type": "record"}}"#;
        assert_eq!(
            ids(&stage.search("resource", of_alice).await),
            [stage.record_1.as_str()]
        );
        let of_bob = of_alice.replace("alice", "bob");
        assert_eq!(
            ids(&stage.search("resource", &of_bob).await),
            [stage.record_1.as_str(), stage.record_2.as_str()]
        );
        for (kind, action, expected) in [
            ("workspace", "read", vec!["default"]),
            ("project", "read", vec!["default/default"]),
            ("queue", "submit", vec!["default"]),
            ("queue", "serve", vec![]),
            ("installation", "me:update", vec!["installation"]),
        ] {
            let text = of_alice
                .replace("record", kind)
                .replace("\"read\"", &format!("\"{action}\""));
            assert_eq!(ids(&stage.search("resource", &text).await), expected, "{kind}");
        }

        let on_record =
            r#"{"subject": {"type": "user", "id": "alice"}, "resource": {"type": "record", "id": "record-1"}}"#;
        let actions = stage.search("action", on_record).await;
        for action in ["experiments:read", "experiments:update"] {
            assert!(names(&actions).contains(&action), "{actions:?}");
        }
        // Each result, asked about by itself, is allowed.
        for action in names(&actions) {
            let mut whole = stage.ours(on_record);
            whole["action"] = json!({"name": action});
            assert!(stage.decision(&whole.to_string()).await, "{action}");
        }
        let of_bob = stage.search("action", &on_record.replace("alice", "bob")).await;
        assert!(!names(&of_bob).contains(&"experiments:update"), "{of_bob:?}");

        // Pages.
        let mut first: Value = serde_json::from_str(readers).unwrap();
        first["page"] = json!({"limit": 2});
        let page = stage.search("subject", &first.to_string()).await;
        assert_eq!((ids(&page), page.page.count), (vec!["admin", "alice"], 2));
        first["page"] = json!({"token": page.page.next_token});
        let page = stage.search("subject", &first.to_string()).await;
        assert_eq!((ids(&page), page.page.next_token.as_str()), (vec!["bob"], ""));
        let token = first["page"]["token"].clone();
        for other in [
            json!({"token": token, "limit": 3}),
            json!({"token": "x"}),
            json!({"token": "1.2.3"}),
            json!({"limit": -1}),
            json!({"limit": 0}),
            json!({"token": token, "limit": 0}),
            json!({"token": "0.0.0123456789abcdef"}),
        ] {
            first["page"] = other;
            assert_eq!(
                stage.ask("/access/v1/search/subject", &first.to_string()).await.status,
                400,
                "{first}"
            );
        }
        first["page"] = json!({"token": token});
        first["action"] = json!({"name": "delete"});
        assert_eq!(
            stage.ask("/access/v1/search/subject", &first.to_string()).await.status,
            400
        );

        // Nothing is found, rather than refused, of what is not known.
        for (what, text) in [
            ("subject", readers.replace("\"user\"", "\"spaceship\"")),
            ("subject", readers.replace("record-1", "900000")),
            ("resource", of_alice.replace("alice", "nonexistent-user")),
            ("resource", of_alice.replace("\"record\"", "\"spaceship\"")),
            ("action", on_record.replace("alice", "nonexistent-user")),
        ] {
            let found = stage.search(what, &text).await;
            assert_eq!((found.results.len(), found.page.next_token.as_str()), (0, ""), "{text}");
        }
        for (what, text) in [
            (
                "subject",
                r#"{"subject": {"type": "user"}, "resource": {"type": "record", "id": "record-1"}}"#,
            ),
            (
                "resource",
                r#"{"action": {"name": "read"}, "resource": {"type": "record"}}"#,
            ),
            ("action", r#"{"subject": {"type": "user", "id": "alice"}}"#),
            (
                "subject",
                r#"{"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record"}}"#,
            ),
            (
                "resource",
                r#"{"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record"}}"#,
            ),
        ] {
            let answer = stage.ask(&format!("/access/v1/search/{what}"), text).await;
            assert_eq!(answer.status, 400, "{text}");
        }
    });
}

#[test]
fn each_account_may_ask_about_itself_and_only_who_reads_roles_about_others() {
    on_both(|world| async move {
        let stage = stage(world).await;
        let about = |who: &str| {
            stage.ours(&format!(
                r#"{{"subject": {{"type": "user", "id": "{who}"}}, "action": {{"name": "write"}}, "resource": {{"type": "record", "id": "record-1"}}}}"#
            ))
        };
        let own = stage.alice.post("/access/v1/evaluation", about("alice")).await;
        assert_eq!(own.json(), json!({"decision": true}));
        let refused = stage.alice.post("/access/v1/evaluation", about("bob")).await;
        let nobody = stage.alice.post("/access/v1/evaluation", about("nobody")).await;
        assert_eq!(
            (refused.status, &refused.text),
            (403, &nobody.text),
            "whether or not there is such an account"
        );
        let both = json!({"evaluations": [about("bob"), about("alice")]});
        let both = stage.alice.post("/access/v1/evaluations", both).await.json();
        assert_eq!(both["evaluations"][0]["context"]["error"]["status"], json!(403));
        assert_eq!(both["evaluations"][1], json!({"decision": true}));
        for (what, status) in [("resource", 200), ("action", 200), ("subject", 403)] {
            let answer = stage
                .alice
                .post(&format!("/access/v1/search/{what}"), about("alice"))
                .await;
            assert_eq!(answer.status, status, "{what}: {answer:?}");
        }

        let metadata = stage
            .world
            .nobody()
            .get("/.well-known/authzen-configuration")
            .await
            .json();
        let base = metadata["policy_decision_point"].as_str().unwrap().to_owned();
        for (key, path) in [
            ("access_evaluation_endpoint", "/access/v1/evaluation"),
            ("access_evaluations_endpoint", "/access/v1/evaluations"),
            ("search_subject_endpoint", "/access/v1/search/subject"),
            ("search_resource_endpoint", "/access/v1/search/resource"),
            ("search_action_endpoint", "/access/v1/search/action"),
        ] {
            assert_eq!(metadata[key], json!(format!("{base}{path}")));
        }
    });
}

#[test]
fn models_and_stacks_are_resources_too() {
    on_both(|world| async move {
        let stage = stage(world).await;
        let admin = &stage.world.admin;
        let model = admin
            .post("/api/v1/workspaces/default/models", json!({"name": "detector"}))
            .await;
        let stack = stage.alice.post("/api/v1/stacks", json!({"name": "gpu"})).await;
        let (model, stack) = (model.json()["id"].to_string(), stack.json()["id"].to_string());
        let share = json!({"assignments": [{"role": "Reader", "user": "bob", "on": format!("model:{model}")}]});
        assert_eq!(admin.post("/api/v1/assignments", share).await.status, 200);
        let ask = |who: &str, action: &str, kind: &str, id: &str| {
            format!(
                r#"{{"subject": {{"type": "user", "id": "{who}"}}, "action": {{"name": "{action}"}}, "resource": {{"type": "{kind}", "id": "{id}"}}}}"#
            )
        };
        for (who, action, kind, id, expected) in [
            ("bob", "read", "model", model.as_str(), true),
            ("bob", "read", "model", "default/Detector", true),
            ("bob", "update", "model", &model, false),
            ("alice", "read", "model", &model, false),
            ("bob", "read", "model", "default/nothing", false),
            ("alice", "update", "stack", &stack, true),
            ("bob", "read", "stack", &stack, false),
        ] {
            let decision = stage.decision(&ask(who, action, kind, id)).await;
            assert_eq!(decision, expected, "{who} {action} {kind} {id}");
        }
        assert_eq!(
            ids(&stage.search("resource", &ask("bob", "read", "model", "")).await),
            [model.as_str()]
        );
        assert_eq!(
            ids(&stage.search("resource", &ask("alice", "read", "stack", "")).await),
            [stack.as_str()]
        );
        let readers = stage.search("subject", &ask("", "read", "model", &model)).await;
        assert_eq!(ids(&readers), ["admin", "bob"]);
        let actions = stage.search("action", &ask("bob", "", "model", &model)).await;
        assert!(names(&actions).contains(&"models:read") && !names(&actions).contains(&"models:update"));
    });
}
