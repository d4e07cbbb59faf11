//! What bases are told is what the schemas promise.

use std::collections::BTreeMap;

use modulet::{
    domain::{BaseId, Command, ModuleId, ModuleSpec, Origin, Strategy as Install},
    tunnel::{Topics, encode},
};
use modulet_testkit::schema::{
    self,
    http::{Part, validate},
};
use proptest::{collection, prelude::*};
use serde_json::{Value, json};

fn module() -> impl Strategy<Value = ModuleId> {
    ("[a-z]([a-z0-9-]{0,40}[a-z0-9])?", "[0-9A-Za-z][0-9A-Za-z._+-]{0,40}").prop_map(|(n, v)| ModuleId::new(n, v))
}

fn url() -> impl Strategy<Value = String> {
    "(http|https|file|oss|s3\\+https)://[a-z0-9.-]{0,30}(:[0-9]{1,5})?/[!-~]{0,120}"
}

fn spec() -> impl Strategy<Value = ModuleSpec> {
    let text = || "\\PC{0,60}";
    let envs = collection::btree_map("[A-Za-z_][A-Za-z0-9_.-]{0,30}", text(), 0..6);
    (module(), url(), collection::vec(text(), 0..6), envs).prop_map(|(id, url, args, envs)| ModuleSpec {
        id,
        origin: Origin::default(),
        url,
        args,
        envs,
        unresolved: None,
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (spec(), prop_oneof![Just(Install::InstallOnly), Just(Install::UninstallThenInstall)])
            .prop_map(|(spec, strategy)| Command::Install(spec, strategy)),
        module().prop_map(Command::Uninstall),
        collection::vec(spec(), 0..8).prop_map(Command::Baseline),
        Just(Command::QueryModules),
        Just(Command::QueryHealth),
    ]
}

fn payload(command: &Command) -> Result<Vec<u8>, TestCaseError> {
    encode(command).map_err(|error| TestCaseError::fail(error.to_string()))
}

proptest! {
    #[test]
    fn every_command_is_valid_by_its_schema(command in command(), id in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?") {
        let topic = Topics::new("dev").command(&BaseId::new(id), &command);
        prop_assert_eq!(schema::is_from_base(&topic), Some(false));
        prop_assert_eq!(schema::validate(&topic, &payload(&command)?), Ok(()));
    }

    #[test]
    fn every_command_over_http_is_valid_by_its_schema(command in command(), to in spec()) {
        for command in [command, Command::Switch(to)] {
            let (path, part) = match &command {
                // It is the answer to a question.
                Command::Baseline(_) => ("/queryBaseline".to_owned(), Part::Answer),
                other => (format!("/{}", other.name()), Part::Request),
            };
            prop_assert_eq!(validate(&path, part, &payload(&command)?), Ok(()));
        }
    }

    #[test]
    fn nothing_of_a_module_is_lost_on_the_way(spec in spec()) {
        let install = payload(&Command::Install(spec.clone(), Install::UninstallThenInstall))?;
        let baseline = payload(&Command::Baseline(vec![spec.clone()]))?;
        let install: Value = serde_json::from_slice(&install).unwrap_or_default();
        let baseline: Value = serde_json::from_slice(&baseline).unwrap_or_default();
        for (said, strategy) in [(&install, "uninstallThenInstall"), (&baseline[0], "installOnly")] {
            prop_assert_eq!(&said["bizName"], &json!(spec.id.name));
            prop_assert_eq!(&said["bizVersion"], &json!(spec.id.version));
            prop_assert_eq!(&said["bizUrl"], &json!(spec.url));
            prop_assert_eq!(&said["installStrategy"], strategy);
            prop_assert_eq!(said["args"].as_array().cloned().unwrap_or_default(), spec.args.iter().map(|a| json!(a)).collect::<Vec<_>>());
            let envs: BTreeMap<String, String> = serde_json::from_value(said["envs"].clone()).unwrap_or_default();
            prop_assert_eq!(&envs, &spec.envs);
        }
    }
}
