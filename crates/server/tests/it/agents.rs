//! Leases, as an agent worked by hand sees them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bailiwick_api::agents::{GpuLoad, Happened, Load, OnLostAgent, Poll, Service};
use bailiwick_api::experiments::{State, Stop};
use serde_json::json;

use crate::world::{Answer, START, World, eventually, held, on_both, on_both_with};

async fn state(world: &World, id: impl ToString) -> State {
    world
        .admin
        .client
        .experiment(&id.to_string())
        .await
        .unwrap()
        .experiment
        .state
}

#[test]
fn jobs_are_taken_by_priority_and_then_by_age() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let mut ids = Vec::new();
        for (name, priority) in [("late", 50), ("first", 42), ("second", 42), ("urgent", 1)] {
            let config = json!({"name": name, "entrypoint": "true", "resources": {"priority": priority}});
            ids.push(ana.submit_config(config).await.id);
        }
        let agent = world.agent("machine-1", 8).await;
        let names: Vec<String> = agent.take(8).await.into_iter().map(|lease| lease.name).collect();
        assert_eq!(names, ["urgent", "first", "second", "late"]);
    });
}

#[test]
fn a_job_that_does_not_fit_keeps_its_place_and_one_too_big_for_the_machine_blocks_nobody() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        for (name, slots) in [("giant", 64), ("two", 2), ("wide", 4), ("small", 1)] {
            let config = json!({"name": name, "entrypoint": "true", "resources": {"slots_per_trial": slots}});
            ana.submit_config(config).await;
        }
        let agent = world.agent("machine-1", 4).await;
        let first = agent.take(4).await;
        let names: Vec<&str> = first.iter().map(|lease| lease.name.as_str()).collect();
        assert_eq!(
            names,
            ["two"],
            "`wide` waits for four slots and `small` waits behind it"
        );
        agent.started(held(&first[0])).await.unwrap();
        agent.ended(held(&first[0]), 0).await.unwrap();
        let names: Vec<String> = agent.take(4).await.into_iter().map(|lease| lease.name).collect();
        assert_eq!(names, ["wide"]);
        let detail = ana.client.experiment("giant").await.unwrap();
        assert_eq!(detail.experiment.state, State::Queued);
        assert!(
            detail.experiment.cause.contains("the largest has 4"),
            "{}",
            detail.experiment.cause
        );
    });
}

#[test]
fn an_answer_that_was_lost_is_given_again_under_the_same_fence() {
    on_both(|world| async move {
        world.person("ana").await.submit("one").await;
        let agent = world.agent("machine-1", 1).await;
        let first = agent.take(1).await.remove(0);
        let again = agent.take(1).await;
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].job, again[0].fence), (first.job, first.fence));
        assert_ne!(again[0].token, first.token);
        let old = Answer::of(
            world
                .nobody()
                .client
                .with_key(Some(&first.token))
                .request(reqwest::Method::GET, "/api/v1/me"),
        )
        .await;
        assert_eq!(old.status, 401, "the token that nobody received opens nothing");
        assert!(
            agent.poll(&[held(&again[0])], 0).await.start.is_empty(),
            "now the agent has it"
        );
    });
}

#[test]
fn what_is_said_under_an_old_fence_or_by_another_agent_is_refused() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await;
        let (agent, other) = (world.agent("machine-1", 1).await, world.agent("machine-2", 1).await);
        let lease = held(&agent.take(1).await[0]);
        let mut old = lease;
        old.fence -= 1;
        for outcome in [
            agent.started(old).await,
            agent.ended(old, 0).await,
            agent.log(old, 1, &["x"]).await.map(|_| ()),
            other.started(lease).await,
            other.ended(lease, 0).await,
            other.log(lease, 1, &["x"]).await.map(|_| ()),
        ] {
            assert_eq!(outcome.unwrap_err().code(), Some("lease_lost"));
        }
        assert_eq!(
            other
                .client
                .job_code(other.id, lease.job, lease.fence)
                .await
                .unwrap_err()
                .code(),
            Some("lease_lost")
        );
        // Not another's agent, whatever its number.
        let stolen = crate::world::Hand {
            id: agent.id,
            ..other.clone()
        };
        assert_eq!(stolen.started(lease).await.unwrap_err().code(), Some("not_found"));
        assert_eq!(state(&world, one.id).await, State::Starting);
        agent.started(lease).await.unwrap();
        agent.started(lease).await.unwrap();
        agent.ended(lease, 0).await.unwrap();
        agent.ended(lease, 1).await.unwrap();
        let detail = ana.client.experiment("one").await.unwrap();
        assert_eq!(
            (detail.experiment.state, detail.experiment.exit_code),
            (State::Completed, Some(0)),
            "said twice, counted once"
        );
        let states: Vec<State> = detail.events.iter().map(|event| event.state).collect();
        assert_eq!(
            states,
            [State::Queued, State::Starting, State::Running, State::Completed]
        );
    });
}

#[test]
fn a_job_of_a_silent_agent_is_queued_again_and_the_old_agent_is_not_heard_any_more() {
    on_both_with(
        |config| config.lease_ms = 1000,
        |world| async move {
            let ana = world.person("ana").await;
            let one = ana.submit("one").await;
            let agent = world.agent("machine-1", 1).await;
            let old = held(&agent.take(1).await[0]);
            agent.started(old).await.unwrap();
            eventually("the lease ends", || async {
                (state(&world, one.id).await == State::Queued).then_some(())
            })
            .await;
            assert_eq!(agent.ended(old, 0).await.unwrap_err().code(), Some("lease_lost"));
            assert_eq!(
                agent.log(old, 1, &["late"]).await.unwrap_err().code(),
                Some("lease_lost")
            );
            let next = world.agent("machine-2", 1).await;
            let new = held(&next.take(1).await[0]);
            assert!(new.job == old.job && new.fence > old.fence);
            assert_eq!(agent.started(old).await.unwrap_err().code(), Some("lease_lost"));
            let told = agent.poll(&[old], 0).await;
            assert_eq!(told.drop, [old], "its processes are to be ended");
            next.started(new).await.unwrap();
            next.ended(new, 0).await.unwrap();
            let detail = ana.client.experiment("one").await.unwrap();
            assert_eq!(
                (detail.experiment.state, detail.experiment.restarts),
                (State::Completed, 0),
                "not the job's fault"
            );
            assert_eq!(world.events("verb = 'expire'").await.len(), 1);
        },
    );
}

#[test]
fn a_job_of_a_silent_agent_fails_where_the_operator_wants_that_and_late_reports_do_not_change_it() {
    let set = |config: &mut bailiwick_server::config::Config| {
        config.lease_ms = 1000;
        config.on_lost_agent = OnLostAgent::Fail;
    };
    on_both_with(set, |world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await;
        let agent = world.agent("machine-1", 1).await;
        let old = held(&agent.take(1).await[0]);
        agent.started(old).await.unwrap();
        eventually("the job fails", || async {
            (state(&world, one.id).await == State::Error).then_some(())
        })
        .await;
        for late in [
            agent.started(old).await,
            agent.ended(old, 0).await,
            agent.log(old, 1, &["x"]).await.map(|_| ()),
        ] {
            assert_eq!(late.unwrap_err().code(), Some("lease_lost"));
        }
        assert_eq!(agent.poll(&[old], 0).await.drop, [old]);
        let detail = ana.client.experiment("one").await.unwrap();
        assert!(
            detail.experiment.cause.contains("not heard of"),
            "{}",
            detail.experiment.cause
        );
        assert_eq!(detail.agent.as_deref(), Some("machine-1"));
    });
}

#[test]
fn a_lease_that_is_renewed_does_not_end_and_a_clock_that_jumps_ends_none() {
    on_both_with(
        |config| config.lease_ms = 1500,
        |world| async move {
            let one = world.person("ana").await.submit("one").await;
            let agent = world.agent("machine-1", 1).await;
            let lease = held(&agent.take(1).await[0]);
            agent.started(lease).await.unwrap();
            let began = Instant::now();
            let mut forward = true;
            while began.elapsed() < Duration::from_millis(3500) {
                world.pass_ms(if forward { 86_400_000 } else { -2 * 86_400_000 });
                forward = !forward;
                let answer = agent.try_poll(&[lease], 0, 200).await.unwrap();
                assert!(answer.drop.is_empty() && answer.stop.is_empty());
            }
            assert_eq!(state(&world, one.id).await, State::Running);
        },
    );
}

#[test]
fn cancelling_works_in_every_state() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        // Waiting: at once.
        let waiting = ana.submit("waiting").await;
        let stopped = ana.client.stop_experiment("waiting", Stop::Cancel).await.unwrap();
        assert_eq!(
            (stopped.id, stopped.state, stopped.cause.as_str()),
            (waiting.id, State::Canceled, "canceled by ana")
        );
        let agent = world.agent("machine-1", 4).await;
        assert!(agent.take(4).await.is_empty());
        // Taken, and the agent never learned of it: at its next poll.
        ana.submit("starting").await;
        agent.take(4).await;
        assert_eq!(
            ana.client
                .stop_experiment("starting", Stop::Cancel)
                .await
                .unwrap()
                .state,
            State::Stopping
        );
        assert!(agent.take(4).await.is_empty());
        assert_eq!(
            ana.client.experiment("starting").await.unwrap().experiment.state,
            State::Canceled
        );
        // Running: the agent is told, at once where it waits; a kill comes through also after a cancel.
        ana.submit("running").await;
        let lease = held(&agent.take(4).await[0]);
        agent.started(lease).await.unwrap();
        let (waiter, own) = (agent.clone(), lease);
        let began = Instant::now();
        let waits = tokio::spawn(async move { waiter.try_poll(&[own], 3, 30_000).await });
        ana.client.stop_experiment("running", Stop::Cancel).await.unwrap();
        let told = waits.await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "the long poll was woken");
        assert_eq!((told.stop.len(), told.stop[0].how), (1, Stop::Cancel));
        let mut stopping = lease;
        stopping.stopping = true;
        assert!(agent.poll(&[stopping], 3).await.stop.is_empty(), "said once");
        ana.client.stop_experiment("running", Stop::Kill).await.unwrap();
        let told = agent.poll(&[stopping], 3).await;
        assert_eq!((told.stop.len(), told.stop[0].how), (1, Stop::Kill));
        agent.ended(lease, 0).await.unwrap();
        let detail = ana.client.experiment("running").await.unwrap();
        assert_eq!(
            (detail.experiment.state, detail.experiment.cause.as_str()),
            (State::Canceled, "killed by ana")
        );
        // Ended: nothing changes.
        let after = ana
            .client
            .stop_experiment(&detail.experiment.id.to_string(), Stop::Cancel)
            .await
            .unwrap();
        assert_eq!(after.cause, "killed by ana");
    });
}

#[test]
fn a_job_that_fails_is_tried_again_as_often_as_it_says() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.submit_config(json!({"name": "flaky", "entrypoint": "false", "max_restarts": 2}))
            .await;
        let agent = world.agent("machine-1", 1).await;
        let mut fences = BTreeSet::new();
        for attempt in 0..3 {
            let lease = agent.take(1).await.remove(0);
            assert_eq!(lease.restarts, attempt);
            fences.insert(lease.fence);
            agent.started(held(&lease)).await.unwrap();
            let through = agent.log(held(&lease), attempt + 1, &["trying"]).await.unwrap();
            assert_eq!(through, attempt + 1, "one log over all attempts");
            agent.ended(held(&lease), 3).await.unwrap();
        }
        assert_eq!(fences.len(), 3);
        assert!(agent.take(1).await.is_empty());
        let detail = ana.client.experiment("flaky").await.unwrap();
        assert_eq!((detail.experiment.state, detail.experiment.restarts), (State::Error, 2));
        assert_eq!(
            (detail.experiment.cause.as_str(), detail.experiment.exit_code),
            ("exit code 3", Some(3))
        );
    });
}

#[test]
fn two_agents_that_race_for_jobs_take_each_exactly_once() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        for number in 0..200 {
            ana.submit(&format!("job-{number}")).await;
        }
        let (one, two) = (world.agent("machine-1", 300).await, world.agent("machine-2", 300).await);
        let race = |agent: crate::world::Hand| async move {
            let mut mine = Vec::new();
            loop {
                let taken = agent.poll(&mine, 7).await.start;
                if taken.is_empty() {
                    return mine;
                }
                mine.extend(taken.iter().map(held));
            }
        };
        let (first, second) = tokio::join!(tokio::spawn(race(one)), tokio::spawn(race(two)));
        let (first, second) = (first.unwrap(), second.unwrap());
        let all: BTreeSet<_> = first.iter().chain(&second).map(|held| held.job).collect();
        assert_eq!((first.len() + second.len(), all.len()), (200, 200));
        assert!(first.iter().chain(&second).all(|held| held.fence == 1));
        assert_eq!(world.events("verb = 'take'").await.len(), 200);
    });
}

#[test]
fn an_agent_whose_account_is_gone_is_refused_also_while_it_waits() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let agent = world.agent("machine-1", 2).await;
        ana.submit("before").await;
        let lease = held(&agent.take(1).await[0]);
        agent.started(lease).await.unwrap();
        let waiter = agent.clone();
        let before = world.now();
        world.pass_ms(1000);
        let waits = tokio::spawn(async move { waiter.try_poll(&[lease], 1, 30_000).await });
        // Once the poll waits, and not before, the account goes and a job comes.
        eventually("the poll is there", || async {
            let agents = world.admin.client.agents().await.unwrap();
            (agents.items[0].last_seen_at > before).then_some(())
        })
        .await;
        world
            .admin
            .client
            .remove_service_account("machine-1-account")
            .await
            .unwrap();
        let after = ana.submit("after").await;
        assert_eq!(waits.await.unwrap().unwrap_err().status(), Some(401));
        assert_eq!(state(&world, after.id).await, State::Queued);
        assert_eq!(agent.ended(lease, 0).await.unwrap_err().status(), Some(401));
        assert_eq!(agent.log(lease, 1, &["x"]).await.unwrap_err().status(), Some(401));
    });
}

#[test]
fn an_agent_with_numbers_at_the_edge_gets_an_answer() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        ana.submit("one").await;
        let agent = world.agent("machine-1", 1).await;
        let lease = held(&agent.take(1).await[0]);
        for first in [i64::MIN, -1, 0, i64::MAX] {
            assert_eq!(agent.log(lease, first, &["x"]).await.unwrap_err().status(), Some(422));
        }
        assert!(agent.try_poll(&[lease], i64::MIN, i64::MIN).await.is_ok());
        let what = Happened::Ended {
            at: START,
            exit_code: None,
            signal: Some(i64::MAX),
            reason: Some("a very long reason ".repeat(1000)),
            lost: false,
        };
        agent.report(lease, what).await.unwrap();
        assert_eq!(
            ana.client.experiment("one").await.unwrap().experiment.state,
            State::Error
        );
    });
}

#[test]
fn an_agent_that_is_drained_gets_nothing_new_and_ends_what_it_runs_also_when_it_registers_again() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await;
        let agent = world.agent("machine-1", 2).await;
        let lease = held(&agent.take(2).await[0]);
        agent.started(lease).await.unwrap();
        let two = ana.submit("two").await;
        let admin = &world.admin.client;
        let drained = admin.set_agent_service("machine-1", Service::Draining).await.unwrap();
        assert_eq!(
            (drained.state.as_str(), drained.service),
            ("draining", Service::Draining)
        );
        let told = agent.poll(&[lease], 1).await;
        assert!(told.start.is_empty() && told.stop.is_empty() && told.drop.is_empty());
        agent.ended(lease, 0).await.unwrap();
        assert_eq!(state(&world, one.id).await, State::Completed);
        let again = crate::world::registration("machine-1", 2);
        assert_eq!(agent.client.register_agent(&again).await.unwrap().agent, agent.id);
        assert!(
            agent.take(2).await.is_empty(),
            "it registered again and is drained still"
        );
        let waiting = ana.client.experiment("two").await.unwrap().experiment;
        assert!(
            waiting.cause.contains("no agent that is up and takes work"),
            "{}",
            waiting.cause
        );
        // A poll that waits is woken by the enabling.
        let waiter = agent.clone();
        let waits = tokio::spawn(async move { waiter.try_poll(&[], 2, 30_000).await });
        let began = Instant::now();
        let enabled = admin
            .set_agent_service(&agent.id.to_string(), Service::Enabled)
            .await
            .unwrap();
        assert_eq!(enabled.state, "up");
        let given = waits.await.unwrap().unwrap().start;
        assert!(given.len() == 1 && began.elapsed() < Duration::from_secs(10));
        assert_eq!(state(&world, two.id).await, State::Starting);
        assert_eq!(
            world
                .events("object_kind = 'agent' AND verb IN ('drain', 'enable')")
                .await,
            [
                "admin agents:manage drain agent machine-1 allowed",
                "admin agents:manage enable agent machine-1 allowed"
            ]
        );
    });
}

#[test]
fn an_agent_that_is_disabled_hands_back_what_it_holds_and_what_was_canceled_stays_canceled() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let agent = world.agent("machine-1", 4).await;
        let mut runs = Vec::new();
        for name in ["killed by the signal", "saves and exits", "canceled", "unknown to it"] {
            ana.submit(name).await;
            let held_now: Vec<_> = runs.clone();
            let lease = held(&agent.poll(&held_now, 1).await.start[0]);
            if name != "unknown to it" {
                agent.started(lease).await.unwrap();
                runs.push(lease);
            }
        }
        world
            .admin
            .client
            .set_agent_service("machine-1", Service::Disabled)
            .await
            .unwrap();
        assert_eq!(
            ana.client.experiment("saves and exits").await.unwrap().experiment.state,
            State::Stopping
        );
        ana.client.stop_experiment("canceled", Stop::Cancel).await.unwrap();
        let told = agent.poll(&runs, 4).await;
        assert!(told.start.is_empty());
        assert!(told.stop.len() == 3 && told.stop.iter().all(|order| order.how == Stop::Cancel));
        let killed = Happened::Ended {
            at: START,
            exit_code: None,
            signal: Some(15),
            reason: None,
            lost: false,
        };
        agent.report(runs[0], killed).await.unwrap();
        agent.ended(runs[1], 0).await.unwrap();
        agent.ended(runs[2], 0).await.unwrap();
        for name in ["killed by the signal", "saves and exits", "unknown to it"] {
            let experiment = ana.client.experiment(name).await.unwrap().experiment;
            assert_eq!((experiment.state, experiment.restarts), (State::Queued, 0), "{name}");
        }
        let events = ana.client.experiment("saves and exits").await.unwrap().events;
        let causes: Vec<&str> = events.iter().map(|event| event.cause.as_str()).collect();
        assert_eq!(
            causes[causes.len() - 2..],
            [
                "agent machine-1 was disabled by admin",
                "queued again: agent machine-1 was disabled by admin"
            ]
        );
        let canceled = ana.client.experiment("canceled").await.unwrap().experiment;
        assert_eq!(
            (canceled.state, canceled.cause.as_str()),
            (State::Canceled, "canceled by ana")
        );
        assert!(agent.take(4).await.is_empty(), "nor is it given these again");
        assert_eq!(world.agent("machine-2", 4).await.take(4).await.len(), 3);
    });
}

#[test]
fn a_job_handed_back_fails_where_the_operator_wants_that_of_lost_agents() {
    on_both_with(
        |config| config.on_lost_agent = OnLostAgent::Fail,
        |world| async move {
            let ana = world.person("ana").await;
            ana.submit("one").await;
            let agent = world.agent("machine-1", 1).await;
            let lease = held(&agent.take(1).await[0]);
            agent.started(lease).await.unwrap();
            let admin = &world.admin.client;
            admin.set_agent_service("machine-1", Service::Disabled).await.unwrap();
            agent.ended(lease, 143).await.unwrap();
            let experiment = ana.client.experiment("one").await.unwrap().experiment;
            assert_eq!(
                (experiment.state, experiment.cause.as_str()),
                (State::Error, "agent machine-1 was disabled by admin")
            );
        },
    );
}

#[test]
fn only_who_manages_agents_changes_them_and_a_name_that_two_have_is_asked_about() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let agent = world.agent("machine-1", 1).await;
        let refused = ana.post("/api/v1/agents/machine-1/drain", json!({})).await;
        assert_eq!(refused.status, 403);
        assert!(refused.text.contains("ana needs agents:manage"), "{}", refused.text);
        let own = Answer::of(
            agent
                .client
                .request(reqwest::Method::POST, &format!("/api/v1/agents/{}/enable", agent.id)),
        )
        .await;
        assert_ne!(own.status, 200, "nor the agent's own key");
        let own = agent.client.set_agent_service("machine-1", Service::Enabled).await;
        assert_eq!(own.unwrap_err().status(), Some(403));
        let other = world.agent("machine-2", 1).await;
        let mut same = crate::world::registration("machine-1", 1);
        same.instance = "another".into();
        let second = other.client.register_agent(&same).await.unwrap().agent;
        let admin = &world.admin.client;
        let why = admin.agent("machine-1").await.unwrap_err().to_string();
        assert!(
            why.contains(&format!("2 agents are named `machine-1`: {}, {second}", agent.id)),
            "{why}"
        );
        let drained = admin
            .set_agent_service(&second.to_string(), Service::Draining)
            .await
            .unwrap();
        assert_eq!(drained.account.as_deref(), Some("machine-2-account"));
        assert_eq!(admin.agent(&agent.id.to_string()).await.unwrap().state, "up");
        assert_eq!(admin.agent("machine-9").await.unwrap_err().status(), Some(404));
    });
}

/// On PostgreSQL both may be under way at once: whichever comes first, nothing runs on an agent that is disabled.
#[test]
fn a_job_taken_while_the_agent_is_disabled_is_either_not_taken_or_told_to_stop() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let agent = world.agent("machine-1", 100).await;
        for round in 0..12 {
            ana.submit(&format!("job {round}")).await;
            let (taker, admin) = (agent.clone(), world.admin.client.clone());
            let (taken, disabled) = tokio::join!(async move { taker.take(100).await }, async move {
                admin.set_agent_service("machine-1", Service::Disabled).await
            });
            disabled.unwrap();
            let leases: Vec<_> = taken.iter().map(held).collect();
            let told = agent.poll(&leases, 100).await;
            assert!(told.start.is_empty());
            assert_eq!(told.stop.len() + told.drop.len(), leases.len(), "round {round}");
            for lease in leases {
                agent.started(lease).await.unwrap();
                agent.ended(lease, 1).await.unwrap();
            }
            let admin = &world.admin.client;
            admin.set_agent_service("machine-1", Service::Enabled).await.unwrap();
            for lease in agent.take(100).await {
                agent.started(held(&lease)).await.unwrap();
                agent.ended(held(&lease), 0).await.unwrap();
            }
        }
    });
}

/// Sends a poll that waits, and hangs up in the middle of it.
async fn hang_up(world: &World, agent: &crate::world::Hand, condition: &str) {
    let waiter = agent.clone();
    let before = world.now();
    world.pass_ms(1000);
    let waits = tokio::spawn(async move { waiter.try_poll(&[], 1, 60_000).await });
    eventually(condition, || async {
        let shown = world.admin.client.agent(&agent.id.to_string()).await.unwrap();
        (shown.state == "up" && shown.last_seen_at > before).then_some(())
    })
    .await;
    waits.abort();
    let _ = waits.await;
}

async fn becomes(world: &World, agent: &crate::world::Hand, state: &str) {
    eventually(state, || async {
        let shown = world.admin.client.agent(&agent.id.to_string()).await.unwrap();
        (shown.state == state).then_some(())
    })
    .await;
}

#[test]
fn an_agent_whose_connection_breaks_is_lost_in_seconds_and_up_again_with_its_next_poll() {
    on_both(|world| async move {
        let agent = world.agent("machine-1", 1).await;
        hang_up(&world, &agent, "its poll waits").await;
        let began = Instant::now();
        becomes(&world, &agent, "lost").await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        let waiting = world.person("ana").await.submit("one").await;
        let cause = world
            .admin
            .client
            .experiment(&waiting.id.to_string())
            .await
            .unwrap()
            .experiment
            .cause;
        assert!(cause.contains("no agent that is up"), "{cause}");
        let admin = &world.admin.client;
        let drained = admin.set_agent_service("machine-1", Service::Draining).await.unwrap();
        assert_eq!((drained.state.as_str(), drained.service), ("lost", Service::Draining));
        agent.poll(&[], 1).await;
        assert_eq!(admin.agent("machine-1").await.unwrap().state, "draining");
    });
}

#[test]
fn an_agent_that_hangs_up_to_poll_anew_is_not_lost() {
    on_both(|world| async move {
        let agent = world.agent("machine-1", 1).await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            let poll = agent.try_poll(&[], 0, 60_000);
            let _ = tokio::time::timeout(Duration::from_millis(700), poll).await;
            assert_eq!(world.admin.client.agent("machine-1").await.unwrap().state, "up");
        }
    });
}

#[test]
fn the_load_of_a_machine_is_kept_and_shown_to_whoever_sees_the_agent() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let agent = world.agent("machine-1", 1).await;
        let load = Load {
            cpu_percent: Some(12.5),
            memory_used_bytes: 3_000_000_000,
            memory_total_bytes: 8_000_000_000,
            disk_free_bytes: 5,
            disk_total_bytes: 10,
            gpus: vec![GpuLoad {
                index: 1,
                percent: 97,
                memory_used_bytes: 1,
                memory_total_bytes: 2,
            }],
        };
        let poll = |load: Option<Load>| Poll {
            held: Vec::new(),
            free_slots: 0,
            draining: false,
            wait_ms: 0,
            instance: "only".into(),
            load,
            usage: Vec::new(),
        };
        assert_eq!(ana.client.agent("machine-1").await.unwrap().load, None);
        agent.client.poll(agent.id, &poll(Some(load.clone()))).await.unwrap();
        let shown = ana.client.agent("machine-1").await.unwrap();
        assert_eq!((shown.load.as_ref(), shown.load_at), (Some(&load), Some(world.now())));
        assert_eq!(ana.client.agents().await.unwrap().items[0].load, Some(load.clone()));
        let page = crate::browser::Browser::of(&world, &ana).await;
        for path in ["/queues".to_owned(), format!("/agents/{}", agent.id)] {
            let page = page.get(&path).await.page();
            assert!(page.contains("3.0 GB of 8.0 GB") && page.contains("97 %"), "{page}");
        }
        // Told again too soon, it is not written; a poll without it leaves it.
        let other = Load::default();
        agent.client.poll(agent.id, &poll(Some(other))).await.unwrap();
        agent.client.poll(agent.id, &poll(None)).await.unwrap();
        assert_eq!(ana.client.agent("machine-1").await.unwrap().load, Some(load));
    });
}

#[test]
fn queues_are_served_in_their_order_or_take_turns() {
    on_both(|world| async move {
        for sql in [
            "INSERT INTO queues (name, name_key, open, created_at) VALUES ('second', 'second', 1, 0), ('third', 'third', 1, 0)",
            "INSERT INTO access_changes (version, kind, object_id) SELECT version + 1, 'queue', id FROM access_version CROSS JOIN queues",
            "UPDATE access_version SET version = version + 1",
        ] {
            world.sql(sql).await.unwrap();
        }
        // A change of rights has the server look at all changes.
        world.person("ana").await;
        for (name, fair) in [("ordered", false), ("fair", true)] {
            for queue in ["second", "third", "default"] {
                for at in 1..=2 {
                    let config =
                        json!({"name": format!("{queue} {at}"), "entrypoint": "true", "resources": {"queue": queue}});
                    world.admin.submit_config(config).await;
                }
            }
            let mut new = crate::world::registration(name, 8);
            new.queues = vec!["third".into(), "default".into(), "second".into()];
            new.fair = fair;
            let agent = world.admin.client.register_agent(&new).await.unwrap().agent;
            let agent = crate::world::Hand {
                client: world.admin.client.clone(),
                id: agent,
                key: String::new(),
            };
            assert_eq!(world.admin.client.agent(name).await.unwrap().fair, fair);
            let mut names = Vec::new();
            let mut all = Vec::new();
            // In three answers: whose turn it is outlasts them.
            for free in [1, 3, 2] {
                let leases = agent.poll(&all, free).await.start;
                all.extend(leases.iter().map(held));
                names.extend(leases.into_iter().map(|lease| lease.name));
            }
            let expected = match fair {
                false => ["third 1", "third 2", "default 1", "default 2", "second 1", "second 2"],
                true => ["third 1", "default 1", "second 1", "third 2", "default 2", "second 2"],
            };
            assert_eq!(names, expected, "{name}");
        }
    });
}

#[test]
fn an_agent_without_the_right_is_told_which_queue_and_what_to_ask_for_and_its_key_opens_nothing_else() {
    on_both(|world| async move {
        let new = bailiwick_api::users::NewServiceAccount {
            name: "machine".into(),
            serve: vec!["elsewhere".into()],
            impersonate: false,
        };
        let elsewhere = json!({"name": "elsewhere", "access": "assigned"});
        let elsewhere = world.admin.post("/api/v1/queues", elsewhere).await;
        assert_eq!(elsewhere.status, 200, "{}", elsewhere.text);
        let made = world.admin.client.create_service_account(&new).await.unwrap();
        let machine = crate::world::Person::of(&world.admin.client, "machine", &made.secret).await;
        let words = json!({"name": "m", "queues": ["default"], "slots": []});
        let refused = machine.post("/api/v1/agents", words.clone()).await;
        assert_eq!(refused.status, 404);
        let ask = "`ml rbac assign-role QueueAgent -u machine --on queue:default`";
        assert!(
            refused.text.contains("`default`") && refused.text.contains(ask),
            "{}",
            refused.text
        );
        let give = json!({"role": "QueueAgent", "user": "machine", "on": "queue:default"});
        let give = json!({"assignments": [give]});
        let given = world.admin.post("/api/v1/assignments", give.clone()).await;
        assert_eq!(given.status, 200, "{}", given.text);
        assert_eq!(machine.post("/api/v1/agents", words).await.status, 200);
        // What each route says to such a key stands in the matrix: this is what everybody else may ask for.
        let more = json!({"label": "another"});
        let more = world
            .admin
            .post("/api/v1/service-accounts/machine/credentials", more)
            .await;
        let second =
            crate::world::Person::of(&world.admin.client, "machine", more.json()["secret"].as_str().unwrap()).await;
        let asks = json!({"role": "Editor", "on": "workspace:default", "lifetime_ms": 60_000, "why": "x"});
        for key in [&machine, &second] {
            for path in [
                "/api/v1/users",
                "/api/v1/roles",
                "/api/v1/groups",
                "/api/v1/queues",
                "/api/v1/experiments",
            ] {
                let refused = key.get(path).await;
                assert_eq!(refused.status, 403, "{path}");
                assert!(
                    refused.text.contains("serves queues, and does nothing else"),
                    "{}",
                    refused.text
                );
            }
            assert_eq!(key.post("/api/v1/access/requests", asks.clone()).await.status, 403);
        }
        assert_eq!(machine.get("/api/v1/me").await.status, 200);
        // Taken away while a poll waits: that poll says so. Given back, the next one is answered.
        let hand = crate::world::Hand::register(machine.client.clone(), "m", 1, &made.secret).await;
        let waiter = hand.clone();
        let waits = tokio::spawn(async move { waiter.try_poll(&[], 1, 60_000).await });
        hand.poll(&[], 1).await;
        let taken = world.admin.post("/api/v1/assignments/remove", give.clone()).await;
        assert_eq!(taken.status, 200, "{}", taken.text);
        let submitted = world.admin.submit("one").await;
        let refused = waits.await.unwrap().unwrap_err();
        assert_eq!(refused.status(), Some(404), "{refused}");
        assert_eq!(state(&world, submitted.id).await, State::Queued);
        assert_eq!(world.admin.post("/api/v1/assignments", give).await.status, 200);
        assert_eq!(hand.take(1).await.len(), 1);
    });
}

#[test]
fn an_agent_that_may_not_serve_one_of_its_queues_any_more_gets_work_from_the_others_and_is_told_why() {
    on_both(|world| async move {
        for name in ["elsewhere", "third"] {
            let made = world
                .admin
                .post("/api/v1/queues", json!({"name": name, "access": "assigned"}))
                .await;
            assert_eq!(made.status, 200, "{}", made.text);
        }
        let new = bailiwick_api::users::NewServiceAccount {
            name: "machine".into(),
            serve: vec!["default".into(), "elsewhere".into()],
            impersonate: false,
        };
        let made = world.admin.client.create_service_account(&new).await.unwrap();
        let machine = crate::world::Person::of(&world.admin.client, "machine", &made.secret).await;
        let words = |queues: &[&str]| json!({"name": "m", "queues": queues, "slots": [{"index": 0, "kind": "cpu", "name": "x"}], "instance": "i"});
        let both = words(&["elsewhere", "default"]);
        let known = machine.post("/api/v1/agents", both.clone()).await;
        assert_eq!(known.status, 200, "{}", known.text);
        let poll = format!("/api/v1/agents/{}/poll", known.json()["agent"]);
        let wait = |ms: i64| json!({"held": [], "free_slots": 1, "wait_ms": ms, "instance": "i"});
        assert!(machine.post(&poll, wait(0)).await.json().get("not_served").is_none());
        // Taken away while a poll waits: told at once.
        let take = |queue: &str| json!({"assignments": [{"role": "QueueAgent", "user": "machine", "on": format!("queue:{queue}")}]});
        let (told, taken) = tokio::join!(machine.post(&poll, wait(10_000)), async {
            // Most likely the poll waits by now; else its end tells it.
            for _ in 0..3 {
                world.admin.get("/api/v1/me").await;
            }
            world.admin.post("/api/v1/assignments/remove", take("elsewhere")).await
        });
        assert_eq!((told.status, taken.status), (200, 200), "{} {}", told.text, taken.text);
        let why = told.json()["not_served"]["elsewhere"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            why.contains("it is gone (deleted or renamed), or machine may not see it")
                && why.contains("`ml rbac assign-role QueueAgent -u machine --on queue:elsewhere`"),
            "{}",
            told.text
        );
        let submitted = world.admin.submit("one").await;
        let given = machine.post(&poll, wait(60_000)).await.json();
        assert_eq!(given["start"][0]["experiment"], json!(submitted.id), "{given}");
        // It comes back with its list as it was; another one, and what it never served, are refused.
        assert_eq!(machine.post("/api/v1/agents", both.clone()).await.status, 200);
        let mut other = both.clone();
        other["name"] = json!("other");
        assert_eq!(machine.post("/api/v1/agents", other).await.status, 404);
        let more = machine
            .post("/api/v1/agents", words(&["elsewhere", "default", "third"]))
            .await;
        assert!(more.status == 404 && more.text.contains("third"), "{}", more.text);
        // Without any it brings to its end what runs, and is refused as ever when that is over.
        let fence = given["start"][0]["fence"].clone();
        let job = format!(
            "/api/v1/agents/{}/jobs/{}/report",
            known.json()["agent"],
            given["start"][0]["job"]
        );
        let started = json!({"fence": fence, "happened": "started", "at": world.now()});
        let started = machine.post(&job, started).await;
        assert_eq!(started.status, 200, "{}", started.text);
        let taken = world.admin.post("/api/v1/assignments/remove", take("default")).await;
        assert_eq!(taken.status, 200, "{}", taken.text);
        let mut busy = wait(0);
        busy["held"] = json!([{"job": given["start"][0]["job"], "fence": fence, "stopping": false}]);
        let waits = world.admin.submit("two").await;
        let polled = machine.post(&poll, busy).await;
        assert_eq!(polled.status, 200, "{}", polled.text);
        let polled = polled.json();
        assert!(
            polled["not_served"]["default"].is_string() && polled["start"] == json!([]) && polled["drop"] == json!([]),
            "{polled}"
        );
        let shown = world.admin.client.agent("m").await.unwrap();
        assert_eq!(shown.state, "refused");
        let why = world
            .admin
            .client
            .experiment(&waits.id.to_string())
            .await
            .unwrap()
            .experiment
            .cause;
        assert!(
            why.contains("no agent that is up and takes work serves queue `default`"),
            "{why}"
        );
        let ended = json!({"fence": fence, "happened": "ended", "at": world.now(), "exit_code": 0, "lost": false});
        let ended = machine.post(&job, ended).await;
        assert_eq!(ended.status, 200, "{}", ended.text);
        assert_eq!(machine.post(&poll, wait(0)).await.status, 404);
        assert_eq!(machine.post("/api/v1/agents", both).await.status, 404);
    });
}
