//! Logs: written by an agent, read in pieces and followed.

use bailiwick_api::experiments::{LogFilter, State};
use bailiwick_client::calls::LogEvent;
use futures_util::StreamExt;

use crate::world::{Hand, Person, World, held, on_both, on_both_with};
use bailiwick_api::agents::Held;

/// An experiment of hers that runs, and its agent.
pub async fn running(world: &World) -> (Person, Hand, Held, i64) {
    let ana = world.person("ana").await;
    let one = ana.submit("one").await;
    let agent = world.agent("machine-1", 1).await;
    let lease = held(&agent.take(1).await[0]);
    agent.started(lease).await.unwrap();
    (ana, agent, lease, one.id.0)
}

async fn numbers(ana: &Person, filter: LogFilter) -> Vec<i64> {
    let log = ana.client.logs("one", &filter).await.unwrap();
    log.lines.iter().map(|line| line.number).collect()
}

#[test]
fn lines_sent_twice_are_kept_once_and_a_gap_stays_a_gap() {
    on_both(|world| async move {
        let (ana, agent, lease, _) = running(&world).await;
        assert_eq!(agent.log(lease, 1, &["a", "b", "c"]).await.unwrap(), 3);
        assert_eq!(agent.log(lease, 1, &["a", "b", "c"]).await.unwrap(), 3);
        assert_eq!(agent.log(lease, 2, &["b", "c", "d"]).await.unwrap(), 4);
        assert_eq!(agent.log(lease, 9, &["i"]).await.unwrap(), 9);
        assert_eq!(
            agent.log(lease, 7, &[]).await.unwrap(),
            9,
            "an empty text asks how far it goes"
        );
        let log = ana.client.logs("one", &LogFilter::default()).await.unwrap();
        let lines: Vec<_> = log.lines.iter().map(|line| (line.number, line.text.as_str())).collect();
        assert_eq!(lines, [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (9, "i")]);
        assert_eq!((log.total, log.state), (9, State::Running));
        let tail = |tail| LogFilter {
            tail: Some(tail),
            ..LogFilter::default()
        };
        assert_eq!(numbers(&ana, tail(1)).await, [9]);
        assert_eq!(numbers(&ana, tail(0)).await, [0i64; 0]);
        assert_eq!(numbers(&ana, tail(i64::MIN)).await, [0i64; 0]);
        assert_eq!(numbers(&ana, tail(i64::MAX)).await, [1, 2, 3, 4, 9]);
        let after = LogFilter {
            after: Some(2),
            limit: Some(2),
            ..LogFilter::default()
        };
        assert_eq!(numbers(&ana, after).await, [3, 4]);
    });
}

#[test]
fn a_long_tail_is_the_end_of_the_log() {
    on_both(|world| async move {
        let (ana, agent, lease, _) = running(&world).await;
        let lines: Vec<String> = (1..=3000).map(|number| format!("line {number}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        agent.log(lease, 1, &lines).await.unwrap();
        let filter = LogFilter {
            tail: Some(2500),
            ..LogFilter::default()
        };
        let shown = numbers(&ana, filter).await;
        assert_eq!(
            (shown.len(), shown.first(), shown.last()),
            (2500, Some(&501), Some(&3000))
        );
    });
}

#[test]
fn a_log_over_its_limit_keeps_its_beginning_and_its_end() {
    on_both_with(
        |config| config.log_bytes_max = 64 * 1024,
        |world| async move {
            let (ana, agent, lease, _) = running(&world).await;
            let line = "x".repeat(1000);
            let mut next = 1;
            for _ in 0..100 {
                agent.log(lease, next, &[&line, &line]).await.unwrap();
                next += 2;
            }
            let log = ana.client.logs("one", &LogFilter::default()).await.unwrap();
            let numbers: Vec<i64> = log.lines.iter().map(|line| line.number).collect();
            assert_eq!(numbers.first(), Some(&1));
            assert_eq!(numbers.last(), Some(&200));
            let gaps = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
            assert_eq!(gaps, 1, "{numbers:?}");
            assert!((50..=72).contains(&numbers.len()), "{}", numbers.len());
            let kept: i64 = sqlx::Row::get(
                &world.rows("SELECT CAST(SUM(bytes) AS BIGINT) FROM log_chunks").await[0],
                0,
            );
            assert!(kept <= 70_000, "{kept}");
        },
    );
}

/// The ids of the events in a piece of stream, and whether it came to its end.
async fn follow(who: &Person, experiment: i64, last: Option<i64>, until: usize) -> (Vec<i64>, String) {
    let mut request = who.request("GET", &format!("/api/v1/experiments/{experiment}/logs/stream"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.bytes_stream();
    let (mut text, mut numbers) = (String::new(), Vec::new());
    while let Some(Ok(piece)) = body.next().await {
        text.push_str(std::str::from_utf8(&piece).unwrap());
        let whole = text.rfind("\n\n").map_or(0, |at| at + 2);
        numbers = text[..whole]
            .lines()
            .filter_map(|line| line.strip_prefix("data: ["))
            .flat_map(|data| {
                let lines: Vec<bailiwick_api::experiments::LogLine> =
                    serde_json::from_str(&format!("[{data}")).unwrap();
                lines.into_iter().map(|line| line.number)
            })
            .collect();
        if numbers.len() >= until {
            break;
        }
    }
    (numbers, text)
}

#[test]
fn a_follower_that_breaks_off_goes_on_without_gap_or_repetition() {
    on_both(|world| async move {
        let (ana, agent, lease, id) = running(&world).await;
        let writer = agent.clone();
        let writing = tokio::spawn(async move {
            for number in 0..300 {
                writer.log(lease, number * 2 + 1, &["a", "b"]).await.unwrap();
            }
            writer.ended(lease, 0).await.unwrap();
        });
        let mut all: Vec<i64> = Vec::new();
        let mut last_text = String::new();
        while !last_text.contains("event: end") {
            let (numbers, text) = follow(&ana, id, all.last().copied(), 50).await;
            all.extend(numbers);
            last_text = text;
        }
        writing.await.unwrap();
        assert_eq!(all, (1..=600).collect::<Vec<i64>>());
        assert!(
            last_text.ends_with("event: end\ndata: {\"state\":\"COMPLETED\"}\n\n"),
            "{last_text}"
        );
        let mut stream = ana
            .client
            .follow_logs(bailiwick_api::ExperimentId(id), 600)
            .await
            .unwrap();
        assert!(matches!(stream.next().await, Ok(LogEvent::End(State::Completed))));
    });
}

#[test]
fn a_follower_stays_with_its_experiment_when_a_newer_one_takes_the_name() {
    on_both(|world| async move {
        let (ana, agent, lease, _) = running(&world).await;
        let response = ana
            .request("GET", "/api/v1/experiments/one/logs/stream")
            .send()
            .await
            .unwrap();
        ana.submit("one").await;
        let ending = tokio::spawn(async move {
            // Past the time after which the right is looked at again.
            tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
            agent.log(lease, 1, &["still the first"]).await.unwrap();
            agent.ended(lease, 0).await.unwrap();
        });
        let text = response.text().await.unwrap();
        ending.await.unwrap();
        assert!(
            text.contains("still the first") && text.contains("\"COMPLETED\""),
            "{text}"
        );
    });
}

#[test]
fn a_follower_who_loses_the_right_is_told_so() {
    on_both(|world| async move {
        let (_, _, _, id) = running(&world).await;
        let boss = world.person_with("boss", "ClusterAdmin").await;
        let before = world.last_event().await;
        let mut stream = boss
            .client
            .follow_logs(bailiwick_api::ExperimentId(id), 0)
            .await
            .unwrap();
        let waits = tokio::spawn(async move { stream.next().await });
        world.admin.client.deactivate_user("boss").await.unwrap();
        match waits.await.unwrap() {
            Err(why) => assert_eq!(why.status(), Some(401), "{why}"),
            Ok(event) => panic!("{event:?}"),
        }
        let looks = world.events(&format!("id > {before} AND verb = 'look'")).await;
        assert_eq!(looks.len(), 1, "looking on is one look");
    });
}
