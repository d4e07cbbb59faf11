//! The kubelet API: `kubectl logs` and its like, through an API server that looks at kubelets' certificates.

mod certificate;
mod provider_suite;
mod stand_in;
mod tunnel;

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
};
use modulet_testkit::{
    base::{BaseOptions, SimulatedBase},
    control_plane::{ControlPlane, ControlPlaneOptions, Kubelets, certificates::Authority},
    ports::free_port,
    tools::Tool,
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

use crate::stage::{SOON, Stage, module_pod};
use stand_in::StandIn;

const STAGE: &str = "kubelet-api";
const ELSEWHERE: &str = "kubelet-api-other";
const LISTED: &str = "kubelet-api-listed";
const SECRET: &str = "what others must not read";

/// A Pod of a machine, that says to run at this address.
async fn running_pod(client: &Client, namespace: &str, name: &str, address: &str, containers: &[&str]) -> Result<()> {
    let containers: Vec<_> = containers.iter().map(|name| json!({ "name": name, "image": "x" })).collect();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let pod = json!({ "metadata": { "name": name }, "spec": { "nodeName": "machine", "containers": containers } });
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let status = json!({ "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] } });
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

async fn machine(client: &Client, port: u16) -> Result<()> {
    let node = json!({
        "metadata": { "name": "machine" },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    Api::<Node>::all(client.clone()).create(&PostParams::default(), &serde_json::from_value(node)?).await?;
    Ok(())
}

/// A base, and a module `on-{base}` on it.
async fn base_with_module(stage: &Stage, id: &str, host: &str, address: &str) -> Result<SimulatedBase> {
    let options = BaseOptions { host_name: host.to_owned(), ip: address.to_owned(), ..stage.base_options(id) };
    let base = stage.base(options).await?;
    let name = format!("on-{id}");
    let mut pod = module_pod(STAGE, &name, &[(&name, "1")]);
    pod["spec"]["nodeName"] = json!(stage.node_name(id));
    stage.create_pod(pod).await?;
    stage.pod_ready(&name).await?;
    Ok(base)
}

/// Who asks the kubelet API itself, without an API server between.
struct Asker<'a> {
    port: u16,
    directory: &'a Path,
}

impl Asker<'_> {
    /// Status and text; or why there is no connection.
    async fn asks(&self, path: &str, token: Option<&str>, certificate: Option<(&Path, &str)>) -> Result<(u16, String)> {
        self.asks_by(path, None, token, certificate).await
    }

    /// The same by the API server's proxy that it was asked at this path.
    async fn asks_by(
        &self,
        path: &str,
        by: Option<&str>,
        token: Option<&str>,
        certificate: Option<(&Path, &str)>,
    ) -> Result<(u16, String)> {
        let mut config = Config::new(format!("https://127.0.0.1:{}", self.port).parse()?);
        let authority = fs::read_to_string(self.directory.join("ca.crt"))?;
        let user = certificate.map(|(directory, name)| {
            let file = |end: &str| directory.join(format!("{name}.{end}")).display().to_string();
            json!({ "client-certificate": file("crt"), "client-key": file("key") })
        });
        config.auth_info = serde_json::from_value(user.unwrap_or_else(|| json!({ "token": token })))?;
        config.root_cert = Some(vec![pem(&authority)?]);
        let mut request = http::Request::get(path);
        if let Some(by) = by {
            request = request.header("x-forwarded-uri", by);
        }
        let request = request.body(Vec::new())?;
        match Client::try_from(config)?.request_text(request).await {
            Ok(text) => Ok((200, text)),
            Err(kube::Error::Api(status)) => Ok((status.code, status.message.clone())),
            Err(error) => bail!("{error:?}"),
        }
    }
}

fn pem(text: &str) -> Result<Vec<u8>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    Ok(CertificateDer::from_pem_slice(text.as_bytes())?.to_vec())
}

async fn token_of(cluster: &ControlPlane, account: &str) -> Result<String> {
    let kubeconfig = cluster.kubeconfig_for_service_account(STAGE, account).await?;
    let read: Value = serde_json::from_str(&fs::read_to_string(kubeconfig)?)?;
    read["users"][0]["user"]["token"].as_str().map(str::to_owned).context("no token")
}

async fn refused(stage: &Stage, args: &[&str]) -> Result<String> {
    match stage.kubectl(args).await {
        Ok(text) => bail!("kubectl {args:?} was not refused: {text}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_modules_are_those_of_their_bases_for_those_who_may_and_of_no_pod_that_a_base_only_claims_to_be()
-> Result<()> {
    let directory = tempfile::tempdir()?;
    let (trusted, strange) = (directory.path().join("trusted"), directory.path().join("strange"));
    let authorities = [&trusted, &strange].map(|path| {
        fs::create_dir(path)?;
        let authority = Authority::create(path)?;
        authority.server("kubelet")?;
        authority.client("system:masters")?;
        anyhow::Ok(authority)
    });
    for authority in authorities {
        authority?;
    }
    let (certificate, key) = (trusted.join("kubelet.crt"), trusted.join("kubelet.key"));
    let cluster = ControlPlane::start_own(ControlPlaneOptions {
        kubelets: Kubelets::Any,
        api_server_args: vec![format!("--kubelet-certificate-authority={}", trusted.join("ca.crt").display())],
        controller_manager_args: vec!["--node-monitor-grace-period=1h".to_owned()],
        ..ControlPlaneOptions::default()
    })
    .await?;
    let lines: Vec<_> = (1..=9).map(|number| format!("line {number}")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).chain([SECRET]).collect();
    let kubelet = StandIn::start(&certificate, &key, &lines).await?;
    let port = free_port()?;
    let stage = Stage::set_on(cluster, STAGE, |options| {
        options
            .env("MODULET_KUBELET_API_ADDRESS", "127.0.0.1")
            .env("MODULET_KUBELET_API_LISTEN", format!("127.0.0.1:{port}"))
            .env("MODULET_KUBELET_API_CRT_PATH", certificate.display().to_string())
            .env("MODULET_KUBELET_API_KEY_PATH", key.display().to_string())
            .env("MODULET_KUBELET_API_BASE_NAMESPACES", format!("other,{LISTED}"))
    })
    .await?;
    let client = stage.client.clone();
    tokio::try_join!(cluster.create_namespace(ELSEWHERE), cluster.create_namespace(LISTED))?;
    machine(&client, kubelet.port).await?;
    running_pod(&client, STAGE, "base-pod", "192.0.2.21", &["agent", "base"]).await?;
    running_pod(&client, ELSEWHERE, "victim", "192.0.2.22", &["main"]).await?;
    running_pod(&client, LISTED, "base-pod-3", "192.0.2.26", &["main"]).await?;
    let _bases = tokio::try_join!(
        base_with_module(&stage, "honest", "base-pod", "192.0.2.21"),
        base_with_module(&stage, "on-vm", "vm-7", "192.0.2.23"),
        base_with_module(&stage, "wrong-address", "base-pod", "192.0.2.24"),
        base_with_module(&stage, "wrong-name", "base-pod-2", "192.0.2.21"),
        base_with_module(&stage, "other-namespace", "victim", "192.0.2.22"),
        base_with_module(&stage, "listed", "base-pod-3", "192.0.2.26"),
        // Its own module's Pod has its address: whoever asks for that one's log would ask for ever.
        base_with_module(&stage, "circle", "on-circle", "192.0.2.25"),
    )?;

    the_node_has_the_kubelets_address(&stage, port).await?;
    kubectl_reads_logs(&stage, &kubelet).await?;

    // What a base says is not believed where it is not so.
    for (pod, words) in [
        ("on-on-vm", ["vnode.on-vm", "host vm-7", "address 192.0.2.23"]),
        ("on-wrong-address", ["vnode.wrong-address", "host base-pod", "address 192.0.2.24"]),
        ("on-wrong-name", ["vnode.wrong-name", "host base-pod-2", "address 192.0.2.21"]),
        ("on-other-namespace", ["vnode.other-namespace", "host victim", "address 192.0.2.22"]),
        ("on-circle", ["vnode.circle", "host on-circle", "address 192.0.2.25"]),
    ] {
        let told = refused(&stage, &["logs", pod]).await?;
        ensure!(words.iter().all(|word| told.contains(word)) && !told.contains(SECRET), "{pod}: {told}");
    }
    ensure!(kubelet.asked().is_empty(), "a log was read");

    ports_are_forwarded(&stage, &kubelet).await?;
    words_help(&stage).await?;
    others_are_kept_out(&stage, cluster, &Asker { port, directory: &trusted }, &strange).await?;

    // A namespace that is listed may have bases of all others.
    kubelet.asked();
    let read = stage.kubectl(&["logs", "on-listed"]).await?;
    ensure!(read.contains("line 9"), "{read}");
    assert_eq!(kubelet.asked(), [format!("/containerLogs/{LISTED}/base-pod-3/main?")]);
    entries_of_a_module_are_shown_alone(&stage, &kubelet).await?;

    // Files that change are taken as they are now.
    for (from, works) in [(&strange, false), (&trusted, true)] {
        let saved = directory.path().join("saved");
        if !works {
            fs::create_dir(&saved)?;
        }
        for file in ["kubelet.crt", "kubelet.key"] {
            if !works {
                fs::copy(trusted.join(file), saved.join(file))?;
            }
            fs::copy(if works { saved.join(file) } else { from.join(file) }, trusted.join(file))?;
        }
        let asker = Asker { port, directory: &trusted };
        let answer = asker.asks("/healthz", None, Some((cluster.directory(), "admin"))).await;
        ensure!(answer.as_ref().is_ok_and(|(status, _)| *status == 200) == works, "{works}: {answer:?}");
    }
    stage.ends_quietly().await
}

/// Where the base's own Pod says how they begin.
async fn entries_of_a_module_are_shown_alone(stage: &Stage, kubelet: &StandIn) -> Result<()> {
    let annotate = async |pattern: &str| {
        let annotation = format!("modulet.koupleless.io/log-entries={pattern}");
        stage.kubectl(&["-n", LISTED, "annotate", "--overwrite", "pod", "base-pod-3", &annotation]).await
    };
    annotate(r"^\d\d:\d\d \[(?<module>[^\]]*)\]").await?;
    ensure!(stage.kubectl(&["logs", "on-listed"]).await?.is_empty(), "no entry is its own yet");
    let lines =
        ["09:00 [on-listed] failed", "java.lang.X", "\tat y", "09:01 [base] z", "\tat y", "09:02 [on-listed] works"];
    lines.iter().for_each(|line| kubelet.writes(line));
    let read = stage.kubectl(&["logs", "on-listed"]).await?;
    assert_eq!(read, "09:00 [on-listed] failed\njava.lang.X\n\tat y\n09:02 [on-listed] works\n");
    // Of the base's last lines those that are its own.
    assert_eq!(stage.kubectl(&["logs", "on-listed", "--tail=3"]).await?, "09:02 [on-listed] works\n");
    ensure!(stage.kubectl(&["logs", "on-honest"]).await?.contains("[base] z"), "its base says nothing of entries");
    annotate("[").await?;
    let told = refused(stage, &["logs", "on-listed"]).await?;
    ensure!(told.contains("base-pod-3") && told.contains("is no regular expression"), "{told}");
    Ok(())
}

async fn the_node_has_the_kubelets_address(stage: &Stage, port: u16) -> Result<()> {
    let node = json!(stage.nodes().get(&stage.node_name("honest")).await?);
    assert_eq!(node["status"]["addresses"], json!([{ "type": "InternalIP", "address": "127.0.0.1" }]));
    assert_eq!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"], json!(port));
    assert_eq!(node["metadata"]["annotations"]["base.koupleless.io/address"], "192.0.2.21");
    let pod = json!(stage.pods().get("on-honest").await?);
    assert_eq!((&pod["status"]["podIP"], &pod["status"]["hostIP"]), (&json!("192.0.2.21"), &json!("192.0.2.21")));
    Ok(())
}

async fn kubectl_reads_logs(stage: &Stage, kubelet: &StandIn) -> Result<()> {
    let all = stage.kubectl(&["logs", "on-honest"]).await?;
    assert_eq!((all.lines().count(), all.lines().next()), (10, Some("line 1")));
    let path = format!("/containerLogs/{STAGE}/base-pod/base");
    assert_eq!(kubelet.asked(), [format!("{path}?")]);
    let tail = stage.kubectl(&["logs", "on-honest", "--tail=3"]).await?;
    assert_eq!(tail.lines().collect::<Vec<_>>(), ["line 8", "line 9", SECRET]);
    stage.kubectl(&["logs", "on-honest", "--since=1h", "--timestamps", "--previous", "--limit-bytes=100"]).await?;
    stage.kubectl(&["logs", "on-honest", "--since-time=2026-01-01T00:00:00Z"]).await?;
    let asked: Vec<Vec<String>> = kubelet
        .asked()
        .iter()
        .map(|asked| {
            let mut options: Vec<_> = asked.split(['?', '&']).skip(1).map(str::to_owned).collect();
            options.sort();
            options
        })
        .collect();
    assert_eq!(
        asked,
        [
            vec!["tailLines=3"],
            vec!["limitBytes=100", "previous=true", "sinceSeconds=3600", "timestamps=true"],
            vec!["sinceTime=2026-01-01T00%3A00%3A00Z"],
        ]
    );

    // What comes later is shown when it comes, and who goes away is not read for any longer.
    let kubectl = Tool::ControlPlane.program("kubectl").await?;
    let mut follower = Command::new(kubectl)
        .env("KUBECONFIG", stage.cluster.kubeconfig())
        .args(["-n", STAGE, "logs", "on-honest", "--follow", "--tail=1"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(follower.stdout.take().context("no output")?).lines();
    assert_eq!(tokio::time::timeout(SOON, lines.next_line()).await??.as_deref(), Some(SECRET));
    kubelet.writes("and one more");
    assert_eq!(tokio::time::timeout(SOON, lines.next_line()).await??.as_deref(), Some("and one more"));
    let handed_on = async || stage.controller.metric("modulet_kubelet_logs", &[]).await;
    ensure!((handed_on().await? - 1.0).abs() < f64::EPSILON, "{}", handed_on().await?);
    follower.kill().await?;
    eventually("nobody follows any more", SOON, async || {
        kubelet.writes("is anybody there?");
        ensure!(kubelet.followers() == 0 && handed_on().await? == 0.0, "somebody does");
        Ok(())
    })
    .await?;
    kubelet.asked();
    Ok(())
}

/// What is said over a port-forward goes to the kubelet of the base's own Pod and back as it is, until somebody hangs up.
async fn ports_are_forwarded(stage: &Stage, kubelet: &StandIn) -> Result<()> {
    let forward = async |upgrade: &str| {
        let path = format!("/api/v1/namespaces/{STAGE}/pods/on-honest/portforward");
        let request = http::Request::post(path)
            .header("connection", "Upgrade")
            .header("upgrade", upgrade)
            .header("x-stream-protocol-version", "portforward.k8s.io")
            .body(kube::client::Body::empty())?;
        anyhow::Ok(stage.client.send(request).await?)
    };
    let open = async || stage.controller.metric("modulet_kubelet_port_forwards", &[]).await;
    let answer = forward("SPDY/3.1").await?;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["x-stream-protocol-version"], "portforward.k8s.io");
    assert_eq!(kubelet.asked(), [format!("/portForward/{STAGE}/base-pod")]);
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await?);
    let mut heard = [0; 8];
    stream.write_all(b"knock").await?;
    tokio::time::timeout(SOON, stream.read_exact(&mut heard)).await??;
    assert_eq!(&heard, b"kknnoocc");
    ensure!((open().await? - 1.0).abs() < f64::EPSILON, "{}", open().await?);
    drop(stream);
    eventually("nothing forwarded any more", SOON, async || anyhow::Ok(open().await? == 0.0)).await?;
    ensure!(forward("h2c").await?.status() != 101, "another protocol");
    ensure!(kubelet.asked().is_empty(), "another protocol was handed on");
    Ok(())
}

/// exec, attach and port-forward: what to do instead, in what kubectl shows.
async fn words_help(stage: &Stage) -> Result<()> {
    let base = format!("kubectl -n {STAGE}");
    for (args, words) in [
        (&["exec", "on-honest", "--", "ls"][..], format!("{base} exec -it base-pod -c base -- sh")),
        (&["attach", "on-honest"], format!("{base} attach -it base-pod -c base")),
        // Who may reach a module's ports may not reach those of all Pods of a namespace that has bases.
        (
            &["port-forward", "on-listed", ":8080"],
            format!("kubectl -n {LISTED} port-forward pod/base-pod-3 LOCAL:PORT"),
        ),
        (&["exec", "on-on-vm", "--", "ls"], "on host vm-7 at address 192.0.2.23: log in there".to_owned()),
        (&["port-forward", "on-on-vm", ":8080"], "on host vm-7 at address 192.0.2.23: connect to it there".to_owned()),
    ] {
        let told = refused(stage, args).await?;
        ensure!(told.contains(&words), "{args:?}: {told}");
    }
    Ok(())
}

/// Nobody without a name, nor with somebody else's, nor without the right.
async fn others_are_kept_out(stage: &Stage, cluster: &ControlPlane, asker: &Asker<'_>, strange: &Path) -> Result<()> {
    let log = format!("/containerLogs/{STAGE}/on-honest/on-honest");
    let (weak, strong) = (token_of(cluster, "weak").await?, token_of(cluster, "strong").await?);
    let binding = json!({
        "metadata": { "name": "kubelet-api-strong" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": "strong", "namespace": STAGE }],
    });
    let bindings = Api::<ClusterRoleBinding>::all(stage.client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    let api_server = Some((cluster.directory(), "admin"));
    for path in [log.as_str(), "/healthz", "/pods", "/metrics/resource", "/nothing", "/containerLogs/a,b/c/d"] {
        let (status, text) = asker.asks(path, None, None).await?;
        ensure!(status == 401, "nobody at {path}: {status} {text}");
        let (status, text) = asker.asks(path, Some("made-up"), None).await?;
        ensure!(status == 401, "a made-up token at {path}: {status} {text}");
        let (status, text) = asker.asks(path, Some(&weak), None).await?;
        ensure!(status == 403 || path.contains(','), "a token without rights at {path}: {status} {text}");
        let told = asker.asks(path, None, Some((strange, "system:masters"))).await;
        let kept_out = told.as_ref().is_ok_and(|(status, _)| *status == 401) || told.is_err();
        ensure!(kept_out, "a strange certificate at {path}: {told:?}");
    }
    for (token, certificate) in [(Some(strong.as_str()), None), (None, api_server)] {
        let (status, text) = asker.asks(&log, token, certificate).await?;
        ensure!(status == 200 && text.contains(SECRET), "{status} {text}");
        for (path, expected) in [
            ("/healthz", 200),
            ("/containerLogs/a,b/c/d", 400),
            ("/containerLogs/..%2f..%2fsecrets/c/d", 400),
            (&*format!("/containerLogs/{STAGE}/none/c"), 404),
            (&*format!("/containerLogs/{STAGE}/base-pod/base"), 404),
            (&*format!("/containerLogs/{STAGE}/on-honest/other"), 404),
            (&*format!("{log}?tailLines=1;x"), 400),
        ] {
            let (status, text) = asker.asks(path, token, certificate).await?;
            ensure!(status == expected, "{path}: {status} {text}");
        }
    }
    // As tools ask that look at Nodes; the API server's proxy leads to no loopback address.
    for path in ["/pods", "/runningpods/"] {
        let (status, list) = asker.asks(path, Some(&strong), None).await?;
        let list: Value = serde_json::from_str(&list)?;
        let pods = list["items"].as_array().map_or(0, Vec::len);
        ensure!(status == 200 && list["kind"] == "PodList" && pods == 7, "{path}: {status} {list}");
    }
    // One Node's, for who may see that one alone.
    let (own, other) = (stage.node_name("honest"), stage.node_name("listed"));
    for object in [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "kubelet-api-one-node" },
            "rules": [{ "apiGroups": [""], "resources": ["nodes/proxy", "nodes/stats"], "resourceNames": [own], "verbs": ["get"] }],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "kubelet-api-one-node" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kubelet-api-one-node" },
            "subjects": [{ "kind": "ServiceAccount", "name": "one-node", "namespace": STAGE }],
        }),
    ] {
        stage.apply(&object).await?;
    }
    let one = token_of(cluster, "one-node").await?;
    for path in ["/pods", "/runningpods/", "/stats/summary"] {
        let by = |node: &str| format!("/api/v1/nodes/{node}/proxy{path}");
        let (status, text) = asker.asks_by(path, Some(&by(&own)), Some(&one), None).await?;
        ensure!(
            status == 200 && text.contains("\"on-honest\"") && !text.contains("on-listed"),
            "{path}: {status} {text}"
        );
        for elsewhere in [Some(by(&other)), Some(by(&format!("{own},x"))), Some(by("machine")), None] {
            let (status, text) = asker.asks_by(path, elsewhere.as_deref(), Some(&one), None).await?;
            ensure!(status == 403, "{path} by {elsewhere:?}: {status} {text}");
        }
    }
    for path in ["/stats/summary", "/metrics/resource", "/metrics/cadvisor"] {
        let (status, text) = asker.asks(path, Some(&strong), None).await?;
        ensure!(status == 501 && text.contains("type=virtual-kubelet"), "{path}: {status} {text}");
    }
    // Not even whether there is such a Pod is told to who may not know it.
    let (status, text) = asker.asks(&format!("/containerLogs/{STAGE}/none/c"), Some(&weak), None).await?;
    ensure!(status == 403 && !text.contains("no Pod"), "{status} {text}");
    let refused = stage.controller.metric("modulet_kubelet_requests_total", &[("result", "unauthorized")]).await?;
    ensure!(refused >= 12.0, "{refused}");
    Ok(())
}
