//! Load over kept-alive connections, written by hand so that as little as possible of the machine goes to the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;

/// A request as it goes over the wire.
pub fn request(method: &str, path: &str, bearer: &str, body: &str) -> Vec<u8> {
    let length = if method == "GET" {
        String::new()
    } else {
        format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
    };
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\n{length}\r\n{body}")
        .into_bytes()
}

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(port: u16) -> Outcome<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .map_err(|why| why.to_string())?;
        stream.set_nodelay(true).map_err(|why| why.to_string())?;
        Ok(Connection {
            stream,
            buffer: Vec::with_capacity(64 * 1024),
        })
    }

    /// Sends and reads the whole answer; gives its status.
    pub async fn send(&mut self, request: &[u8]) -> Outcome<u16> {
        self.stream.write_all(request).await.map_err(|why| why.to_string())?;
        self.buffer.clear();
        loop {
            let read = self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .map_err(|why| why.to_string())?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(status) = whole(&self.buffer)? {
                return Ok(status);
            }
        }
    }

    pub fn body(&self) -> &[u8] {
        let head = find(&self.buffer, b"\r\n\r\n").unwrap_or(0);
        &self.buffer[(head + 4).min(self.buffer.len())..]
    }
}

/// The status, once the answer is there to its last byte.
fn whole(answer: &[u8]) -> Outcome<Option<u16>> {
    let Some(head) = find(answer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..head]).map_err(|why| why.to_string())?;
    let status = text
        .get(9..12)
        .and_then(|digits| digits.parse().ok())
        .ok_or("an answer without a status")?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or("an answer without a length")?;
    Ok((answer.len() >= head + 4 + length).then_some(status))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// What a round of load came to.
pub struct Load {
    pub per_second: f64,
    pub times: Vec<Duration>,
}

/// `connections` send the same request over and over for `time`; each answer must have the status `expected`.
pub async fn hammer(port: u16, connections: usize, time: Duration, request: &[u8], expected: u16) -> Outcome<Load> {
    let request: Arc<[u8]> = request.into();
    let over = Arc::new(AtomicBool::new(false));
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(port).await?);
    }
    let mut tasks = Vec::new();
    let began = Instant::now();
    for mut connection in open {
        let (request, over) = (request.clone(), over.clone());
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                let status = connection.send(&request).await?;
                if status != expected {
                    return Err(format!(
                        "status {status} and not {expected}: {}",
                        String::from_utf8_lossy(connection.body())
                    ));
                }
                times.push(began.elapsed());
            }
            Ok::<_, String>(times)
        }));
    }
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.map_err(|why| why.to_string())??);
    }
    Ok(Load {
        per_second: times.len() as f64 / began.elapsed().as_secs_f64(),
        times,
    })
}
