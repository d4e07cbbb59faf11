use super::*;
use crate::kubelet::{Place, Source};

#[test]
fn the_command_line_is_well_formed() {
    Args::whole_command().debug_assert();
}

#[test]
fn a_subcommand_takes_the_options_on_both_sides_of_its_name() {
    let read = |words: &[&str]| {
        let matches = Args::whole_command().try_get_matches_from([&["modulet"], words].concat())?;
        let args = Args::from_arg_matches(&matches)?;
        let checks = args.subcommand().is_some();
        Ok::<_, clap::Error>((Config::from(args).env, checks))
    };
    assert_eq!(read(&["--env", "one"]).unwrap(), ("one".to_owned(), false));
    for words in [&["--env", "one", "check", "--strict"][..], &["check", "--strict", "--env", "one"]] {
        assert_eq!(read(words).unwrap(), ("one".to_owned(), true), "{words:?}");
    }
    for bad in [
        &["chekc"][..],
        &["check", "--env", "a.b"],
        &["check", "--listen", "x"],
        &["--strict"],
        &["check", "--service-account", "x"],
    ] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn values_that_cannot_work_are_refused() {
    for bad in [
        ["--env", "a.b"],
        ["--env", "has space"],
        ["--mqtt-broker", "tcp://broker"],
        ["--mqtt-port", "0"],
        ["--mqtt-port", "x"],
        ["--http-address", "8080"],
        ["--client-id", ""],
        ["--mqtt-client-crt-path", "/crt"],
        ["--mqtt-client-key-path", "/key"],
        ["--unreachable-after", "0"],
        ["--zone-per-base", "maybe"],
        ["--module-urls", "repo.example.com"],
        ["--base-addresses", "10.0.0.0/33"],
        ["--shared-module-names", "maybe"],
        ["--metaspace-low", "49"],
        ["--metaspace-low", "101"],
        ["--metaspace-wait", "maybe"],
        ["--http-tunnel-crt-path", "/crt"],
        ["--http-tunnel-key-path", "/key"],
        ["--http-tunnel-client-ca-path", "/ca"],
    ] {
        assert!(Args::try_parse_from(["modulet"].iter().chain(&bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn any_of_its_options_switches_tls_on() {
    let config = |args: &[&str]| {
        let args = Args::try_parse_from([&["modulet"], args].concat()).unwrap();
        Config::from(args).mqtt.unwrap()
    };
    assert!(config(&[]).tls.is_none());
    assert!(config(&["--mqtt-tls"]).tls.unwrap().ca.is_none());
    assert!(config(&["--mqtt-ca-path", "/ca"]).tls.unwrap().ca.is_some());
    let identity = ["--mqtt-client-crt-path", "/crt", "--mqtt-client-key-path", "/key"];
    assert!(config(&identity).tls.unwrap().identity.is_some());
}

#[test]
fn the_http_tunnel_has_tls_and_a_secret_where_files_are_named() {
    let config = |args: &[&str]| {
        let args = [&["modulet", "--enable-http-tunnel"], args].concat();
        Config::from(Args::try_parse_from(args).unwrap()).http_tunnel.unwrap()
    };
    assert!(config(&[]).tls.is_none() && config(&[]).secret.is_none());
    let files = ["--http-tunnel-crt-path", "/crt", "--http-tunnel-key-path", "/key"];
    assert!(config(&files).tls.unwrap().clients.is_none());
    let all =
        config(&[&files[..], &["--http-tunnel-client-ca-path", "/ca", "--http-tunnel-secret-file", "/s"]].concat());
    assert_eq!(all.tls.unwrap().clients, Some("/ca".into()));
    assert_eq!(all.secret, Some("/s".into()));
}

#[test]
fn no_password_is_in_what_is_printed_for_developers() {
    let args = Args::try_parse_from(["modulet", "--mqtt-username", "u", "--mqtt-password", "do not show"]).unwrap();
    assert!(!format!("{:?}", Config::from(args)).contains("do not show"));
}

#[test]
fn lists_and_words_are_read_as_they_were_before_and_as_manifests_write_them() {
    let read = |args: &[&str]| Config::from(Args::try_parse_from(["modulet"].iter().chain(args)).unwrap());
    assert_eq!(read(&[]).zone_per_base, ZonePerBase::Auto);
    for (word, expected) in [("true", ZonePerBase::True), ("False", ZonePerBase::False), ("0", ZonePerBase::False)] {
        assert_eq!(read(&["--zone-per-base", word]).zone_per_base, expected, "{word}");
    }
    let ranges = read(&["--base-addresses", "10.0.0.0/8,2001:db8::/32"]).base_addresses;
    assert!(ranges.address("10.1.2.3").is_ok() && ranges.address("11.1.2.3").is_err());
    assert_ne!(read(&["--module-urls", "https://a.example/,file:"]).module_urls, ModuleUrls::default());
}

#[test]
fn the_environment_is_folded_to_lower_case() {
    let config = Config::from(Args::try_parse_from(["modulet", "--env", "TEST"]).unwrap());
    assert_eq!(config.env, "test");
}

#[test]
fn an_address_switches_the_kubelet_api_on_and_nodes_have_the_port_that_it_listens_on() {
    let config = |args: &[&str]| {
        let args = Args::try_parse_from([&["modulet"], args].concat());
        args.map(|args| Config::from(args).kubelet)
    };
    assert!(config(&[]).unwrap().is_none());
    let on = config(&["--kubelet-api-address", "10.96.0.7", "--kubelet-api-listen", "[::]:10255"]).unwrap().unwrap();
    assert_eq!((&*on.endpoint.address.to_string(), on.endpoint.port, on.listen.port()), ("10.96.0.7", 10_255, 10_255));
    let on = config(&["--kubelet-api-address", "::ffff:10.96.0.7"]).unwrap().unwrap();
    assert_eq!((&*on.endpoint.address.to_string(), on.endpoint.port), ("10.96.0.7", 10_250));
    assert_eq!(on.certificate, Source::Made);
    let on =
        [&["--kubelet-api-address", "10.96.0.7", "--namespace", "tools"][..], &["--kubelet-api-csr-secret", "own"]];
    let place = Place { namespace: "tools".to_owned(), secret: "own".to_owned() };
    assert_eq!(config(&on.concat()).unwrap().unwrap().certificate, Source::Asked(place));
    let both = ["--kubelet-api-csr-secret", "own", "--kubelet-api-crt-path", "/crt", "--kubelet-api-key-path", "/key"];
    assert!(config(&both).is_err());
    for bad in [
        ["--kubelet-api-csr-secret", "../own"],
        ["--kubelet-api-address", "modulet.example.com"],
        ["--kubelet-api-address", "0.0.0.0"],
        ["--kubelet-api-address", "$(MODULET_KUBELET_SERVICE_HOST)"],
        ["--kubelet-api-listen", "10250"],
        ["--kubelet-api-crt-path", "/crt"],
        ["--kubelet-api-base-namespaces", "a,B"],
    ] {
        assert!(config(&bad).is_err(), "{bad:?}");
    }
}
