//! Requests as no client of ours makes them. Each gets an answer in our words.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Answer, World, on_both};

/// Sends bytes as they are; what comes back until the server closes or falls silent.
async fn raw(world: &World, request: &[u8]) -> String {
    let address = world.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // The server may have heard enough before the end.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(Ok(length @ 1..)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut piece)).await {
        answer.extend_from_slice(&piece[..length]);
        if answer.windows(4).any(|window| window == b"\r\n\r\n") && !answer.starts_with(b"HTTP/1.1 100") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let large = json!({"config": {"entrypoint": "true", "notes": "x".repeat(3_000_000)}});
        // The server may hang up on whoever is still sending.
        if let Ok(answer) = Answer::try_of(ana.request("POST", "/api/v1/experiments").json(&large)).await {
            assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
        }
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = sent.clone();
        let pieces = futures_util::stream::iter((0..1600).map(move |_| {
            counter.fetch_add(65536, std::sync::atomic::Ordering::Relaxed);
            Ok::<_, std::io::Error>(vec![b' '; 65536])
        }));
        let request = ana
            .request("POST", "/api/v1/experiments")
            .body(reqwest::Body::wrap_stream(pieces));
        if let Ok(answer) = Answer::try_of(request).await {
            assert_eq!(answer.status, 413);
        }
        let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
        assert!(sent < 50_000_000, "{sent} bytes of 100 MB were taken");
        let head = format!(
            "POST /api/v1/experiments HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 104857600\r\n\r\n{{",
            ana.key
        );
        let announced = raw(&world, head.as_bytes()).await;
        assert!(
            announced.starts_with("HTTP/1.1 413"),
            "what is announced too large is not waited for: {announced}"
        );
        assert_eq!(world.count("experiments").await, 0);
    });
}

#[test]
fn bodies_that_are_no_json_of_ours_are_refused_in_words() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let send = |body: Vec<u8>| {
            let request = ana
                .request("POST", "/api/v1/experiments")
                .header("content-type", "application/json")
                .body(body);
            async move {
                let answer = Answer::of(request).await;
                (answer.status, answer.code())
            }
        };
        let deep = |depth: usize| format!("{{\"config\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
        assert_eq!(send(deep(100_000)).await, (400, "invalid".into()));
        assert_eq!(send(deep(100)).await, (422, "invalid".into()));
        assert_eq!(send(b"{".to_vec()).await, (400, "invalid".into()));
        assert_eq!(send(b"\xff\xfe".to_vec()).await, (400, "invalid".into()));
        assert_eq!(
            send(b"{\"config\": {\"entrypoint\": \"\xff\"}}".to_vec()).await,
            (400, "invalid".into())
        );
        assert_eq!(
            send(b"{\"config\": {\"entrypoint\": \"\\ud800\"}}".to_vec()).await,
            (400, "invalid".into())
        );
        assert_eq!(send(b"[]".to_vec()).await, (422, "invalid".into()));
        assert_eq!(send(b"".to_vec()).await, (422, "invalid".into()));
        assert_eq!(
            send(b"{\"config\": {}, \"x\": 1}".to_vec()).await,
            (422, "invalid".into())
        );
        let wide = json!({"config": {"entrypoint": "true", "hyperparameters": (0..20_000).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>()}});
        assert_eq!(ana.post("/api/v1/experiments", wide).await.status, 200);
        let twice = b"{\"config\": {\"entrypoint\": \"true\"}, \"config\": {}}".to_vec();
        assert_eq!(send(twice).await.0, 422);
    });
}

#[test]
fn a_zero_character_is_refused_wherever_it_stands() {
    on_both(|world| async move {
        let admin = &world.admin;
        for (path, body) in [
            ("/api/v1/login", json!({"name": "a\u{0}b", "password": "x"})),
            ("/api/v1/users", json!({"name": "a\u{0}b"})),
            ("/api/v1/users", json!({"name": "ab", "display_name": "a\u{0}b"})),
            ("/api/v1/tokens", json!({"label": "a\u{0}b"})),
            (
                "/api/v1/experiments",
                json!({"config": {"entrypoint": "true"}, "args": ["\u{0}"]}),
            ),
        ] {
            assert_eq!(admin.post(path, body).await.status, 422, "{path}");
        }
        for path in ["/api/v1/experiments/a%00b", "/api/v1/users/%00", "/api/v1/tokens/%00"] {
            let refused = admin.get(path).await;
            assert_eq!(
                (refused.status, refused.message()),
                (404, format!("there is no page or interface `{path}`"))
            );
            assert_eq!(
                admin.post(&format!("{path}/cancel"), json!({})).await.status / 100,
                4,
                "{path}"
            );
        }
        for path in [
            "/api/v1/experiments?name=%00",
            "/api/v1/audit?user=%00",
            "/api/v1/audit?object=a%00",
            "/api/v1/tokens?user=%00",
        ] {
            assert_eq!(admin.get(path).await.status, 422, "{path}");
        }
    });
}

#[test]
fn odd_paths_methods_and_queries_are_answered_in_our_words() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        for (method, path, status) in [
            ("GET", "/nothing", 404),
            ("GET", "/api/v1/nothing", 404),
            ("GET", "/api/v1/experiments/%ff%fe", 404),
            ("GET", "/api/v1/experiments/", 404),
            ("GET", "/api/v1//experiments", 404),
            ("GET", "/api/v1/experiments/..%2f..%2fetc%2fpasswd", 404),
            ("GET", "/static/..%2fplain.css", 404),
            ("GET", "/api/v1/experiments/99999999999999999999", 404),
            ("GET", "/api/v1/experiments/-1", 404),
            ("GET", "/api/v1/experiments?limit=x", 422),
            ("GET", "/api/v1/experiments?colour=red", 422),
            ("GET", "/api/v1/experiments?state=queued", 422),
            ("GET", "/api/v1/users?x=1", 422),
            ("GET", "/api/v1/tokens?x=1", 422),
            ("GET", "/api/v1/experiments?limit=1&limit=2", 422),
            ("PATCH", "/api/v1/experiments", 405),
            ("DELETE", "/api/v1/me", 405),
            ("BREW", "/api/v1/me", 405),
            ("POST", "/healthz", 405),
        ] {
            let answer = Answer::of(ana.request(method, path)).await;
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
            assert!(!answer.message().is_empty(), "{method} {path}: {}", answer.text);
        }
        let answer = ana.get("/api/v1/experiments/nothing").await;
        assert_eq!(
            answer.headers["x-request-id"].to_str().unwrap(),
            answer.json()["error"]["request_id"]
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        let long = ana.get(&format!("/api/v1/experiments/{}", "x".repeat(60_000))).await;
        assert_eq!(long.status, 404);
    });
}

#[test]
fn heads_that_are_too_large_or_not_http_are_turned_away() {
    on_both(|world| async move {
        let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
        let many = raw(
            &world,
            format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes(),
        )
        .await;
        assert!(many.starts_with("HTTP/1.1 431"), "{many}");
        let large = format!(
            "GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
            "x".repeat(2_000_000)
        );
        let large = raw(&world, large.as_bytes()).await;
        assert!(large.is_empty() || large.starts_with("HTTP/1.1 431"), "{large}");
        let junk = raw(&world, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await;
        assert!(junk.is_empty() || junk.starts_with("HTTP/1.1 400"), "{junk}");
        assert_eq!(world.nobody().get("/healthz").await.status, 200);
    });
}

#[test]
fn a_clock_that_jumps_breaks_nothing() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        for jump_ms in [-86_400_000, 30 * 86_400_000i64, -400 * 86_400_000, 1] {
            world.pass_ms(jump_ms);
            let one = ana.submit("one").await;
            assert_eq!(one.created_at, world.now());
            for path in [
                "/api/v1/experiments",
                "/api/v1/tokens?all=true",
                "/api/v1/agents",
                "/api/v1/queues",
                "/api/v1/users",
            ] {
                assert_eq!(ana.get(path).await.status, 200, "{path} after {jump_ms}");
            }
            assert_eq!(
                ana.post(&format!("/api/v1/experiments/{}/cancel", one.id), json!({}))
                    .await
                    .status,
                200
            );
        }
        let newest: Vec<Value> = ana.get("/api/v1/experiments").await.json()["items"]
            .as_array()
            .unwrap()
            .clone();
        let ids: Vec<i64> = newest.iter().map(|one| one["id"].as_i64().unwrap()).collect();
        assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    });
}
