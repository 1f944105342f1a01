//! Requests to an API server as they go over the wire: paths and JSON, no types.

use std::pin::pin;
use std::time::Duration;

use futures_util::{AsyncBufReadExt, StreamExt};
use kube::Client;
use serde::Serialize;
use serde_json::Value;

/// An answer that was not what was hoped for, or none.
pub type Failure = Box<kube::Error>;

/// A client for untyped requests.
#[derive(Clone)]
pub struct Wire(pub Client);

impl Wire {
    /// One request; the answer's body.
    pub async fn send(&self, verb: &str, path: &str, content_type: &str, body: Vec<u8>) -> Result<String, Failure> {
        let request = hyper::Request::builder().method(verb).uri(path).header("content-type", content_type).body(body);
        self.0.request_text(request.expect("a valid request")).await.map_err(Box::new)
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Result<String, Failure> {
        self.send("GET", path, "application/json", Vec::new()).await
    }

    /// Makes an object.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<String, Failure> {
        self.send("POST", path, "application/json", json(body)).await
    }

    /// Changes an object.
    pub async fn merge(&self, path: &str, body: &impl Serialize) -> Result<String, Failure> {
        self.send("PATCH", path, "application/merge-patch+json", json(body)).await
    }

    /// Deletes an object at once.
    pub async fn delete(&self, path: &str) -> Result<String, Failure> {
        self.send("DELETE", path, "application/json", json(&at_once())).await
    }

    /// Everything there is of a kind, page by page, as a watch begins; how many objects there are.
    pub async fn list(&self, path: &str, mut each: impl FnMut(&Value)) -> Result<usize, Failure> {
        let (mut next, mut count) = (String::new(), 0);
        loop {
            let page = self.get(&format!("{path}?limit=500&continue={next}")).await?;
            let page: Value = serde_json::from_str(&page).unwrap_or_default();
            let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            count += items.len();
            items.iter().for_each(&mut each);
            next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            if next.is_empty() {
                return Ok(count);
            }
        }
    }

    /// Hears of what there is and what happens, a line of JSON each. Begins anew when it ends: what is there is told again.
    pub async fn watch(&self, path: &str, mut line: impl FnMut(&str)) {
        loop {
            let request = hyper::Request::get(format!("{path}?watch=1&timeoutSeconds=7200")).body(Vec::new());
            // An API server begins to serve a kind with the first who ask for it, and says so.
            if let Ok(stream) = self.0.request_stream(request.expect("a valid request")).await {
                let mut lines = pin!(stream.lines());
                while let Some(Ok(text)) = lines.next().await {
                    line(&text);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// How an object is deleted.
pub fn at_once() -> Value {
    serde_json::json!({ "gracePeriodSeconds": 0, "propagationPolicy": "Background" })
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("plain data")
}
