//! A small API server: objects as JSON, lists, merge patches, watches that tell a story, and logs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

/// What is in the cluster, by plural and name; and what will be.
#[derive(Default)]
pub struct Objects {
    pub all: BTreeMap<(String, String), Value>,
    /// Logs, by pod.
    pub logs: BTreeMap<String, String>,
    /// What happens to experiments, one after another, to whoever watches.
    pub story: Vec<Chapter>,
    /// What is refused: plural, code.
    pub refuses: BTreeMap<String, u16>,
    /// So many requests fail.
    pub fails: u32,
    /// The bodies of all patches.
    pub patches: Vec<Value>,
    version: u64,
}

/// What happens to the experiment that is watched.
#[derive(Clone)]
pub enum Chapter {
    /// It is like this.
    Is(Value),
    /// It is deleted.
    Deleted,
    /// The connection breaks, and some requests after it fail.
    Breaks,
    /// And nothing more.
    Silence,
}

#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<Objects>>);

impl Server {
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap()
    }

    pub fn put(&self, plural: &str, mut object: Value) {
        let mut objects = self.objects();
        objects.version += 1;
        object["metadata"]["resourceVersion"] = objects.version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        objects.all.insert((plural.to_owned(), name), object);
    }

    /// Serves until the test is over. Returns its address.
    pub fn start(&self) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let app = Router::new().fallback(answer).with_state(self.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        });
        format!("http://{address}")
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Response {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message });
    (StatusCode::from_u16(code).unwrap(), axum::body::Bytes::from(status.to_string())).into_response()
}

fn answered(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

async fn answer(State(server): State<Server>, method: Method, uri: Uri, body: Bytes) -> Response {
    let Some((_, path)) = uri.path().split_once("/namespaces/lab/") else {
        return failure(404, "NotFound", "the server could not find the requested resource");
    };
    let query = uri.query().unwrap_or_default();
    let mut parts = path.split('/');
    let (plural, name, below) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    let mut objects = server.objects();
    if objects.fails > 0 {
        objects.fails -= 1;
        return failure(500, "InternalError", "etcd has no leader");
    }
    if let Some(code) = objects.refuses.get(plural) {
        return failure(*code, "Forbidden", &format!("{plural} is forbidden"));
    }
    if below == Some("log") {
        return objects.logs.get(name).cloned().unwrap_or_default().into_response();
    }
    let key = (plural.to_owned(), name.to_owned());
    match (method, name) {
        (Method::GET, "") if query.contains("watch=true") => {
            drop(objects);
            watch(server)
        }
        (Method::GET, "") => {
            let all = objects.all.iter().filter(|((kind, _), _)| kind == plural).map(|(_, object)| object);
            let items: Vec<_> = all.filter(|object| is_selected(object, query)).collect();
            let version = objects.version.to_string();
            answered(
                &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
            )
        }
        (Method::GET, _) => match objects.all.get(&key) {
            Some(object) => answered(object),
            None => failure(404, "NotFound", &format!("{plural} \"{name}\" not found")),
        },
        (Method::PATCH, _) => {
            let patch: Value = serde_json::from_slice(&body).unwrap();
            objects.patches.push(patch.clone());
            let Some(object) = objects.all.get_mut(&key) else { return failure(404, "NotFound", "not found") };
            if object["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
                return failure(409, "Conflict", "the object has been modified");
            }
            for (field, value) in patch["spec"].as_object().unwrap() {
                object["spec"][field] = value.clone();
            }
            answered(object)
        }
        (method, _) => failure(405, "MethodNotAllowed", &format!("{method} {path}")),
    }
}

/// By label (`run in (a,b)`) or by name.
fn is_selected(object: &Value, query: &str) -> bool {
    let run = object["metadata"]["labels"]["bam.dev/run"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap();
    (!query.contains("labelSelector") || query.contains(run))
        && (!query.contains("fieldSelector") || query.contains(name))
}

/// Tells what is left of the story, a little at a time.
fn watch(server: Server) -> Response {
    let next = |server: Server| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let chapter = {
            let mut objects = server.objects();
            if objects.story.is_empty() { Chapter::Silence } else { objects.story.remove(0) }
        };
        let event = |kind: &str, object: Value| {
            Ok::<_, std::io::Error>(Bytes::from(format!("{}\n", json!({ "type": kind, "object": object }))))
        };
        let line = match chapter {
            Chapter::Is(object) => {
                server.put("bamexperiments", object);
                let all = server.objects();
                event("MODIFIED", all.all.iter().find(|((kind, _), _)| kind == "bamexperiments")?.1.clone())
            }
            Chapter::Deleted => {
                let mut all = server.objects();
                let key = all.all.keys().find(|(kind, _)| kind == "bamexperiments")?.clone();
                event("DELETED", all.all.remove(&key)?)
            }
            Chapter::Breaks => {
                server.objects().fails = 2;
                Err(std::io::Error::other("the connection breaks"))
            }
            Chapter::Silence => std::future::pending().await,
        };
        Some((line, server))
    };
    Body::from_stream(stream::unfold(server, next)).into_response()
}
