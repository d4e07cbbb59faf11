//! What the cluster around the bases changes at their Nodes, and who is told what belongs on a base.

use std::time::Duration;

use super::scene::Scene;
use crate::{
    api::{Seen, Watched},
    domain::BaseInfo,
    k8s::names,
    tunnel::Message,
};

fn zone(scene: &Scene, base: &str) -> Option<String> {
    scene.api.objects[base]["metadata"]["labels"][names::ZONE].as_str().map(str::to_owned)
}

/// What is written to Nodes until nothing is any more.
fn node_writes(scene: &mut Scene) -> usize {
    scene.pass(Duration::from_secs(1));
    let out = scene.settle();
    out.iter().filter(|what| what.starts_with("Node ") && !what.ends_with("beats")).count()
}

#[test]
fn the_first_ordinary_node_with_a_zone_takes_the_zones_off_all_bases_once_and_for_good() {
    let mut scene = Scene::of(&["base-1", "base-2"]);
    assert_eq!(zone(&scene, "base-1").as_deref(), Some("vnode.base-1.dev"));
    assert_eq!(node_writes(&mut scene), 0);
    scene.watched(Watched::ZonedNode(Seen::Applied(Default::default())));
    assert_eq!(node_writes(&mut scene), 2);
    assert_eq!((zone(&scene, "base-1"), zone(&scene, "base-2")), (None, None));
    for seen in [Seen::Gone(Default::default()), Seen::ListBegins, Seen::ListEnds, Seen::Applied(Default::default())] {
        scene.watched(Watched::ZonedNode(seen));
        assert_eq!(node_writes(&mut scene), 0);
    }
    scene.registers("base-3");
    scene.settle();
    assert_eq!(zone(&scene, "base-3"), None, "one that comes later");
}

#[test]
fn zones_that_were_asked_for_or_refused_do_not_depend_on_others() {
    for (option, has) in [("true", true), ("false", false)] {
        let mut scene = Scene::with(&["base-1"], &["--zone-per-base", option]);
        scene.watched(Watched::ZonedNode(Seen::Applied(Default::default())));
        assert_eq!(node_writes(&mut scene), 0, "{option}");
        assert_eq!(zone(&scene, "base-1").is_some(), has, "{option}");
    }
}

#[test]
fn an_upgrade_of_the_api_server_is_seen_on_each_node_once() {
    let mut scene = Scene::of(&["base-1", "base-2"]);
    for (version, writes) in [("v1.36.1", 0), ("v1.37.0", 2), ("v1.37.0", 0)] {
        scene.watched(Watched::ApiServer(Some(version.to_owned())));
        assert_eq!(node_writes(&mut scene), writes, "{version}");
        let shown = &scene.api.objects["base-2"]["status"]["nodeInfo"]["kubeletVersion"];
        assert!(shown.as_str().unwrap().starts_with(&format!("{version}-modulet-v")), "{shown}");
    }
}

#[test]
fn who_has_no_node_is_told_nothing_and_who_gets_one_is_told_then() {
    let mut scene = Scene::of(&["base-1"]);
    let info = BaseInfo { name: "app".into(), version: "1".into(), ..BaseInfo::default() };
    let told = |scene: &mut Scene, base: &str| {
        scene.pass(Duration::from_secs(1));
        scene.settle();
        let baselines = scene.sent.iter().filter(|(to, command)| to == base && command.name() == "baseline").count();
        scene.sent.clear();
        baselines
    };
    scene.say("stranger", Message::QueryBaseline(Some(info.clone())));
    for _ in 0..5 {
        assert_eq!(told(&mut scene, "stranger"), 0);
    }
    scene.say("base-1", Message::QueryBaseline(Some(info)));
    assert_eq!(told(&mut scene, "base-1"), 1);
    scene.registers("stranger");
    assert_eq!(told(&mut scene, "stranger"), 1);
}
