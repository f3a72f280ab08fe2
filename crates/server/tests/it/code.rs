//! Code archives.

use bailiwick_api::experiments::NewExperiment;
use bailiwick_api::key::sha256_hex;
use serde_json::json;

use crate::world::{Answer, Person, World, held, on_both, on_both_with};

async fn put(who: &Person, name: &str, code: Vec<u8>) -> Answer {
    Answer::of(who.request("PUT", &format!("/api/v1/code/{name}")).body(code)).await
}

async fn knows(who: &Person, name: &str) -> bool {
    let answer = Answer::of(who.request("HEAD", &format!("/api/v1/code/{name}"))).await;
    assert!(
        answer.text.is_empty() && [200, 404].contains(&answer.status),
        "{answer:?}"
    );
    answer.status == 200
}

async fn submit(who: &Person, code: &str) -> Answer {
    who.post(
        "/api/v1/experiments",
        json!({"config": {"name": "one", "entrypoint": "true"}, "code": code}),
    )
    .await
}

/// Files that the server keeps below `code/`, and those of unfinished uploads.
fn files(world: &World) -> (usize, usize) {
    let count = |dir: std::path::PathBuf| -> usize { std::fs::read_dir(dir).map_or(0, |entries| entries.count()) };
    let code = world.data().join("code");
    let kept = std::fs::read_dir(&code).unwrap().filter_map(Result::ok);
    let kept = kept
        .filter(|entry| entry.file_name() != "incoming")
        .map(|entry| count(entry.path()))
        .sum();
    (kept, count(code.join("incoming")))
}

#[test]
fn that_somebody_else_has_sent_the_same_code_is_not_told_and_opens_nothing() {
    on_both(|world| async move {
        let (ana, bob) = (world.person("ana").await, world.person("bob").await);
        let name = ana.send_code(b"secret recipe").await;
        assert!(knows(&ana, &name).await && !knows(&bob, &name).await);
        let others = submit(&bob, &name).await;
        let nobodys = sha256_hex(b"nobody has this");
        let missing = submit(&bob, &nobodys).await;
        assert_eq!((others.status, others.code().as_str()), (409, "code_missing"));
        assert_eq!(
            others.text.replace(&name, "…").split("request_id").next(),
            missing.text.replace(&nobodys, "…").split("request_id").next()
        );
        assert_eq!(submit(&ana, &name).await.status, 200);
        let code = Answer::of(ana.request("GET", "/api/v1/experiments/one/code")).await;
        assert_eq!((code.status, code.text.as_str()), (200, "secret recipe"));
        assert_eq!(bob.get("/api/v1/experiments/1/code").await.status, 404);
        // Sending it too makes it one's own; the file is there once.
        bob.send_code(b"secret recipe").await;
        assert_eq!(submit(&bob, &name).await.status, 200);
        assert_eq!(files(&world), (1, 0));
        for wrong in ["../../etc/passwd", "", &name.to_uppercase(), &name[1..]] {
            assert_eq!(submit(&ana, wrong).await.code(), "code_missing", "{wrong}");
        }
    });
}

#[test]
fn an_upload_that_is_not_what_was_announced_leaves_nothing() {
    on_both_with(
        |config| config.max_code_bytes = 100_000,
        |world| async move {
            let ana = world.person("ana").await;
            let name = sha256_hex(b"announced");
            let differs = put(&ana, &name, b"something else".to_vec()).await;
            assert_eq!((differs.status, differs.code().as_str()), (422, "invalid"));
            assert_eq!(put(&ana, "abc", b"x".to_vec()).await.status, 422);
            let large = vec![7; 100_001];
            let refused = put(&ana, &sha256_hex(&large), large.clone()).await;
            assert_eq!((refused.status, refused.code().as_str()), (413, "too_large"));
            assert!(refused.message().contains("100000 bytes"));
            assert_eq!(
                put(&ana, &sha256_hex(&large[1..]), large[1..].to_vec()).await.status,
                200
            );
            // A connection that breaks half-way.
            let pieces = futures_util::stream::iter([Ok(vec![1u8; 1000]), Err(std::io::Error::other("gone"))]);
            let body = reqwest::Body::wrap_stream(pieces);
            let broken = ana
                .request("PUT", &format!("/api/v1/code/{name}"))
                .header("content-length", 9000)
                .body(body);
            assert!(broken.send().await.is_err());
            crate::world::eventually("the broken upload is cleared away", || async {
                (files(&world) == (1, 0)).then_some(())
            })
            .await;
            assert!(!knows(&ana, &name).await);
            assert_eq!(submit(&ana, &name).await.code(), "code_missing");
            assert_eq!(
                put(&ana, &name, b"announced".to_vec()).await.status,
                200,
                "and it can be sent again"
            );
            assert_eq!(world.count("code_uploads").await, 2);
        },
    );
}

#[test]
fn an_agent_gets_the_code_of_the_job_it_holds_and_of_no_other() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let code = ana.send_code(b"the code").await;
        let new = NewExperiment {
            config: json!({"name": "one", "entrypoint": "true"}),
            code: Some(code),
            args: vec!["--fast".into(), "a b".into()],
        };
        ana.client.create_experiment(&new).await.unwrap();
        let (agent, other) = (world.agent("machine-1", 1).await, world.agent("machine-2", 1).await);
        let lease = agent.take(1).await.remove(0);
        assert_eq!(lease.command, ["sh", "-c", "true \"$@\"", "sh", "--fast", "a b"]);
        let got = agent.client.job_code(agent.id, lease.job, lease.fence).await.unwrap();
        assert_eq!(got.bytes().await.unwrap().as_ref(), b"the code");
        assert_eq!(
            other
                .client
                .job_code(other.id, lease.job, lease.fence)
                .await
                .unwrap_err()
                .code(),
            Some("lease_lost")
        );
        agent.started(held(&lease)).await.unwrap();
        agent.ended(held(&lease), 0).await.unwrap();
        assert_eq!(
            agent
                .client
                .job_code(agent.id, lease.job, lease.fence)
                .await
                .unwrap_err()
                .code(),
            Some("lease_lost")
        );
    });
}
