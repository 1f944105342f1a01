//! What the operator tells of its work while it does it: a log for people, and traces for a collector of OpenTelemetry, if the
//! environment names one.

use std::pin::Pin;
use std::time::Duration;

use bam_crds::names;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, HttpExporterBuilderSet, Protocol, SpanExporter, SpanExporterBuilder, WithExportConfig,
    WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use ureq::Agent;

use super::settings::LogFormat;

/// Where OpenTelemetry's programs are told to send traces.
const COLLECTORS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// Traces that a collector does not take in this time are lost; the work does not wait for them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the traces when it goes: what was not sent yet is sent.
#[must_use]
pub struct Telemetry(Option<SdkTracerProvider>);

/// Begins to tell.
///
/// # Errors
/// If the environment asks for traces in a way that cannot be understood.
pub fn start(format: LogFormat) -> Result<Telemetry, ExporterBuildError> {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| "info".to_owned());
    // Whoever makes a request tells of its failure, with what it was for.
    let filter = if asked.contains("kube") { asked } else { format!("{asked},kube_client=off") };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    // A line says all by itself: what it was part of is for traces.
    let filter = filter.and(filter_fn(|what| !what.is_span()));
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let asks = COLLECTORS.iter().any(|name| std::env::var(name).is_ok_and(|address| !address.is_empty()));
    let traces = if asks { Some(traces(SpanExporter::builder().with_http())?) } else { None };
    let spans = traces.as_ref().map(|provider| spans(provider.tracer(names::OPERATOR)));
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).init();
    Ok(Telemetry(traces))
}

/// Our own spans, and what was said in them.
fn spans<S>(tracer: Tracer) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let is_ours =
        |what: &Metadata<'_>| what.target().starts_with("bam_operator") && *what.level() <= tracing::Level::INFO;
    tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter_fn(is_ours))
}

/// Where to, with which headers, and which of them: what OpenTelemetry's specification says of the environment is heeded.
fn traces(exporter: SpanExporterBuilder<HttpExporterBuilderSet>) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = exporter.with_http_client(Sender::new()).with_protocol(Protocol::HttpJson);
    let service = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| names::OPERATOR.to_owned());
    let resource = Resource::builder().with_service_name(service).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter.build()?).with_resource(resource).build())
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|traces| traces.shutdown()) {
            tracing::warn!("the last traces could not be sent: {error}");
        }
    }
}

/// Sends from the exporter's own thread, which may wait.
#[derive(Debug)]
struct Sender(Agent);

impl Sender {
    fn new() -> Self {
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        Self(config.build().into())
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let answer = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = answer.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

impl HttpClient for Sender {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async { self.send(request) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use axum::Router;
    use axum::routing::post;
    use serde_json::Value;

    use super::*;

    /// A collector that takes everything: its address, and what it was sent.
    async fn collector() -> (String, mpsc::Receiver<Value>) {
        let (told, hears) = mpsc::channel();
        let take = post(move |body: String| async move {
            told.send(serde_json::from_str(&body).unwrap()).unwrap();
            "{}"
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", take)).await });
        (address, hears)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_hears_of_our_own_work_and_of_what_it_was_part_of() {
        let (address, hears) = collector().await;
        let provider = traces(SpanExporter::builder().with_http().with_endpoint(address)).unwrap();
        let told = tracing_subscriber::registry().with(spans(provider.tracer(names::OPERATOR)));
        tracing::subscriber::with_default(told, || {
            let pass =
                tracing::info_span!(target: "bam_operator::platform", "reconcile", kind = "run", name = "r").entered();
            tracing::info_span!(target: "bam_operator::platform", "action", action = "start_attempt").in_scope(|| {});
            tracing::info_span!(target: "hyper", "somebody else's").in_scope(|| {});
            tracing::debug_span!(target: "bam_operator::platform", "a detail").in_scope(|| {});
            drop(pass);
        });
        tokio::task::spawn_blocking(move || drop(Telemetry(Some(provider)))).await.unwrap();

        let sent = hears.try_iter().next().unwrap();
        let sent = &sent["resourceSpans"][0];
        let text = |of: &Value, key: &str| {
            let attributes = of["attributes"].as_array().unwrap();
            let found = attributes.iter().find(|it| it["key"] == key).unwrap();
            found["value"]["stringValue"].as_str().unwrap().to_owned()
        };
        assert_eq!(text(&sent["resource"], "service.name"), "bam-operator");
        let spans = sent["scopeSpans"][0]["spans"].as_array().unwrap();
        let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["action", "reconcile"]);
        assert_eq!(spans[0]["parentSpanId"], spans[1]["spanId"]);
        assert_eq!(text(&spans[0], "action"), "start_attempt");
    }
}
