//! What a base answers, in the shapes of the recordings.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::module::Module;
use super::traces;

/// The outcome of a command.
#[derive(Debug)]
pub(super) enum Answer {
    Operation { word: &'static str, name: Option<String>, version: Option<String>, response: Response },
    Batch(Response),
    List(Vec<Module>),
    Health(Vec<Module>),
}

/// The `response` object.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) ok: bool,
    /// An exception ended the command; the older generations answer those differently.
    pub(super) threw: bool,
    message: Option<String>,
    data: Option<Value>,
}

impl Response {
    fn refused(message: &str, data: Value) -> Self {
        Self { ok: false, threw: false, message: Some(message.to_owned()), data: Some(data) }
    }

    fn done(data: Value) -> Self {
        Self { ok: true, threw: false, message: None, data: Some(data) }
    }

    /// A refusal without `data`, as given for conflicting commands.
    pub(super) fn bare_failure(message: String) -> Self {
        Self { ok: false, threw: false, message: Some(message), data: None }
    }

    pub(super) fn failed(message: &str, trace: &str) -> Self {
        Self { threw: true, ..Self::refused(message, json!({"code": "FAILED", "message": trace})) }
    }

    pub(super) fn thrown(exception: &str) -> Self {
        Self::failed(exception, &traces::thrown(exception))
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::failed(message, &traces::invalid(message))
    }

    pub(super) fn broken(cause: &str, replaced: bool) -> Self {
        Self::failed(traces::START_FAILED, &traces::broken_answer(cause, replaced))
    }

    pub(super) fn repeated(name: &str, version: &str) -> Self {
        let text = format!("Biz: {name}:{version} has been installed or registered.");
        Self::refused("install biz not success!", json!({"code": "REPEAT_BIZ", "message": text, "elapsedSpace": 0}))
    }

    pub(super) fn not_found(name: &str, version: &str) -> Self {
        let text = format!("Uninstall biz: {name}:{version} not found.");
        Self::refused("uninstall biz not success!", json!({"code": "NOT_FOUND_BIZ", "message": text}))
    }

    pub(super) fn not_without_master() -> Self {
        let text = "Master biz must not be uninstalled.";
        Self::refused("uninstall biz not success!", json!({"code": "FAILED", "message": text}))
    }

    pub(super) fn uninstalled(name: &str, version: &str) -> Self {
        Self::done(json!({"code": "SUCCESS", "message": format!("Uninstall biz: {name}:{version} success.")}))
    }

    pub(super) fn not_found_to_switch(name: &str, version: &str) -> Self {
        let text = format!("Switch biz: {name}:{version} not found.");
        Self::refused("switch biz not success!", json!({"code": "NOT_FOUND_BIZ", "message": text}))
    }

    pub(super) fn switched(name: &str, version: &str) -> Self {
        Self::done(json!({"code": "SUCCESS", "message": format!("Switch biz: {name}:{version} is activated.")}))
    }

    pub(super) fn installed(module: &Module, cost: Duration, begun_ms: u64, empty: bool) -> Self {
        let text = format!(
            "Install Biz: {}:{} success, cost: {} ms, started at: {}",
            module.name,
            module.version,
            cost.as_millis(),
            time_of_day(begun_ms)
        );
        let infos = vec![biz_info(module, begun_ms, empty)];
        Self::done(json!({"code": "SUCCESS", "message": text, "elapsedSpace": 422_640, "bizInfos": infos}))
    }

    /// The answer to a baseline from those to its elements.
    pub(super) fn batch(parts: Vec<(String, Self)>) -> Self {
        let ok = parts.iter().all(|(_, part)| part.ok);
        let mut by_url = Map::new();
        for (url, part) in parts {
            let mut data = part.data.unwrap_or_else(|| json!({"code": "FAILED", "message": part.message}));
            if part.threw {
                data = json!({"code": "FAILED", "message": "internal exception: null"});
            }
            if let Value::Object(fields) = &mut data {
                fields.remove("elapsedSpace");
            }
            by_url.insert(url, data);
        }
        let (code, text) = if ok { ("SUCCESS", "batch install success") } else { ("FAILED", "batch install failed") };
        let data = json!({"code": code, "message": text, "elapsedSpace": 802_216, "bizUrlToResponse": by_url});
        if ok { Self::done(data) } else { Self::refused("install biz not success!", data) }
    }

    pub(super) fn into_json(self) -> Value {
        let mut response = Map::new();
        response.insert("code".into(), json!(if self.ok { "SUCCESS" } else { "FAILED" }));
        if let Some(message) = self.message {
            response.insert("message".into(), message.into());
        }
        if let Some(data) = self.data {
            response.insert("data".into(), data);
        }
        Value::Object(response)
    }
}

fn time_of_day(epoch_ms: u64) -> String {
    let (ms, s) = (epoch_ms % 1000, epoch_ms / 1000);
    format!("{:02}:{:02}:{:02},{ms:03}", s / 3600 % 24, s / 60 % 60, s % 60)
}

/// Libraries of the recorded base, whose places make up most of an install's answer.
const LIBRARIES: &str = "sofa-ark-all-3.1.11 sofa-ark-api-3.1.11 sofa-ark-spi-3.1.11 sofa-ark-common-3.1.11 \
    sofa-ark-exception-3.1.11 sofa-ark-archive-3.1.11 sofa-ark-container-3.1.11 sofa-ark-springboot-starter-3.1.7 \
    spring-boot-loader-3.2.6 sofa-ark-support-starter-3.1.7 slf4j-api-2.0.13 spring-boot-3.2.6 spring-core-6.1.8 \
    spring-jcl-6.1.8 spring-context-6.1.8 spring-aop-6.1.8 spring-beans-6.1.8 spring-expression-6.1.8 \
    sofa-ark-common-springboot-3.1.7 sofa-ark-compatible-springboot2-3.1.7 sofa-common-tools-2.0.3 guava-32.1.3-jre \
    failureaccess-1.0.1 listenablefuture-9999.0-empty-to-avoid-conflict-with-guava jsr305-3.0.2 checker-qual-3.37.0 \
    error_prone_annotations-2.21.1 j2objc-annotations-2.8 commons-io-2.7 text-ui-0.0.3 koupleless-common-1 \
    spring-boot-autoconfigure-3.2.6 log4j-to-slf4j-2.21.1 log4j-api-2.21.1 jul-to-slf4j-2.0.13 \
    jakarta.annotation-api-2.1.1 snakeyaml-2.2 spring-boot-actuator-autoconfigure-3.2.6 spring-boot-actuator-3.2.6 \
    jackson-databind-2.15.4 jackson-annotations-2.15.4 jackson-core-2.15.4 jackson-datatype-jsr310-2.15.4 \
    micrometer-observation-1.12.6 micrometer-commons-1.12.6 micrometer-jakarta9-1.12.6 micrometer-core-1.12.6 \
    HdrHistogram-2.1.12 LatencyUtils-2.0.3 hessian-4.0.66 arklet-springboot-starter-1 arklet-core-1 oshi-core-6.5.0 \
    jna-5.14.0 jna-platform-5.14.0 guice-6.0.0 javax.inject-1 jakarta.inject-api-2.0.1 aopalliance-1.0 \
    fastjson-1.2.83 netty-codec-http-4.1.110.Final netty-common-4.1.110.Final netty-buffer-4.1.110.Final \
    netty-transport-4.1.110.Final netty-resolver-4.1.110.Final netty-codec-4.1.110.Final netty-handler-4.1.110.Final \
    netty-transport-native-unix-common-4.1.110.Final logback-classic-1.4.14 logback-core-1.4.14 \
    koupleless-base-plugin-1 arklet-tunnel-mqtt-1 org.eclipse.paho.client.mqttv3-1.2.5 bcpkix-jdk15on-1.70 \
    bcprov-jdk15on-1.70 bcutil-jdk15on-1.70 spring-boot-jarmode-layertools-3.2.6";

const APP: &str = "jar:file:/srv/koupleless/app/base.jar!/BOOT-INF";

/// One element of `bizInfos`, references of the base's JSON library included.
fn biz_info(module: &Module, begun_ms: u64, empty: bool) -> Value {
    let Module { name, version, .. } = module;
    let place_on_disk = format!("/srv/koupleless/sofa-ark/{name}-{version}-{begun_ms}-unpack");
    let mut info = json!({
        "attributes": {}, "bizName": name, "bizVersion": version, "bizState": module.state().upper(),
        "bizStateRecords": module.records.iter().map(|record| record.json(empty)).collect::<Vec<_>>(),
        "bizTempWorkDir": place_on_disk, "bizUrl": format!("file:{place_on_disk}/"),
        "classPath": [format!("file:{place_on_disk}/"), format!("file:{place_on_disk}/lib")],
        "declaredMode": false, "dependentPlugins": [plugin()], "identity": format!("{name}:{version}"),
        "exportStemAndClassLoaderMap": {
            "com.alipay.sofa.koupleless.plugin": {"$ref": "$.data.response.data.bizInfos[0].dependentPlugins[0]"}
        },
        "mainClass": format!("e2e.{name}.Application"), "priority": 100, "webContextPath": module.context,
    });
    let lists = [
        "denyImportClasses",
        "denyImportPackageNodes",
        "denyImportPackageStems",
        "denyImportPackages",
        "denyImportResources",
        "denyPrefixImportResourceStems",
        "denySuffixImportResourceStems",
        "injectExportPackages",
        "injectPluginDependencies",
    ];
    let maps = [
        "exportClassAndClassLoaderMap",
        "exportNodeAndClassLoaderMap",
        "exportPrefixStemResourceAndClassLoaderMap",
        "exportResourceAndClassLoaderMap",
        "exportSuffixStemResourceAndClassLoaderMap",
    ];
    fill(&mut info, &lists, &json!([]));
    fill(&mut info, &maps, &json!({}));
    if empty && let Value::Object(fields) = &mut info {
        // The older SOFAArk does not tell its plugins.
        fields.retain(|key, _| !key.starts_with("export") && key != "dependentPlugins");
    }
    info
}

fn plugin() -> Value {
    let libraries = LIBRARIES.split_whitespace().map(|library| format!("{APP}/lib/{library}.jar!/"));
    let class_path: Vec<_> = std::iter::once(format!("{APP}/classes!/")).chain(libraries).collect();
    let mut plugin = json!({
        "artifactId": "koupleless-base-plugin", "classPath": class_path, "exportMode": "classLoader",
        "exportPackageStems": ["com.alipay.sofa.koupleless.plugin"],
        "exportPackages": ["com.alipay.sofa.koupleless.plugin.*"], "groupId": "com.alipay.sofa.koupleless",
        "pluginActivator": "com.alipay.sofa.koupleless.plugin.ServerlessRuntimeActivator",
        "pluginContext": {"plugin": {"$ref": ".."}, "pluginNames": ["koupleless-base-plugin"]},
        "pluginName": "koupleless-base-plugin", "pluginURL": format!("{APP}/lib/koupleless-base-plugin-1.jar!/"),
        "priority": 100, "version": "2.1.11",
    });
    let lists = [
        "exportClasses",
        "exportPackageNodes",
        "exportPrefixResourceStems",
        "exportResources",
        "exportSuffixResourceStems",
        "importClasses",
        "importPackageNodes",
        "importPackageStems",
        "importPackages",
        "importPrefixResourceStems",
        "importResources",
        "importSuffixResourceStems",
    ];
    fill(&mut plugin, &lists, &json!([]));
    plugin
}

fn fill(object: &mut Value, keys: &[&str], with: &Value) {
    if let Value::Object(fields) = object {
        fields.extend(keys.iter().map(|key| ((*key).to_owned(), with.clone())));
    }
}
