//! From answers to messages, for each protocol generation.

use serde_json::{Map, Value, json};

use super::answers::{Answer, Response};
use super::module::Module;
use super::options::{BaseOptions, Generation};

/// A message to publish: the topic below the identity and the `data` of its payload.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) tail: &'static str,
    pub(super) data: Value,
}

impl Outgoing {
    fn new(tail: &'static str, data: Value) -> Self {
        Self { tail, data }
    }
}

/// The messages that tell an answer; none where that generation is silent.
pub(super) fn tell(answer: Answer, after: &[Module], options: &BaseOptions, uptime: f64) -> Vec<Outgoing> {
    let generation = options.generation;
    match answer {
        Answer::List(modules) => vec![list(&modules, options)],
        Answer::Health(modules) => vec![Outgoing::new("base/health", health(&modules, options, uptime))],
        Answer::Batch(response) => match generation {
            Generation::V2_1_11 => vec![Outgoing::new(
                "base/batchInstallBizResponse",
                json!({"command": "batchInstallBiz", "response": response.into_json()}),
            )],
            Generation::V2_1_7 => vec![list(after, options)],
            _ => Vec::new(),
        },
        Answer::Operation { word, name, version, response } => {
            let (ok, threw) = (response.ok, response.threw);
            let named = operation(word, name, version, response);
            match generation {
                Generation::V2_1_5 if threw => Vec::new(),
                Generation::V2_1_5 => vec![list(after, options)],
                Generation::V2_1_6 if ok => vec![list(after, options)],
                Generation::V2_1_6 if threw => Vec::new(),
                Generation::V2_1_6 => vec![nameless(named)],
                Generation::V2_1_7 if ok => vec![named, list(after, options)],
                Generation::V2_1_7 if threw => vec![nameless(named)],
                _ => vec![named],
            }
        }
    }
}

/// What a message that the base cannot read is answered with.
pub(super) fn malformed(word: &str, generation: Generation) -> Option<Outgoing> {
    (generation == Generation::V2_1_7).then(|| {
        let response = Response::bare_failure("command not supported or content malformed".to_owned());
        Outgoing::new("base/bizOperation", json!({"command": word, "response": response.into_json()}))
    })
}

fn operation(word: &str, name: Option<String>, version: Option<String>, response: Response) -> Outgoing {
    let mut data = Map::new();
    data.insert("command".into(), word.into());
    data.extend(name.map(|name| ("bizName".to_owned(), Value::from(name))));
    data.extend(version.map(|version| ("bizVersion".to_owned(), Value::from(version))));
    data.insert("response".into(), response.into_json());
    Outgoing::new("base/bizOperation", Value::Object(data))
}

fn nameless(mut message: Outgoing) -> Outgoing {
    if let Value::Object(fields) = &mut message.data {
        fields.remove("bizName");
        fields.remove("bizVersion");
    }
    message
}

fn list(modules: &[Module], options: &BaseOptions) -> Outgoing {
    if options.generation <= Generation::V2_1_6 {
        let full = modules.iter().map(|module| {
            let records = module.records.iter().map(|record| record.json(options.empty_state_records));
            let mut info = brief(module);
            info["bizStateRecords"] = records.collect();
            info
        });
        return Outgoing::new("base/biz", json!({"code": "SUCCESS", "data": full.collect::<Vec<_>>()}));
    }
    let items = modules.iter().map(|module| {
        let record = module.records.last().map_or(json!({}), |record| record.json(options.empty_state_records));
        json!({"name": module.name, "version": module.version, "state": module.state().lower(),
               "latestStateRecord": record})
    });
    Outgoing::new("base/simpleBiz", items.collect())
}

fn brief(module: &Module) -> Value {
    json!({"bizName": module.name, "bizVersion": module.version, "bizState": module.state().upper(),
           "webContextPath": module.context})
}

fn master(options: &BaseOptions) -> Value {
    let name = options.master.as_ref().unwrap_or(&options.name);
    json!({"bizName": name, "bizVersion": options.version, "bizState": "ACTIVATED", "webContextPath": "/"})
}

/// The heartbeat.
pub(super) fn heart(identity: &str, options: &BaseOptions) -> Outgoing {
    let network = json!({"localIP": options.ip, "localHostName": options.host_name});
    let named = json!({"name": options.name, "version": options.version});
    let data = match options.generation {
        Generation::V2_1_5 => json!({"masterBizInfo": master(options), "networkInfo": network}),
        Generation::V2_1_6 | Generation::V2_1_7 => {
            json!({"masterBizInfo": named, "networkInfo": network, "state": "ACTIVATED"})
        }
        _ => json!({"baseMetadata": metadata(identity, options), "localIP": options.ip,
                    "localHostName": options.host_name, "port": 0, "state": "activated"}),
    };
    Outgoing::new("base/heart", data)
}

/// The question for a baseline, if that generation asks one.
pub(super) fn query_baseline(identity: &str, options: &BaseOptions) -> Option<Outgoing> {
    let data = match options.generation {
        Generation::V2_1_5 => return None,
        Generation::V2_1_6 | Generation::V2_1_7 => {
            json!({"name": options.name, "version": options.version})
        }
        _ => metadata(identity, options),
    };
    Some(Outgoing::new("base/queryBaseline", data))
}

fn metadata(identity: &str, options: &BaseOptions) -> Value {
    json!({"identity": identity, "name": options.name, "version": options.version, "clusterName": options.cluster})
}

pub(super) fn health(modules: &[Module], options: &BaseOptions, uptime: f64) -> Value {
    let mut listed: Vec<_> = modules.iter().map(brief).collect();
    listed.push(master(options));
    let classes = 8_700 + 40 * modules.len();
    let by_modules = 35_000_000 + 400_000 * modules.len() as u64;
    let metaspace = options.used_metaspace.unwrap_or(by_modules);
    let jvm = json!({
        "java version": "17.0.15", "java home": "/usr/lib/jvm/java-17-openjdk-amd64", "run time(s)": uptime,
        "max memory(M)": 123.75, "total memory(M)": 123.75, "free memory(M)": 103.969_467_163_085_94,
        "init heap memory(M)": 128.0, "used heap memory(M)": 19.780_532_836_914_062,
        "committed heap memory(M)": 123.75, "max heap memory(M)": 123.75, "init non heap memory(M)": 2.4375,
        "used non heap memory(M)": 46.877_372_741_699_22, "committed non heap memory(M)": 47.5,
        "max non heap memory(M)": -9.536_743_164_062_5e-07, "loaded class count": classes,
        "unload class count": 2, "total class count": classes + 2, "java max metaspace": options.metaspace,
        "java used metaspace": metaspace, "java committed metaspace": metaspace + 450_000,
    });
    let cpu = json!({"count": 2, "type": "AMD EPYC", "total used (%)": 2280.0, "user used (%)": 39.035_087_719_298_25,
                     "system used (%)": 7.456_140_350_877_193, "free (%)": 53.070_175_438_596_49});
    let mut plugins = vec![json!({
        "artifactId": "koupleless-base-plugin", "groupId": "com.alipay.sofa.koupleless",
        "pluginActivator": "com.alipay.sofa.koupleless.plugin.ServerlessRuntimeActivator",
        "pluginName": "koupleless-base-plugin", "pluginVersion": "2.1.11",
        "pluginUrl": "file:/srv/koupleless/app/base.jar!/BOOT-INF/lib/koupleless-base-plugin-1.jar!/",
    })];
    if options.web {
        plugins.push(json!({
            "artifactId": "web-ark-plugin", "groupId": "com.alipay.sofa",
            "pluginActivator": "com.alipay.sofa.ark.web.embed.WebPluginActivator",
            "pluginName": "web-ark-plugin", "pluginVersion": "3.1.9",
            "pluginUrl": "file:/srv/koupleless/app/base.jar!/BOOT-INF/lib/web-ark-plugin-3.1.9.jar!/",
        }));
    }
    let data = json!({"jvm": jvm, "cpu": cpu, "masterBizInfo": master(options), "bizListInfo": listed,
                      "pluginListInfo": plugins});
    json!({"code": "SUCCESS", "data": {"healthData": data}})
}
