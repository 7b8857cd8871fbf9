//! A registry of container images inside the test process, as the large ones are: a token for
//! everybody who asks, manifests by tag and by digest, and layers behind a redirect to a store that
//! wants no token.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::web::{Answer, Call, Faults, Port, Request, Server, lock, sha256};

const TOKEN: &str = "anonymous";

/// The media types of a manifest, an index and a configuration.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The media types of layers.
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Default)]
struct State {
    /// Manifests by `REPOSITORY:TAG` and by digest.
    manifests: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
    faults: Faults,
    log: Vec<Request>,
}

/// The registry.
pub struct Registry {
    state: Arc<Mutex<State>>,
    server: Server,
    /// The store that layers are really in.
    _store: Server,
}

impl Registry {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (port, store) = (Port::open(), Port::open());
        let (url, elsewhere) = (port.url(), store.url());
        let of_store = state.clone();
        let store = store.serve(move |call| {
            let mut state = lock(&of_store);
            let answer = state.stored(&call);
            state.log.push(call.log(answer.status));
            state.faults.apply(&call, answer)
        });
        let of_server = state.clone();
        let server = port.serve(move |call| {
            let mut state = lock(&of_server);
            let answer = state.answer(&call, &url, &elsewhere);
            state.log.push(call.log(answer.status));
            state.faults.apply(&call, answer)
        });
        Self { state, server, _store: store }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).log.clone()
    }

    /// Keeps a blob under its digest.
    pub fn blob(&self, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", sha256(bytes));
        lock(&self.state).blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Other bytes than those of a digest.
    pub fn corrupt(&self, digest: &str) {
        lock(&self.state).blobs.insert(digest.to_owned(), b"corrupt".to_vec());
    }

    /// Puts an image up for one platform, without a tag; its descriptor.
    pub fn image(&self, architecture: &str, layers: &[(&str, Vec<u8>)]) -> Value {
        let config = json!({"os": "linux", "architecture": architecture}).to_string();
        let described = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": self.blob(bytes), "size": bytes.len()});
        let layers: Vec<_> = layers.iter().map(|(kind, bytes)| described(kind, bytes)).collect();
        let config = described(CONFIG, config.as_bytes());
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let bytes = manifest.to_string().into_bytes();
        let digest = format!("sha256:{}", sha256(&bytes));
        let size = bytes.len();
        lock(&self.state).manifests.insert(digest.clone(), bytes);
        json!({"mediaType": MANIFEST, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture}})
    }

    /// Tags a list of images, as `NAME:TAG`.
    pub fn tag(&self, name: &str, images: &[Value]) {
        let other = json!({"mediaType": MANIFEST, "size": 2, "digest": format!("sha256:{}", sha256(b"{}")),
            "platform": {"os": "unknown", "architecture": "unknown"}});
        let images: Vec<_> = [other].iter().chain(images).cloned().collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
        self.tag_bytes(name, index.to_string().into_bytes());
    }

    /// Tags one image alone.
    pub fn tag_one(&self, name: &str, image: &Value) {
        let bytes = lock(&self.state).manifests[image["digest"].as_str().unwrap()].clone();
        self.tag_bytes(name, bytes);
    }

    /// Tags whatever this is.
    pub fn tag_bytes(&self, name: &str, manifest: Vec<u8>) {
        lock(&self.state).manifests.insert(name.to_owned(), manifest);
    }

    /// Takes what a tool for images left in a folder (OCI image layout), under this name.
    pub fn take_layout(&self, folder: &Path, name: &str) {
        let index: Value =
            serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
        for blob in std::fs::read_dir(folder.join("blobs/sha256")).unwrap() {
            self.blob(&std::fs::read(blob.unwrap().path()).unwrap());
        }
        let image = &index["manifests"][0];
        let tag = image["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
        let manifest = lock(&self.state).blobs[image["digest"].as_str().unwrap()].clone();
        self.tag_bytes(&format!("{name}:{tag}"), manifest);
    }
}

impl State {
    fn answer(&self, call: &Call, url: &str, elsewhere: &str) -> Answer {
        if call.path == "/token" {
            let scope = call.asked("scope").unwrap_or_default();
            if call.asked("service") != Some("registry.test") || !scope.ends_with("%3Apull") {
                return Answer::text(400, "no such scope");
            }
            return Answer::new(200, json!({"token": TOKEN, "expires_in": 300}).to_string());
        }
        let Some(path) = call.path.strip_prefix("/v2/") else { return error(404, "NOT_FOUND") };
        if call.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            let challenge = format!("Bearer realm=\"{url}/token\",service=\"registry.test\"");
            return error(401, "UNAUTHORIZED").with("www-authenticate", &challenge);
        }
        if path.is_empty() {
            return Answer::new(200, "{}");
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            if !self.blobs.contains_key(digest) {
                return error(404, "BLOB_UNKNOWN");
            }
            return Answer::new(307, "").with("location", &format!("{elsewhere}/{digest}?key=x"));
        }
        let Some((name, version)) = path.split_once("/manifests/") else {
            return error(404, "NAME_UNKNOWN");
        };
        let tagged = format!("{name}:{version}");
        let Some(bytes) = self.manifests.get(version).or_else(|| self.manifests.get(&tagged))
        else {
            return error(404, "MANIFEST_UNKNOWN");
        };
        let parsed: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let kind = parsed["mediaType"].as_str().unwrap_or(MANIFEST);
        if !call.header("accept").is_some_and(|accept| accept.contains(kind)) {
            return error(404, "MANIFEST_UNKNOWN");
        }
        Answer::new(200, bytes.clone())
            .with("content-type", kind)
            .with("docker-content-digest", &format!("sha256:{}", sha256(bytes)))
    }

    /// The store refuses who comes with two keys, as those of the large clouds do.
    fn stored(&self, call: &Call) -> Answer {
        if call.header("authorization").is_some() || call.asked("key") != Some("x") {
            return Answer::text(400, "only one way of authentication");
        }
        match self.blobs.get(call.path.trim_start_matches('/')) {
            Some(bytes) => Answer::new(200, bytes.clone()),
            None => Answer::text(404, "no such key"),
        }
    }
}

fn error(status: u16, code: &str) -> Answer {
    let body = json!({"errors": [{"code": code, "message": code.to_lowercase()}]});
    Answer::new(status, body.to_string()).with("content-type", "application/json")
}
