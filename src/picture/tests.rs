use super::*;
use crate::domain::{ModuleId, ModuleState};

fn picture(reachability: Reachability, since: Instant) -> BasePicture {
    BasePicture {
        node: "vnode.base-1.dev".to_owned(),
        info: None,
        reachability,
        reachability_since: since,
        view: BaseView::default(),
        metaspace: None,
        recorded: true,
        waiting: Vec::new(),
    }
}

#[test]
fn a_base_of_which_nothing_is_known_says_so_in_each_kind_of_reachability() {
    let (start, id) = (Instant::now(), BaseId::new("base-1"));
    for (reachability, word) in [
        (Reachability::Unknown, "Unknown"),
        (Reachability::Online, "Online"),
        (Reachability::Unreachable, "Unreachable"),
        (Reachability::Stopped, "Stopped"),
        (Reachability::Dead, "Dead"),
    ] {
        let expected = json!({
            "base": "base-1", "node": "vnode.base-1.dev", "application": null, "address": null,
            "reachability": word, "reachabilityForSeconds": 30, "listedSecondsAgo": null, "modules": null,
            "commands": [], "failures": [], "claims": [], "installed": [], "metaspace": null, "recorded": true, "waiting": [],
        });
        assert_eq!(picture(reachability, start).all(&id, start + Duration::from_secs(30)), expected);
    }
}

#[test]
fn ages_are_those_of_the_moment_of_the_look() {
    let (start, id) = (Instant::now(), BaseId::new("base-1"));
    let (second, module) = (Duration::from_secs(1), ModuleId::new("biz1", "1"));
    let mut picture = picture(Reachability::Online, start);
    let message = Some("NullPointerException".to_owned());
    picture.metaspace = Some(BaseMetaspace { used: 7, max: 9, classes: Some(5), left_behind: None });
    picture.info = Some(BaseInfo {
        name: "app".into(),
        version: "2.1".into(),
        ip: Some("192.0.2.7".into()),
        ..Default::default()
    });
    picture.view = BaseView {
        modules: Some(vec![ListedModule {
            id: module.clone(),
            state: ModuleState::Broken,
            context_path: None,
            message,
        }]),
        listed: Some(start + 2 * second),
        commands: vec![CommandView {
            command: "uninstallBiz",
            module: module.clone(),
            sent: start + 5 * second,
            answered: false,
            uncertain: true,
        }],
        failures: vec![FailureView {
            command: "installBiz",
            module: module.clone(),
            count: 2,
            reason: Some("InstallFailed"),
            message: "no such jar".into(),
            retry_at: start + 25 * second,
        }],
        claims: vec![(
            "biz1".into(),
            Claim { workload: "deployment-uid".into(), revision: 3, version: "1".into(), superseded: true },
        )],
        installed: vec![module],
    };
    let (pod, container) = ("default/p1".into(), "biz1".into());
    let (reason, message) = (Some("InstallFailed".into()), Some("no such jar".into()));
    picture.waiting = vec![Wait { pod, container, reason, message }];
    let expected = json!({
        "base": "base-1", "node": "vnode.base-1.dev", "application": "app 2.1", "address": "192.0.2.7",
        "reachability": "Online", "reachabilityForSeconds": 12, "listedSecondsAgo": 10,
        "modules": [{ "module": "biz1:1", "state": "Broken", "message": "NullPointerException" }],
        "commands": [{ "command": "uninstallBiz", "module": "biz1:1", "forSeconds": 7, "answered": false, "mayBeLost": true }],
        "failures": [{ "command": "installBiz", "module": "biz1:1", "reason": "InstallFailed", "message": "no such jar",
                       "failures": 2, "nextTryInSeconds": 13 }],
        "claims": [{ "module": "biz1:1", "workload": "deployment-uid", "revision": 3, "superseded": true }],
        "installed": ["biz1:1"], "metaspace": { "usedBytes": 7, "maxBytes": 9, "loadedClasses": 5, "leftBehindBytes": null },
        "recorded": true,
        "waiting": [{ "pod": "default/p1", "container": "biz1", "reason": "InstallFailed", "message": "no such jar" }],
    });
    assert_eq!(picture.all(&id, start + 12 * second), expected);
    let late = picture.all(&id, start + 40 * second);
    assert_eq!(late["failures"][0]["nextTryInSeconds"], 0, "it is due");
    let short = picture.summary(&id, start + 12 * second);
    let expected = json!({
        "base": "base-1", "node": "vnode.base-1.dev", "reachability": "Online", "reachabilityForSeconds": 12,
        "modules": 1, "commands": 1, "failures": 1, "waiting": 1, "metaspaceUsedBytes": 7, "metaspaceMaxBytes": 9,
    });
    assert_eq!(short, expected);
}

#[tokio::test]
async fn who_looks_while_the_engine_takes_no_pictures_is_not_kept_for_ever() {
    assert_eq!(Pictures::default().summary().await, None);
}

#[tokio::test]
async fn a_look_waits_until_all_are_taken_and_they_go_when_nobody_has_looked_for_a_time() {
    let (pictures, id, now) = (Pictures::default(), BaseId::new("base-1"), Instant::now());
    assert!(!pictures.are_wanted(now));
    let engine = async {
        pictures.asked().await;
        assert!(pictures.are_wanted(now));
        pictures.show(&id, picture(Reachability::Online, now));
        pictures.taken(false);
        pictures.asked().await;
        pictures.taken(true);
    };
    let (seen, ()) = tokio::join!(pictures.of(&id), engine);
    assert_eq!(seen.unwrap().unwrap()["reachability"], "Online");
    assert_eq!(pictures.of(&BaseId::new("base-2")).await, Some(None));
    assert!(!pictures.are_wanted(now + WANTED_FOR + Duration::from_secs(60)));
    pictures.drop_all();
    assert!(pictures.bases.is_empty() && !*pictures.complete.borrow());
}
