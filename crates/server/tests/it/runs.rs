//! What becomes of experiments: archived ones, attempts, what they use, and what is found in their logs.

use bailiwick_api::agents::{Happened, Held, JobUsage};
use bailiwick_api::experiments::{ExperimentFilter, LogFilter, Usage};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::logs::running;
use crate::world::{Answer, Person, START, held, on_both};

async fn numbers(who: &Person, filter: ExperimentFilter) -> Vec<i64> {
    let page = who.client.experiments(&filter).await.unwrap();
    page.items.iter().map(|one| one.id.0).collect()
}

fn archived() -> ExperimentFilter {
    ExperimentFilter {
        archived: Some(true),
        ..ExperimentFilter::default()
    }
}

#[test]
fn archived_experiments_are_left_out_of_lists_until_they_are_asked_for() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let viewer = world.person_with("viewer", "Viewer").await;
        let (one, two) = (ana.submit("train").await, ana.submit("train").await);
        let act = async |who: &Person, verb: &str, which: &str| {
            who.post(&format!("/api/v1/experiments/{which}/{verb}"), json!({}))
                .await
        };
        let id = two.id.to_string();
        let refused = act(&ana, "archive", &id).await;
        assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"));
        assert!(refused.message().contains("only one that has ended"));
        ana.client
            .stop_experiment(&id, bailiwick_api::experiments::Stop::Cancel)
            .await
            .unwrap();

        assert_eq!(act(&bob, "archive", &id).await.status, 404);
        assert_eq!(act(&viewer, "archive", &id).await.status, 403);
        let before = world.last_event().await;
        for _ in 0..2 {
            // Twice is as good as once.
            let done = ana.client.archive_experiment(&id, true).await.unwrap();
            assert!(done.archived && done.id == two.id);
        }
        let written = world.events(&format!("id > {before}")).await;
        assert_eq!(written.len(), 2, "{written:?}");
        assert!(written.iter().all(|event| event.contains("archive")), "{written:?}");

        assert_eq!(numbers(&ana, ExperimentFilter::default()).await, [one.id.0]);
        assert_eq!(numbers(&ana, archived()).await, [two.id.0]);
        assert_eq!(numbers(&viewer, archived()).await, [two.id.0]);
        assert!(numbers(&bob, archived()).await.is_empty());
        // By number it is there as ever; a name means what is not put away, if there is such.
        assert!(ana.client.experiment(&id).await.unwrap().experiment.archived);
        assert_eq!(ana.client.experiment("train").await.unwrap().experiment.id, one.id);
        ana.client.delete_experiment(&one.id.to_string()).await.unwrap_err();
        ana.client
            .stop_experiment("train", bailiwick_api::experiments::Stop::Cancel)
            .await
            .unwrap();
        ana.client.delete_experiment("train").await.unwrap();
        assert_eq!(ana.client.experiment("train").await.unwrap().experiment.id, two.id);

        assert!(!ana.client.archive_experiment("train", false).await.unwrap().archived);
        assert_eq!(numbers(&ana, ExperimentFilter::default()).await, [two.id.0]);
        assert!(numbers(&ana, archived()).await.is_empty());
        assert_eq!(act(&ana, "archive", "31337").await.status, 404);
    });
}

#[test]
fn a_list_is_narrowed_to_an_owner_and_to_how_names_begin() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        for name in ["train-b", "train-a", "eval", "Train"] {
            ana.submit(name).await;
        }
        bob.submit("train-c").await;
        let admin = &world.admin;
        let of = |owner: &str| ExperimentFilter {
            owner: Some(owner.to_owned()),
            ..ExperimentFilter::default()
        };
        assert_eq!(numbers(admin, of("ANA")).await, [4, 3, 2, 1]);
        assert_eq!(numbers(admin, of(&bob.id.to_string())).await, [5]);
        assert!(numbers(admin, of("nobody")).await.is_empty());
        // Of another's what one may see, which is nothing here.
        assert!(numbers(&bob, of("ana")).await.is_empty());
        assert_eq!(numbers(&bob, of("bob")).await, [5]);
        let begins = |text: &str, after: Option<String>| ExperimentFilter {
            name_begins: Some(text.to_owned()),
            limit: Some(2),
            after,
            ..ExperimentFilter::default()
        };
        let first = admin.client.experiments(&begins("train", None)).await.unwrap();
        assert_eq!(first.items.iter().map(|one| one.id.0).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(numbers(admin, begins("train", first.next)).await, [5]);
        assert_eq!(numbers(admin, begins("Train", None)).await, [4]);
        assert!(numbers(admin, begins("trainz", None)).await.is_empty());
    });
}

fn uses(held: Held, cpu_ms: i64, memory_bytes: i64) -> Vec<JobUsage> {
    let usage = Usage {
        cpu_ms,
        memory_bytes,
        memory_peak_bytes: memory_bytes,
    };
    vec![JobUsage {
        job: held.job,
        fence: held.fence,
        usage,
    }]
}

#[test]
fn each_attempt_is_kept_with_its_agent_its_end_and_what_it_used() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let config =
            json!({"name": "twice", "entrypoint": "true", "max_restarts": 1, "resources": {"slots_per_trial": 2}});
        let one = ana.submit_config(config).await;
        let detail = async || ana.get(&format!("/api/v1/experiments/{}", one.id)).await.json();
        let waiting = detail().await;
        assert_eq!(
            (&waiting["trials"][0]["attempts"], &waiting["used"]),
            (&json!([]), &Value::Null)
        );

        let agent = world.agent("machine-1", 2).await;
        let first = held(&agent.take(2).await[0]);
        agent.started(first).await.unwrap();
        world.pass_ms(10_000);
        let holding = [first];
        let told = |cpu_ms, memory| agent.poll_with(&holding, 0, 0, uses(first, cpu_ms, memory));
        told(5_000, 300_000_000).await.unwrap();
        let running = detail().await;
        assert_eq!(running["used"]["cpu_ms"], 5_000);
        assert_eq!(
            (running["used"]["cpus"].as_f64(), &running["used"]["memory_bytes"]),
            (Some(0.5), &json!(300_000_000))
        );
        assert_eq!(running["used"]["slot_ms"], 20_000);
        assert_eq!(running["trials"][0]["state"], "RUNNING");
        // Too soon after the last time: not written, whatever is said.
        told(6_000, 1).await.unwrap();
        assert_eq!(detail().await["used"]["cpu_ms"], 5_000);
        // Under another lease, or of another's job, it is not heard.
        let stranger = world.agent("machine-2", 2).await;
        stranger.poll_with(&[], 0, 0, uses(first, 1_000_000, 1)).await.unwrap();
        assert_eq!(detail().await["used"]["cpu_ms"], 5_000);

        agent.ended(first, 3).await.unwrap();
        world.pass_ms(1_000);
        let second = held(&stranger.take(2).await[0]);
        stranger.started(second).await.unwrap();
        world.pass_ms(2_000);
        let report = bailiwick_api::agents::Report {
            fence: second.fence,
            usage: Some(Usage {
                cpu_ms: 1_500,
                memory_bytes: 0,
                memory_peak_bytes: 700_000_000,
            }),
            what: Happened::Ended {
                at: START,
                exit_code: Some(0),
                signal: None,
                reason: None,
                lost: false,
            },
        };
        stranger.client.report(stranger.id, second.job, &report).await.unwrap();
        let ended = detail().await;
        let attempts = &ended["trials"][0]["attempts"];
        let of = |number: usize, key: &str| attempts[number][key].clone();
        assert_eq!(
            (of(0, "agent"), of(1, "agent")),
            (json!("machine-1"), json!("machine-2"))
        );
        assert_eq!(
            (of(0, "cause"), of(1, "cause")),
            (json!("exit code 3"), json!("finished"))
        );
        assert_eq!((of(0, "exit_code"), of(1, "exit_code")), (json!(3), json!(0)));
        assert_eq!((of(0, "number"), of(1, "number")), (json!(1), json!(2)));
        assert!(of(0, "ended_at").is_string() && of(1, "started_at").is_string());
        let used = &ended["used"];
        assert_eq!(
            (
                &used["cpu_ms"],
                &used["memory_bytes"],
                &used["memory_peak_bytes"],
                &used["ran_ms"]
            ),
            (&json!(6_500), &json!(0), &json!(700_000_000), &json!(12_000))
        );

        let browser = Browser::of(&world, &ana).await;
        let page = browser.get(&format!("/experiments/{}", one.id)).await.page();
        for there in [
            "Resource use",
            "6.50 s",
            "700.0 MB",
            "machine-1",
            "exit code 3",
            "Attempt",
        ] {
            assert!(page.contains(there), "{there} is not in {page}");
        }
        // Nothing of it stays when the experiment goes.
        ana.client.delete_experiment("twice").await.unwrap();
        assert_eq!(world.count("job_attempts").await, 0);
    });
}

#[test]
fn a_log_is_searched_from_its_beginning_to_its_end() {
    on_both(|world| async move {
        let (ana, agent, lease, one) = running(&world).await;
        for piece in 0..10 {
            let lines: Vec<String> = (1..=500).map(|line| format!("step {}", piece * 500 + line)).collect();
            let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            if piece == 7 {
                lines[3] = "RuntimeError: Out of memory";
            }
            agent.log(lease, piece * 500 + 1, &lines).await.unwrap();
        }
        let find = async |filter: LogFilter| ana.client.logs(&one.to_string(), &filter).await.unwrap();
        let contains = |text: &str| LogFilter {
            contains: Some(text.to_owned()),
            ..LogFilter::default()
        };
        let found = find(contains("out of MEMORY")).await;
        assert_eq!(found.lines.iter().map(|line| line.number).collect::<Vec<_>>(), [3504]);
        assert_eq!((found.through, found.total), (Some(5000), 5000));
        let found = find(LogFilter {
            errors: Some(true),
            limit: Some(1),
            ..LogFilter::default()
        })
        .await;
        assert_eq!((found.lines[0].number, found.through), (3504, Some(3504)));
        let few = LogFilter {
            limit: Some(3),
            after: Some(4000),
            ..contains("step")
        };
        let found = find(few).await;
        assert_eq!(
            found.lines.iter().map(|line| line.number).collect::<Vec<_>>(),
            [4001, 4002, 4003]
        );
        let both = ana
            .get(&format!("/api/v1/experiments/{one}/logs?tail=3&contains=x"))
            .await;
        assert_eq!(both.status, 422);

        let browser = Browser::of(&world, &ana).await;
        let log = format!("/experiments/{one}/log");
        let page = browser.get(&format!("{log}?find=OUT%20of")).await.page();
        assert!(page.contains("1 line holds") && page.contains("log?at=3504#at") && !page.contains("data-log"));
        let page = browser.get(&format!("{log}?find=step")).await.page();
        assert!(
            page.contains("500 lines hold") && page.contains("find=step&amp;after=500"),
            "{page}"
        );
        let page = browser.get(&format!("{log}?error=first")).await.page();
        assert!(page.contains("id=\"L3504\"") && page.contains("id=\"at\">3504") && page.contains("log?before=3404"));
        assert!(page.contains("log?after=4403"), "{page}");
        let page = browser.get(&format!("{log}?after=4403")).await.page();
        assert!(page.contains("id=\"L4404\"") && page.contains("id=\"L5000\"") && !page.contains("Later lines"));
        let page = browser.get(&format!("{log}?find=nothing%3Cb%3E")).await.page();
        assert!(page.contains("No line holds “nothing&#60;b&#62;”"), "{page}");
    });
}

#[test]
fn one_look_of_an_administrator_at_a_log_is_one_event() {
    on_both(|world| async move {
        let (_, agent, lease, one) = running(&world).await;
        let lines: Vec<String> = (1..=3000).map(|line| format!("line {line}, no error")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        agent.log(lease, 1, &lines).await.unwrap();
        let browser = Browser::of(&world, &world.admin).await;
        for page in ["", "?error=first", "?find=line", "?before=2000", ".txt"] {
            let before = world.last_event().await;
            let text = browser.get(&format!("/experiments/{}/log{page}", one)).await.page();
            let looks = world.events(&format!("id > {before} AND verb = 'look'")).await;
            assert_eq!(looks.len(), 1, "{page}: {looks:?}");
            if page.is_empty() {
                // It does not follow by itself: that would be another look.
                assert!(text.contains("data-log-waits") && text.contains(">Follow<"), "{text}");
            }
        }
    });
}

#[test]
fn what_is_ticked_is_canceled_archived_and_taken_back_from_the_page() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let browser = Browser::of(&world, &ana).await;
        let page = browser.get("/").await.page();
        assert!(page.contains("ml run hello.py --follow") && page.contains("data-live=\"/?part=rows\""));
        let (one, two) = (ana.submit("train-1").await, ana.submit("eval").await);
        let page = browser.get("/").await.page();
        for there in [
            "train-1",
            "eval",
            "value=\"cancel\"",
            "value=\"archive\"",
            "<kbd>x</kbd>",
            "name=\"owner\"",
        ] {
            assert!(page.contains(there), "{there} is not in {page}");
        }
        let page = browser.get("/?name=train").await.page();
        assert!(page.contains("train-1") && !page.contains(">eval<"));
        let page = browser.get("/?owner=ana&state=QUEUED&sort=name").await.page();
        assert!(page.find(">eval<").unwrap() < page.find(">train-1<").unwrap());
        // What cannot be meant is told above the form, as it was typed.
        let wrong = browser.get("/?show=mine&owner=%3Cb%3E").await;
        assert_eq!(wrong.status, 422);
        assert!(wrong.text.contains("role=\"alert\"") && wrong.text.contains("value=\"&#60;b&#62;\""));

        let both = format!("{},{}", one.id, two.id);
        let refused = browser
            .post("/experiments", &[("act", "archive"), ("ids", &both)])
            .await;
        assert_eq!(refused.status, 409);
        assert!(refused.text.contains("0 of 2 were archived"), "{}", refused.text);
        let cancel = [("act", "cancel"), ("ids", &*both), ("here", "show=mine")];
        assert_eq!(browser.post("/experiments", &cancel).await.leads(), "/?show=mine");
        let archive = [("act", "archive"), ("ids", &*both)];
        assert_eq!(browser.post("/experiments", &archive).await.leads(), "/");
        assert!(!browser.get("/").await.page().contains("train-1"));
        let page = browser.get("/?archived=1").await.page();
        assert!(
            page.contains("train-1") && page.contains("value=\"unarchive\"") && page.contains("Archived experiments")
        );
        let path = format!("/experiments/{}", one.id);
        assert!(browser.get(&path).await.page().contains("Take back from the archive"));
        assert_eq!(browser.post(&path, &[("act", "unarchive")]).await.leads(), path);
        assert!(browser.get("/").await.page().contains("train-1"));
        let back = [("act", "unarchive"), ("ids", &*both), ("here", "archived=1")];
        assert_eq!(browser.post("/experiments", &back).await.leads(), "/?archived=1");
        for wrong in [[("act", "dance"), ("ids", "1")], [("act", "cancel"), ("ids", "x")]] {
            assert_eq!(browser.post("/experiments", &wrong).await.status, 422);
        }
        // Who may see it and not change it is told so, and nothing happens.
        let viewer = world.person_with("viewer", "Viewer").await;
        let viewers = Browser::of(&world, &viewer).await;
        viewers.get("/").await.page();
        let refused = viewers.post("/experiments", &archive).await;
        assert_eq!(refused.status, 409);
        assert_eq!(numbers(&ana, archived()).await.len(), 0);
        assert!(!viewers.get(&path).await.page().contains("value=\"archive\""));
    });
}

#[test]
fn a_configuration_that_is_not_right_is_shown_again_with_the_line_that_is_meant() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await;
        let browser = Browser::of(&world, &ana).await;
        let again = format!("/experiments/{}/again", one.id);
        browser.get(&again).await.page();
        let config = "name: x\nentrypoint: 'true'\nresources:\n  slots: many\n";
        let bad = browser.post(&again, &[("config", config)]).await;
        assert_eq!(bad.status, 422);
        assert!(bad.text.contains("Line 4: <code>  slots: many</code>"), "{}", bad.text);
        assert!(bad.text.contains("data-line=\"4\"") && bad.text.contains("slots: many\n</textarea>"));
    });
}

#[test]
fn a_job_says_how_far_it_is() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let one = ana
            .submit_config(json!({"name": "one", "entrypoint": "true", "max_restarts": 1}))
            .await;
        let id = one.id.to_string();
        assert_eq!(one.progress, None);
        let agent = world.agent("machine-1", 1).await;
        let leases = agent.take(1).await;
        let lease = held(&leases[0]);
        agent.started(lease).await.unwrap();
        let job = world.admin.client.with_key(Some(&leases[0].token));
        let before = world.last_event().await;
        let told = job.report_progress(&id, 0.2504).await.unwrap();
        assert_eq!(told.progress, Some(0.25));
        assert_eq!(
            world.last_event().await,
            before,
            "what a job says of itself is no event"
        );
        let browser = Browser::of(&world, &ana).await;
        for path in ["/".to_owned(), format!("/experiments/{id}")] {
            let page = browser.get(&path).await.page();
            assert!(
                page.contains("<progress value=\"25\" max=\"100\"") && page.contains("25 %"),
                "{page}"
            );
        }
        // 100 % is said of what is whole.
        let nearly = job.report_progress(&id, 0.9999).await.unwrap();
        assert_eq!(nearly.progress, Some(0.999));
        assert_eq!(job.report_progress(&id, 0.29).await.unwrap().progress, Some(0.29));
        for wrong in [-0.1, 1.001, f64::MAX] {
            let refused = job.report_progress(&id, wrong).await.unwrap_err();
            assert!(refused.to_string().contains("from 0 to 1"), "{refused:?}");
        }
        let path = format!("/api/v1/experiments/{id}/progress");
        for wrong in [json!({}), json!({"progress": "1"}), json!({"progress": 0.5, "more": 1})] {
            assert_eq!(
                Answer::of(ana.request("PUT", &path).json(&wrong)).await.status,
                422,
                "{wrong}"
            );
        }
        // Whoever may cancel it may say so, too, and that is on record; to others it is not there.
        assert_eq!(ana.client.report_progress(&id, 1.0).await.unwrap().progress, Some(1.0));
        assert_ne!(world.last_event().await, before);
        ana.client.report_progress(&id, 0.2509).await.unwrap();
        let last = world
            .rows("SELECT detail FROM audit_events ORDER BY id DESC LIMIT 1")
            .await;
        let detail: String = sqlx::Row::get(&last[0], 0);
        assert!(
            detail.contains(r#""before":{"progress":1.0},"after":{"progress":0.25}"#),
            "{detail}"
        );
        let hidden = bob.client.report_progress(&id, 0.5).await.unwrap_err();
        assert!(hidden.to_string().contains("there is no experiment"), "{hidden:?}");
        // The next attempt begins anew; one that has ended gets no further.
        agent.ended(lease, 1).await.unwrap();
        assert_eq!(ana.client.experiment(&id).await.unwrap().experiment.progress, None);
        let lease = held(&agent.take(1).await[0]);
        agent.started(lease).await.unwrap();
        ana.client.report_progress(&id, 0.7).await.unwrap();
        agent.ended(lease, 0).await.unwrap();
        assert_eq!(ana.client.experiment(&id).await.unwrap().experiment.progress, Some(0.7));
        let ended = ana.client.report_progress(&id, 0.9).await.unwrap_err();
        assert!(ended.to_string().contains("gets no further"), "{ended:?}");
    });
}
