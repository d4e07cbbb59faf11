//! Objects of the API that are kept, and looked at seldom.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

/// An object as its JSON. Its type has room for all that Kubernetes knows, of which nearly all is empty, and each of its
/// texts is an allocation of its own: with thousands of them that is most of the memory.
#[derive(Debug)]
pub struct Packed<K> {
    json: Box<[u8]>,
    object: PhantomData<fn() -> K>,
}

impl<K: Serialize + DeserializeOwned> Packed<K> {
    /// Packs it.
    pub fn new(object: &K) -> Self {
        Self { json: serde_json::to_vec(object).unwrap_or_default().into(), object: PhantomData }
    }

    /// The object. What was packed can be read, so there always is one.
    pub fn unpack(&self) -> Option<K> {
        serde_json::from_slice(&self.json).ok()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_packed_comes_out_as_it_was() {
        let object = json!({
            "metadata": { "name": "p", "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {}, "annotations": { "a": "\u{1f600}\n\"" } },
            "spec": { "containers": [{ "name": "m", "env": [], "livenessProbe": {} }] },
            "status": { "conditions": [], "containerStatuses": [{
                "name": "m", "image": "", "imageID": "", "ready": false, "restartCount": 3,
                "state": { "running": { "startedAt": "2026-01-02T03:04:05Z" } },
            }] },
        });
        let pod: Pod = serde_json::from_value(object).unwrap();
        assert_eq!(Packed::new(&pod).unpack(), Some(pod));
        assert_eq!(Packed::new(&Pod::default()).unpack(), Some(Pod::default()));
        let object = json!({
            "metadata": { "name": "n", "labels": { "a": "" } },
            "spec": { "taints": [{ "key": "k", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z" }] },
            "status": { "capacity": { "cpu": "100k" }, "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        let node: Node = serde_json::from_value(object).unwrap();
        assert_eq!(Packed::new(&node).unpack(), Some(node));
    }
}
