//! Lines of a pipe as they come: JSON where they are JSON, else text.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

/// All lines so far.
pub(crate) struct Lines(watch::Receiver<Vec<Value>>);

impl Lines {
    /// Reads `pipe` to its end, in the background.
    pub(crate) fn read(pipe: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (tell, lines) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut pipe = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = pipe.next_line().await {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                tell.send_modify(|lines: &mut Vec<Value>| lines.push(value));
            }
        });
        Self(lines)
    }

    /// What has come so far.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.0.borrow().clone()
    }

    /// The first line that `wanted` accepts, now or later.
    pub(crate) async fn find(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.find_many(1, wanted).await.remove(0)
    }

    /// The first `count` lines that `wanted` accepts.
    pub(crate) async fn find_many(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut lines = self.0.clone();
        let found = lines.wait_for(|all| all.iter().filter(|line| wanted(line)).count() >= count).await;
        let found = found.map(|all| all.iter().filter(|line| wanted(line)).take(count).cloned().collect());
        found.unwrap_or_else(|_| {
            let all: Vec<String> = self.all().iter().map(Value::to_string).collect();
            panic!("the process ended without that line; it wrote:\n{}", all.join("\n"))
        })
    }
}
