use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use axum::{
    body::Body,
    http::{Method, Request, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http_body_util::BodyExt;
use serde_json::json;

use super::*;
use crate::metrics::Metrics;

const ADDRESS: &str = "10.96.0.7";

/// As much of an API server as it takes for one Secret and one request.
#[derive(Default)]
struct Objects {
    entries: serde_json::Map<String, Value>,
    request: Option<Value>,
    writes: Vec<&'static str>,
}

impl Objects {
    fn answer(&mut self, method: &Method, is_secret: bool, body: &Value) -> (u16, Value) {
        match (method.as_str(), is_secret) {
            ("PATCH", true) => {
                self.writes.push("secret");
                for (name, text) in body["stringData"].as_object().unwrap() {
                    self.entries.insert(name.clone(), json!(BASE64_STANDARD.encode(text.as_str().unwrap())));
                }
                for name in body["data"].as_object().unwrap().keys() {
                    self.entries.remove(name);
                }
            }
            ("POST", false) => {
                self.writes.push("request");
                self.request = Some(body.clone());
            }
            ("DELETE", false) => {
                self.writes.push("no request");
                return (200, self.request.take().unwrap());
            }
            _ => assert_eq!(method, Method::GET),
        }
        if is_secret {
            return (200, json!({ "metadata": { "resourceVersion": "1" }, "data": self.entries }));
        }
        self.request
            .clone()
            .map_or_else(|| (404, json!({ "code": 404, "reason": "NotFound" })), |request| (200, request))
    }

    fn entry(&self, name: &str) -> String {
        let bytes = BASE64_STANDARD.decode(self.entries[name].as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

struct World(Arc<Mutex<Objects>>);

impl World {
    fn objects(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written since the last time.
    fn writes(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.objects().writes)
    }

    fn asking(&self, lead: Lead) -> (Asking, watch::Receiver<Pair>) {
        let objects = Arc::clone(&self.0);
        let server = tower::service_fn(move |request: Request<kube::client::Body>| {
            let objects = Arc::clone(&objects);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let is_secret = parts.uri.path() == "/api/v1/namespaces/tools/secrets/own";
                assert!(
                    is_secret
                        || parts.uri.path().starts_with("/apis/certificates.k8s.io/v1/certificatesigningrequests")
                );
                let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
                let (status, answer) = objects.answer(&parts.method, is_secret, &body);
                let answer = Response::builder().status(status).body(Body::from(answer.to_string()));
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        let (place, address) = (Place { namespace: "tools".into(), secret: "own".into() }, ADDRESS.parse().unwrap());
        let (client, (events, _)) = (Client::new(server, "default"), EventSink::new(Arc::new(Metrics::new())));
        let made = Next::new("made", address).unwrap();
        let (shown, seen) = watch::channel(made.usable(&made.signed(0, u64::MAX >> 32), 1).unwrap().pair.into());
        (Asking { client, place, address, lead, events, shown }, seen)
    }

    /// Signs what was asked for, for a time that began so many seconds ago and ends in so many.
    fn signs(&self, began: u64, ends: u64) {
        let mut objects = self.objects();
        let now = jiff::Timestamp::now().as_second().unsigned_abs();
        let next = Next::kept(&objects.entry("next.key"), ADDRESS);
        let certificate = BASE64_STANDARD.encode(next.signed(now - began, now + ends));
        objects.request.as_mut().unwrap()["status"] = json!({ "certificate": certificate });
    }
}

#[tokio::test]
async fn the_one_that_leads_asks_once_and_again_before_the_end_and_the_others_show_what_it_got() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let world = World(Arc::default());
    let ((leader, shown), (standby, shown_by_standby)) = (world.asking(Lead::alone()), world.asking(Lead::standby()));
    let made = shown.borrow().certificate.clone();

    assert!(matches!(standby.look().await, Err(Waits::NotLeading)));
    assert_eq!(world.writes(), [""; 0]);
    assert!(matches!(leader.look().await, Err(Waits::Pending(name)) if name == "tools.own"));
    assert_eq!(world.writes(), ["secret", "request"]);
    for _ in 0..2 {
        assert!(matches!(leader.look().await, Err(Waits::Pending(_))));
    }
    assert_eq!((world.writes(), &shown.borrow().certificate), (vec![], &made));

    world.signs(0, 1_000);
    for _ in 0..2 {
        leader.look().await.unwrap();
    }
    assert_eq!(world.writes(), ["secret"]);
    standby.look().await.unwrap();
    let first = shown.borrow().certificate.clone();
    assert!(first != made && first == shown_by_standby.borrow().certificate);

    // Somebody else wrote a pair that ends soon: it is shown, and another one is asked for.
    world.objects().entries.clear();
    assert!(matches!(leader.look().await, Err(Waits::Pending(_))));
    assert_eq!(world.writes(), ["secret", "no request"], "the earlier request is in the way");
    assert!(matches!(leader.look().await, Err(Waits::Pending(_))));
    world.signs(900, 100);
    leader.look().await.unwrap();
    assert_eq!(world.writes(), ["request", "secret"]);
    let second = shown.borrow().certificate.clone();
    assert!(second != first);
    assert!(matches!(leader.look().await, Err(Waits::Pending(_))), "it ends soon");
    assert!(matches!(leader.look().await, Err(Waits::Pending(_))));
    assert_eq!((world.writes(), &shown.borrow().certificate), (vec!["secret", "no request", "request"], &second));
    assert!(matches!(standby.look().await, Err(Waits::NotLeading)), "it reads on");
    assert_eq!(shown_by_standby.borrow().certificate, second);
    world.signs(0, 1_000);
    leader.look().await.unwrap();
    assert!(shown.borrow().certificate != second);
}

#[tokio::test]
async fn what_keeps_it_from_being_signed_is_told() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let world = World(Arc::default());
    let (leader, _shown) = world.asking(Lead::alone());
    let why = async |status: Value| {
        world.objects().request.as_mut().unwrap()["status"] = status;
        leader.look().await.unwrap_err().to_string()
    };
    leader.look().await.unwrap_err();
    let condition = |kind: &str| json!({ "conditions": [{ "type": kind, "status": "True", "reason": "ByMe", "message": "no\u{1b}[1m" }] });
    assert!(why(json!({})).await.contains("kubectl certificate approve tools.own"));
    assert!(why(condition("Approved")).await.contains("approved and not signed"));
    for kind in ["Denied", "Failed"] {
        let told = why(condition(kind)).await;
        assert!(told.contains("refused (ByMe: no") && !told.contains('\u{1b}'), "{told:?}");
    }
    let other = Next::new("x", ADDRESS.parse().unwrap()).unwrap().signed(0, u64::MAX >> 32);
    let told = why(json!({ "certificate": BASE64_STANDARD.encode(other) })).await;
    assert!(told.contains("another key or address"), "{told}");
    world.writes();
    for broken in ["", "no PEM"] {
        let told = why(json!({ "certificate": BASE64_STANDARD.encode(broken) })).await;
        assert!(told.contains("another key or address"), "{told}");
    }
    assert_eq!(world.writes(), [""; 0]);
}
