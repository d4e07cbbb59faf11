//! What is probed, said once, and what is written when a probe has news.

use serde_json::{Value, json};

use super::{api_server::Kind, scene::Scene};
use crate::domain::{ModuleState, ProbeFact, ProbeKind, ProbeOrder, ProbeSays};

const BASE: &str = "base-1";

/// A Pod whose module serves, with a readiness and a liveness probe.
fn scene() -> Scene {
    let mut scene = Scene::of(&[BASE]);
    scene.pod("p1", BASE, "biz1:1", None);
    change(&mut scene, |container| {
        container["readinessProbe"] = json!({ "tcpSocket": { "port": "web" } });
        container["livenessProbe"] = json!({ "httpGet": { "port": "web", "path": "/live" }, "periodSeconds": 7 });
        container["ports"] = json!([{ "name": "web", "containerPort": 8080 }, { "containerPort": 8081 }]);
    });
    scene.settle();
    scene.done(BASE, "installBiz", "biz1:1");
    scene.settle();
    scene.lists(BASE, &[("biz1:1", ModuleState::Activated)]);
    scene
}

fn change(scene: &mut Scene, change: impl Fn(&mut Value)) {
    let mut pod = scene.api.objects["p1"].clone();
    change(&mut pod["spec"]["containers"][0]);
    scene.api.put("p1", Kind::Pod, pod);
    scene.show("p1");
}

fn orders(scene: &mut Scene) -> Vec<ProbeOrder> {
    std::iter::from_fn(|| scene.probes.try_recv().ok()).collect()
}

fn news(scene: &mut Scene, run: u32, kind: ProbeKind, says: ProbeSays) -> Vec<String> {
    let (base, container) = (crate::domain::BaseId::new(BASE), "biz1".to_owned());
    scene.state.probed(&ProbeFact { base, pod: "p1".into(), container, run, kind, says }, scene.now);
    scene.settle()
}

fn status(scene: &Scene) -> &Value {
    &scene.api.objects["p1"]["status"]["containerStatuses"][0]
}

#[test]
fn a_pod_is_ready_when_its_probe_says_so_and_nothing_is_said_or_written_twice() {
    let mut scene = scene();
    let written = scene.settle();
    assert!(!written.iter().any(|what| what.contains("Ready")), "{written:?}");
    scene.pass(std::time::Duration::from_secs(1));
    scene.settle();
    assert_eq!((&status(&scene)["ready"], &status(&scene)["started"]), (&json!(false), &json!(true)));
    let conditions = scene.api.objects["p1"]["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!(ready["message"], "containers with unready status: [biz1]");

    let asked = orders(&mut scene);
    let last = asked.last().unwrap();
    assert_eq!((last.base.as_str(), last.busy, last.targets.len()), (BASE, false, 1));
    let liveness = last.targets[0].probes.liveness.as_ref().unwrap();
    assert_eq!(liveness.period, std::time::Duration::from_secs(7));
    assert!(!last.address.is_empty());

    let succeeds = || ProbeSays::Succeeds;
    assert_eq!(news(&mut scene, 0, ProbeKind::Readiness, succeeds()), ["p1 Running Ready"]);
    assert_eq!(status(&scene)["ready"], json!(true));
    let events = scene.events();
    assert_eq!(news(&mut scene, 0, ProbeKind::Readiness, succeeds()), [""; 0]);
    assert_eq!(news(&mut scene, 0, ProbeKind::Readiness, ProbeSays::Failed("x".into())), [""; 0]);
    assert_eq!(scene.events(), events + 1, "a failure is told, and changes nothing");
    assert_eq!(news(&mut scene, 0, ProbeKind::Readiness, ProbeSays::Fails("x".into())), ["p1 Running"]);
    assert_eq!(news(&mut scene, 0, ProbeKind::Readiness, succeeds()), ["p1 Running Ready"]);
    assert_eq!(orders(&mut scene), [], "what the prober knows itself is not said to it");

    scene.restart();
    scene.beats(BASE);
    scene.lists(BASE, &[("biz1:1", ModuleState::Activated)]);
    let written = scene.settle();
    assert!(!written.iter().any(|what| what.starts_with("p1")), "{written:?}");
    let asked = orders(&mut scene);
    assert!(asked.last().unwrap().targets[0].ready);
}

#[test]
fn what_fails_its_liveness_is_restarted_and_an_old_answer_counts_no_more() {
    let mut scene = scene();
    scene.settle();
    news(&mut scene, 0, ProbeKind::Readiness, ProbeSays::Succeeds);
    orders(&mut scene);
    let out = news(&mut scene, 0, ProbeKind::Liveness, ProbeSays::Fails("500".into()));
    assert!(out.contains(&"base-1 uninstalls biz1:1".to_owned()), "{out:?}");
    assert_eq!(status(&scene)["state"]["waiting"]["reason"], "Unhealthy");
    let asked = orders(&mut scene);
    assert_eq!(asked.last().unwrap().targets, []);
    scene.done(BASE, "uninstallBiz", "biz1:1");
    scene.settle();
    scene.lists(BASE, &[]);
    let out = scene.settle();
    assert!(out.contains(&"base-1 installs biz1:1".to_owned()), "{out:?}");
    scene.done(BASE, "installBiz", "biz1:1");
    scene.settle();
    scene.lists(BASE, &[("biz1:1", ModuleState::Activated)]);
    scene.settle();
    assert_eq!(news(&mut scene, 0, ProbeKind::Readiness, ProbeSays::Succeeds), [""; 0]);
    let run = orders(&mut scene).last().unwrap().targets[0].run;
    assert_eq!(news(&mut scene, run, ProbeKind::Readiness, ProbeSays::Succeeds), ["p1 Running Ready"]);
    let status = status(&scene);
    assert_eq!(
        (&status["restartCount"], &status["lastState"]["terminated"]["reason"]),
        (&json!(1), &json!("Unhealthy"))
    );
}

#[test]
fn what_found_no_room_is_said_again() {
    let mut scene = scene();
    let full =
        ProbeOrder { base: crate::domain::BaseId::new("other"), address: "".into(), busy: false, targets: vec![] };
    scene.fill_probes(&full);
    scene.settle();
    assert!(orders(&mut scene).iter().all(|order| *order == full));
    scene.pass(std::time::Duration::from_secs(2));
    scene.settle();
    let asked = orders(&mut scene);
    assert_eq!((asked.len(), asked[0].targets.len()), (1, 1));
    scene.pass(std::time::Duration::from_secs(2));
    scene.settle();
    assert_eq!(orders(&mut scene), []);
}
