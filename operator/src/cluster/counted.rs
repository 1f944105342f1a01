//! A client whose requests are counted by what came back, watches too.

use std::sync::Arc;

use hyper::Request;
use kube::Client;
use kube::client::Body;

use super::metrics::Metrics;

/// The same client, counted.
pub fn counted(client: Client, metrics: Arc<Metrics>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, metrics, method) = (client.clone(), metrics.clone(), request.method().clone());
        async move {
            let answer = client.send(request).await;
            metrics.standard().requested(&method, answer.as_ref().ok().map(|answer| answer.status()));
            answer
        }
    });
    Client::new(service, namespace)
}

#[cfg(test)]
mod tests {
    use hyper::{Response, StatusCode};
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;

    use super::*;

    #[tokio::test]
    async fn every_request_is_counted_by_what_came_back() {
        let server = tower::service_fn(|request: Request<Body>| async move {
            let (code, body) = match request.uri().path().rsplit('/').next() {
                Some("there") => (StatusCode::OK, r#"{"metadata":{"name":"there"}}"#),
                Some("teapot") => (StatusCode::IM_A_TEAPOT, "{}"),
                Some("gone") => (StatusCode::NOT_FOUND, r#"{"code":404,"reason":"NotFound"}"#),
                _ => return Err("nobody is there"),
            };
            Ok(Response::builder().status(code).body(Body::from(body.as_bytes().to_vec())).unwrap())
        });
        let metrics = Arc::new(Metrics::new());
        let client = counted(Client::new(server, "lab"), metrics.clone());
        assert_eq!(client.default_namespace(), "lab");
        let pods: Api<Pod> = Api::namespaced(client, "lab");
        assert!(pods.get("there").await.is_ok());
        assert!(pods.get_opt("gone").await.unwrap().is_none());
        assert!(pods.get("teapot").await.is_err());
        assert!(pods.delete("silent", &Default::default()).await.is_err());
        let rendered = metrics.render();
        for (code, method) in [("200", "GET"), ("404", "GET"), ("other", "GET"), ("<error>", "DELETE")] {
            let line = format!("rest_client_requests_total{{code=\"{code}\",method=\"{method}\"}} 1\n");
            assert!(rendered.contains(&line), "{line}\n{rendered}");
        }
    }
}
