//! Buckets: the clients of the services, from the environment that their own tools read.
//!
//! Owns credentials, endpoints, timeouts and retries. Knows nothing of what is stored.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderValue, Method, header};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use super::StoreError;
use super::stream::{Body, Sender};
use crate::config::{BucketUrl, Service};

/// A bucket's clients.
pub(super) struct Clients {
    pub objects: Arc<dyn ObjectStore>,
    /// One for uploads, where the service has more to offer than `object_store` asks for.
    pub uploading: Option<Uploading>,
}

/// A client for uploads: those in parts end only where nothing is there yet.
#[derive(Debug, Clone)]
pub(super) struct Uploading {
    pub objects: Arc<dyn ObjectStore>,
    /// Whether it also sends a [file](super::stream::Body) in the place of an empty payload.
    pub streams: bool,
    /// The largest file that is sent so, in bytes: what is cut off begins anew.
    pub whole: u64,
}

/// Makes the clients of a bucket. Nothing is asked of the server yet.
pub(super) fn clients(url: &BucketUrl) -> Result<Clients, StoreError> {
    let made = match url.service {
        Service::S3 => s3(url),
        Service::Gs => GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&url.bucket)
            .with_retry(retries())
            .with_client_options(options())
            .build()
            .map(|objects| Clients { objects: Arc::new(objects), uploading: None }),
        Service::Az => MicrosoftAzureBuilder::from_env()
            .with_container_name(&url.bucket)
            .with_retry(retries())
            .with_client_options(options())
            .build()
            .map(|objects| Clients { objects: Arc::new(objects), uploading: None }),
    };
    let clients = made.map_err(|error| StoreError::of("cannot open the store", url, error))?;
    if url.prefix.is_empty() {
        return Ok(clients);
    }
    let below = |objects| -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(objects, url.prefix.as_str()))
    };
    let uploading = clients
        .uploading
        .map(|uploading| Uploading { objects: below(uploading.objects), ..uploading });
    Ok(Clients { objects: below(clients.objects), uploading })
}

fn s3(url: &BucketUrl) -> object_store::Result<Clients> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&url.bucket)
        .with_retry(retries())
        // One request an object: not every server has the other kind.
        .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
    for (key, value) in [
        (ClientConfigKey::Timeout, "300s"),
        (ClientConfigKey::ReadTimeout, "60s"),
        (ClientConfigKey::ConnectTimeout, "10s"),
        (ClientConfigKey::UserAgent, AGENT),
    ] {
        let key = AmazonS3ConfigKey::Client(key);
        if builder.get_config_value(&key).is_none() {
            builder = builder.with_config(key, value);
        }
    }
    let endpoint = builder
        .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    if let Some(endpoint) = endpoint {
        if endpoint.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
    } else if std::env::var_os("AWS_VIRTUAL_HOSTED_STYLE_REQUEST").is_none() {
        // Amazon wants the bucket in the host's name. One with a dot would not fit the certificate.
        let in_host = !url.bucket.contains('.');
        builder = builder.with_virtual_hosted_style_request(in_host);
    }
    // Who signs or connects in a way of their own does so through `object_store` alone.
    let streams = !OWN_WAYS.iter().any(|key| {
        builder.get_config_value(key).is_some_and(|value| !value.is_empty() && value != "false")
    });
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let objects = builder.clone().build()?;
    let sender = Arc::new(Sender {
        credentials: objects.credentials().clone(),
        region: region.unwrap_or_else(|| "us-east-1".to_owned()),
        agent: AGENT,
        client: OnceLock::new(),
    });
    let uploads = builder
        .with_credentials(objects.credentials().clone())
        .with_http_connector(ForUploads(sender))
        .build()?;
    let uploading = Some(Uploading { objects: Arc::new(uploads), streams, whole: WHOLE });
    Ok(Clients { objects: Arc::new(objects), uploading })
}

/// What [`Sender`] does not know of.
const OWN_WAYS: [AmazonS3ConfigKey; 9] = [
    AmazonS3ConfigKey::S3Express,
    AmazonS3ConfigKey::Checksum,
    AmazonS3ConfigKey::UnsignedPayload,
    AmazonS3ConfigKey::Client(ClientConfigKey::ProxyUrl),
    AmazonS3ConfigKey::Client(ClientConfigKey::ProxyCaCertificate),
    AmazonS3ConfigKey::Client(ClientConfigKey::ProxyExcludes),
    AmazonS3ConfigKey::Client(ClientConfigKey::AllowInvalidCertificates),
    AmazonS3ConfigKey::Client(ClientConfigKey::NoSystemCertificates),
    AmazonS3ConfigKey::Client(ClientConfigKey::Http2Only),
];

/// The largest file that is streamed in one request. Servers that keep parts as files copy every byte once
/// more to put them together.
const WHOLE: u64 = 256 << 20;

const AGENT: &str = concat!("publish/", env!("CARGO_PKG_VERSION"));

/// A burst of errors is outlived, an outage is not waited for.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: 6,
        retry_timeout: Duration::from_secs(120),
    }
}

fn options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout(Duration::from_secs(300))
        .with_read_timeout(Duration::from_secs(60))
        .with_connect_timeout(Duration::from_secs(10))
        .with_user_agent(HeaderValue::from_static(AGENT))
}

/// `object_store` creates small objects only where nothing is, but has no such option for those that
/// go up in parts. The service does: `If-None-Match: *` on the request that puts the parts together.
/// That header is not among those that a signature must cover. And a file goes through here instead
/// of a payload.
#[derive(Debug)]
struct ForUploads(Arc<Sender>);

impl HttpConnector for ForUploads {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Uploads { inner, sender: self.0.clone() }))
    }
}

struct Uploads {
    inner: HttpClient,
    sender: Arc<Sender>,
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uploads")
    }
}

impl HttpService for Uploads {
    // What `async_trait` makes of an `async fn`.
    fn call<'a, 'async_trait>(
        &'a self,
        mut request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        if let Some(body) = request.extensions_mut().remove::<Body>() {
            return Box::pin(self.sender.send(request, body));
        }
        let query = request.uri().query().unwrap_or_default();
        if request.method() == Method::POST && query.starts_with("uploadId=") {
            request.headers_mut().insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        Box::pin(self.inner.execute(request))
    }
}
