//! What a Node tells of its base's JVM, when that is another one or is never named.

use std::time::Duration;

use super::{
    cluster::{BASES, Cluster},
    scene::Scene,
};
use crate::{
    domain::{Command, tests::jvm::Mode},
    tunnel::{Health, Message},
};

/// Java's version and the limit of metaspace, as the Node has them.
fn told(cluster: &Cluster) -> (String, String) {
    let status = &cluster.scene.api.objects[BASES[0]]["status"];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("none").to_owned();
    (text(&status["nodeInfo"]["containerRuntimeVersion"]), text(&status["capacity"]["memory"]))
}

fn expected(cluster: &Cluster) -> (String, String) {
    let here = &cluster.bases[BASES[0]];
    (format!("java://{}", here.java()), here.metaspace().to_string())
}

#[test]
fn a_jvm_with_other_settings_is_asked_until_they_are_known_and_the_old_ones_are_not_kept() {
    let mut cluster = Cluster::new(Mode::Default);
    cluster.run_for(Duration::from_secs(30));
    let before = expected(&cluster);
    assert_eq!(told(&cluster), before);
    cluster.restart_base(0, true, false);
    cluster.run_for(Duration::from_secs(6));
    assert_eq!(told(&cluster), ("java://unknown".to_owned(), "100T".to_owned()), "its first health has no JVM");
    cluster.run_for(Duration::from_secs(14));
    assert_ne!(expected(&cluster), before);
    assert_eq!(told(&cluster), expected(&cluster));
}

#[test]
fn a_jvm_that_restarted_without_a_word_is_found_by_its_list() {
    let mut cluster = Cluster::new(Mode::Default);
    cluster.add_pod(0, 0);
    cluster.run_for(Duration::from_secs(30));
    let before = told(&cluster);
    cluster.restart_base(0, false, false);
    cluster.bases.get_mut(BASES[0]).unwrap().life += 1;
    cluster.run_for(Duration::from_secs(30));
    assert_ne!(told(&cluster), before);
    assert_eq!(told(&cluster), expected(&cluster));
}

#[test]
fn a_jvm_that_is_another_one_after_an_absence_is_asked_again() {
    let mut cluster = Cluster::new(Mode::Default);
    cluster.run_for(Duration::from_secs(30));
    cluster.bases.get_mut(BASES[0]).unwrap().silent = true;
    cluster.run_for(Duration::from_secs(60));
    let here = cluster.bases.get_mut(BASES[0]).unwrap();
    (here.silent, here.life) = (false, here.life + 1);
    cluster.run_for(Duration::from_secs(20));
    assert_eq!(told(&cluster), expected(&cluster));
}

#[test]
fn a_base_that_never_names_its_jvm_is_not_asked_after_each_heartbeat() {
    let mut scene = Scene::of(&["base-1"]);
    let mut asked = 0;
    for _ in 0..360 {
        scene.pass(Duration::from_secs(10));
        scene.beats("base-1");
        scene.settle();
        for (base, command) in std::mem::take(&mut scene.sent) {
            match command {
                Command::QueryHealth => {
                    asked += 1;
                    scene.say(&base, Message::Health(Health::default()));
                }
                _ => scene.lists(&base, &[]),
            }
        }
    }
    assert!((12..=20).contains(&asked), "{asked} questions in an hour");
}
