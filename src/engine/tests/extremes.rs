//! The largest and smallest numbers that a command line, a Pod and a base can say, through the engine and out again.

use std::time::Duration;

use serde_json::{Value, json};

use super::scene::Scene;
use crate::{
    domain::ModuleState,
    tunnel::{Health, Message},
};

/// Changes at JSON pointers of a Pod's object.
fn set(pod: &mut Value, changes: &[(&str, Value)]) {
    for (path, value) in changes {
        let (parent, name) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[name] = value.clone();
    }
}

#[test]
fn no_number_of_an_option_a_pod_or_a_base_makes_the_engine_panic() {
    let most = u64::MAX.to_string();
    for option in ["--dead-after", "--superseded-ttl", "--max-pods"] {
        let value = if option == "--max-pods" { u32::MAX.to_string() } else { most.clone() };
        for number in [i64::MIN, -1, 0, i64::MAX] {
            let mut scene = Scene::with(&["base-1"], &[option, &value]);
            let health = Health { max_metaspace: Some(number.unsigned_abs()), ..Health::default() };
            scene.say("base-1", Message::Health(health));
            scene.serving("p1", "base-1", "biz1:1", None);
            let restarts = i32::try_from(number.clamp(i32::MIN.into(), i32::MAX.into())).unwrap();
            scene.api.edit("p1", |pod| {
                set(
                    pod,
                    &[
                        ("/spec/terminationGracePeriodSeconds", json!(number)),
                        ("/spec/containers/0/lifecycle", json!({ "preStop": { "sleep": { "seconds": number } } })),
                        ("/status/containerStatuses/0/restartCount", json!(restarts)),
                        ("/metadata/generation", json!(number)),
                    ],
                );
            });
            scene.show("p1");
            scene.settle();
            // It is installed again, which counts as a restart; then it goes.
            scene.lists("base-1", &[]);
            scene.settle();
            scene.done("base-1", "installBiz", "biz1:1");
            scene.lists("base-1", &[("biz1:1", ModuleState::Activated)]);
            scene.settle();
            scene.api.edit("p1", |pod| {
                let at = json!("2026-01-01T00:00:30Z");
                set(
                    pod,
                    &[("/metadata/deletionTimestamp", at), ("/metadata/deletionGracePeriodSeconds", json!(number))],
                );
            });
            scene.show("p1");
            for time in [1, 3600, 100_000_000] {
                scene.pass(Duration::from_secs(time));
                scene.settle();
            }
        }
    }
}
