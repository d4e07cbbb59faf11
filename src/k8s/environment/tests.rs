use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn pod(container: &Value) -> core::Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "p", "namespace": "ns", "uid": "u",
            "labels": { "app": "a" }, "annotations": { "note": "n" },
        },
        "spec": { "nodeName": "node", "containers": [container] },
    }))
    .unwrap()
}

fn resolve(container: &Value) -> Result<(BTreeMap<String, String>, Vec<String>), String> {
    let data = |entries: &[(&str, &str)]| {
        Referred::Data(entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    };
    let referred = HashMap::from([
        (Reference::ConfigMap("ns".into(), "config".into()), data(&[("A", "1"), ("B", "2")])),
        (Reference::Secret("ns".into(), "secret".into()), data(&[("password", "s3cret")])),
        (Reference::Secret("ns".into(), "none".into()), Referred::Missing),
        (Reference::Secret("ns".into(), "closed".into()), Referred::Unreadable("forbidden".into())),
    ]);
    let pod = pod(container);
    let container = &pod.spec.as_ref().unwrap().containers[0];
    environment(
        &pod,
        container,
        &Sources {
            referred: &referred,
            ip: Some("192.0.2.1"),
            urls: &ModuleUrls::default(),
            probes: &ProbeRules::default(),
        },
    )
}

#[test]
fn values_come_from_where_a_kubelet_takes_them() {
    let (envs, args) = resolve(&json!({
        "name": "biz1",
        "envFrom": [{ "prefix": "C_", "configMapRef": { "name": "config" } },
                    { "secretRef": { "name": "none", "optional": true } }],
        "env": [
            { "name": "PLAIN", "value": "x" },
            { "name": "EXPANDED", "value": "$(PLAIN)-$(C_A)-$$(PLAIN)-$(UNKNOWN)-$" },
            { "name": "KEY", "valueFrom": { "configMapKeyRef": { "name": "config", "key": "B" } } },
            { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "secret", "key": "password" } } },
            { "name": "ABSENT", "valueFrom": { "secretKeyRef": { "name": "none", "key": "k", "optional": true } } },
            { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "LABEL", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
            { "name": "NOTE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.annotations['note']" } } },
            { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
        ],
        "args": ["--pod=$(POD)", "plain"],
    }))
    .unwrap();
    let expected = [
        ("C_A", "1"),
        ("C_B", "2"),
        ("EXPANDED", "x-1-$(PLAIN)-$(UNKNOWN)-$"),
        ("IP", "192.0.2.1"),
        ("KEY", "2"),
        ("LABEL", "a"),
        ("NOTE", "n"),
        ("PLAIN", "x"),
        ("POD", "p"),
        ("SECRET", "s3cret"),
    ];
    assert_eq!(envs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    assert_eq!(args, ["--pod=p", "plain"]);
}

#[test]
fn a_variable_that_doubles_itself_again_and_again_is_stopped_with_the_number() {
    let level = |n: usize| {
        let value = if n == 0 { "x".repeat(10) } else { format!("$(V{})", n - 1).repeat(10) };
        json!({ "name": format!("V{n}"), "value": value })
    };
    let variables: Value = (0..10).map(level).collect();
    let why = resolve(&json!({ "name": "biz1", "env": variables })).unwrap_err();
    assert!(why.contains("more than 131072 bytes") && why.contains("V5"), "{why}");
    // Each fits for itself.
    let mut many: Vec<_> = (0..4).map(level).collect();
    many.extend((0..200).map(|n| json!({ "name": format!("W{n}"), "value": "$(V3)" })));
    let why = resolve(&json!({ "name": "biz1", "env": many })).unwrap_err();
    assert!(why.contains("262144 bytes"), "{why}");
    let args = vec!["$(V3)"; 200];
    let why = resolve(&json!({ "name": "biz1", "env": (0..4).map(level).collect::<Value>(), "args": args }));
    assert!(why.unwrap_err().contains("262144 bytes"));
}

#[test]
fn what_does_not_fit_into_a_command_is_told() {
    for env in [
        json!({ "name": "LONG", "value": "x".repeat(140_000) }),
        json!({ "name": "ESCAPED", "value": "\u{1}".repeat(50_000) }),
        json!({ "name": "x".repeat(300_000), "value": "1" }),
    ] {
        let why = resolve(&json!({ "name": "biz1", "env": [env] })).unwrap_err();
        assert!(why.contains("bytes") && why.len() < 400, "{why}");
    }
    let often: Value = (0..1000).map(|_| json!({ "name": "SAME", "value": "x".repeat(1000) })).collect();
    assert!(resolve(&json!({ "name": "biz1", "env": often })).unwrap_err().contains("262144 bytes"));
    let from: Value = (0..100_000).map(|_| json!({ "configMapRef": { "name": "config" } })).collect();
    assert!(resolve(&json!({ "name": "biz1", "envFrom": from })).unwrap_err().contains("262144 bytes"));
}

#[test]
fn brackets_that_are_never_closed_take_no_longer_than_others() {
    let opened = "$(".repeat(60_000);
    let (envs, _) = resolve(&json!({ "name": "biz1", "env": [{ "name": "X", "value": opened }] })).unwrap();
    assert_eq!(envs["X"], opened);
}

#[test]
fn a_name_that_no_object_can_have_is_not_looked_for() {
    for name in ["../../../kube-system/configmaps/x", "a/b", "", "A", "x\u{1b}[2J", "a?b", "-a"] {
        let source = json!({ "configMapKeyRef": { "name": name, "key": "k" } });
        let container = json!({ "name": "biz1", "env": [{ "name": "X", "valueFrom": source }] });
        assert_eq!(references(&pod(&container)), BTreeMap::new(), "{name:?}");
        let why = resolve(&container).unwrap_err();
        assert!(why.contains("no name for an object") && !why.contains('\u{1b}'), "{why}");
    }
}

/// As a kubelet does it (`third_party/forked/golang/expansion`), without any bound.
fn as_a_kubelet(text: &str, envs: &BTreeMap<String, String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            out.push_str(&envs.get(name).cloned().unwrap_or_else(|| format!("$({name})")));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

proptest! {
    #[test]
    fn expansion_is_a_kubelets_as_long_as_it_fits(text in "[$()ABx$()]{0,24}") {
        let envs = BTreeMap::from([("A".to_owned(), "1$(B)".to_owned()), ("B".to_owned(), String::new())]);
        prop_assert_eq!(expand(&text, &envs, "X"), Ok(as_a_kubelet(&text, &envs)));
    }

    #[test]
    fn no_environment_is_larger_than_allowed(
        sizes in prop::collection::vec(0_usize..20_000, 0..6),
        uses in prop::collection::vec(prop::collection::vec(0_usize..12, 0..12), 0..12),
        args in prop::collection::vec(0_usize..12, 0..12),
        filler in prop::sample::select(vec!["x", "\u{1}", "\"", "模", "$$"]),
    ) {
        let plain = sizes.iter().enumerate().map(|(n, size)| json!({ "name": format!("V{n}"), "value": filler.repeat(*size) }));
        let expanded = uses.iter().enumerate().map(|(n, used)| {
            let value = used.iter().map(|v| format!("$(V{v})")).collect::<Vec<_>>().concat();
            json!({ "name": format!("V{}", n + sizes.len()), "value": value })
        });
        let args: Vec<_> = args.iter().map(|v| format!("--a=$(V{v})")).collect();
        let container = json!({ "name": "biz1", "env": plain.chain(expanded).collect::<Value>(), "args": args });
        match resolve(&container) {
            Ok((envs, args)) => {
                let sent = json!({ "envs": envs, "args": args }).to_string().len();
                prop_assert!(sent <= limits::ENVIRONMENT_MAX + 30, "{}", sent);
                prop_assert!(envs.values().all(|v| v.len() <= limits::VALUE_MAX));
            }
            Err(why) => prop_assert!(why.contains(" bytes ") && why.len() < 400, "{}", why),
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    let why =
        |source: Value| resolve(&json!({ "name": "biz1", "env": [{ "name": "X", "valueFrom": source }] })).unwrap_err();
    let cases = [
        (json!({ "secretKeyRef": { "name": "none", "key": "k" } }), "Secret ns/none does not exist"),
        (json!({ "secretKeyRef": { "name": "closed", "key": "k" } }), "can't be read: forbidden"),
        (json!({ "configMapKeyRef": { "name": "config", "key": "Z" } }), "has no key Z, which env X asks for"),
        (json!({ "configMapKeyRef": { "name": "unread", "key": "Z" } }), "reading ConfigMap ns/unread"),
        (json!({ "resourceFieldRef": { "resource": "limits.cpu" } }), "a source that a module can't have"),
        (json!({ "fieldRef": { "fieldPath": "spec.nope" } }), "the field spec.nope"),
    ];
    for (source, expected) in cases {
        let message = why(source);
        assert!(message.contains(expected), "{message:?} should contain {expected:?}");
    }
}

#[test]
fn only_annotations_that_are_asked_for_are_kept() {
    let source = json!({ "fieldRef": { "fieldPath": "metadata.annotations['note']" } });
    let mut pod = pod(&json!({ "name": "c", "env": [{ "name": "X", "valueFrom": source }] }));
    pod.metadata.annotations.get_or_insert_default().insert("other".into(), "large".into());
    crate::k8s::keep_wanted_annotations(&mut pod);
    assert_eq!(pod.metadata.annotations, Some(BTreeMap::from([("note".into(), "n".into())])));
}
