//! Options of the connection to the bases.

use std::path::PathBuf;

use clap::{ArgAction, Args, builder::BoolishValueParser};

use crate::tunnel::mqtt::{MqttConfig, Secret, Tls};

/// How to reach the broker.
#[derive(Debug, Args)]
pub(super) struct MqttArgs {
    /// Connect to bases over MQTT
    #[arg(long, env = "ENABLE_MQTT_TUNNEL", default_value_t = true, action = ArgAction::Set, value_parser = BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    enable_mqtt_tunnel: bool,

    /// Broker's host name or address
    #[arg(long, env = "MQTT_BROKER", default_value = "localhost", value_name = "HOST", value_parser = parse_host)]
    mqtt_broker: String,

    /// Broker's port
    #[arg(long, env = "MQTT_PORT", default_value_t = 1883, value_name = "PORT", value_parser = parse_port)]
    mqtt_port: u16,

    /// User name at the broker
    #[arg(long, env = "MQTT_USERNAME", value_name = "NAME", conflicts_with = "mqtt_username_file")]
    mqtt_username: Option<String>,

    /// File with the user name, read again for each connection
    #[arg(long, env = "MQTT_USERNAME_FILE", value_name = "FILE")]
    mqtt_username_file: Option<PathBuf>,

    /// Password at the broker. Better given by the variable or a file: flags can be read by others on the machine
    #[arg(
        long,
        env = "MQTT_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        conflicts_with = "mqtt_password_file"
    )]
    mqtt_password: Option<String>,

    /// File with the password, read again for each connection
    #[arg(long, env = "MQTT_PASSWORD_FILE", value_name = "FILE")]
    mqtt_password_file: Option<PathBuf>,

    /// First part of the MQTT client id, before @@@
    #[arg(long, env = "MQTT_CLIENT_PREFIX", default_value = "koupleless", value_name = "PREFIX")]
    mqtt_client_prefix: String,

    /// TLS to the broker. Without --mqtt-ca-path its certificate must come from an authority that this system trusts
    #[arg(long, env = "MODULET_MQTT_TLS", default_value_t = false, action = ArgAction::Set, value_parser = BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    mqtt_tls: bool,

    /// PEM file of the authority that signed the broker's certificate, or of that certificate itself. Switches TLS on
    #[arg(long, env = "MQTT_CA_PATH", value_name = "FILE")]
    mqtt_ca_path: Option<PathBuf>,

    /// PEM file of the client certificate, for brokers that want one. Switches TLS on
    #[arg(long, env = "MQTT_CLIENT_CRT_PATH", value_name = "FILE", requires = "mqtt_client_key_path")]
    mqtt_client_crt_path: Option<PathBuf>,

    /// PEM file of the client certificate's key
    #[arg(long, env = "MQTT_CLIENT_KEY_PATH", value_name = "FILE", requires = "mqtt_client_crt_path")]
    mqtt_client_key_path: Option<PathBuf>,
}

impl MqttArgs {
    /// What to connect to, if a tunnel is wanted.
    pub(super) fn config(self, client_id: &str, env: &str) -> Option<MqttConfig> {
        let secret = |text: Option<String>, file: Option<PathBuf>| match file {
            Some(file) => Secret::File(file),
            None => Secret::Text(text.unwrap_or_default()),
        };
        let (ca, identity) = (self.mqtt_ca_path, self.mqtt_client_crt_path.zip(self.mqtt_client_key_path));
        let tls = self.mqtt_tls || ca.is_some() || identity.is_some();
        self.enable_mqtt_tunnel.then(|| MqttConfig {
            host: self.mqtt_broker,
            port: self.mqtt_port,
            username: secret(self.mqtt_username, self.mqtt_username_file),
            password: secret(self.mqtt_password, self.mqtt_password_file),
            client_id: format!("{}@@@{client_id}", self.mqtt_client_prefix),
            commands_id: format!("{}@@@modulet-commands-{env}", self.mqtt_client_prefix),
            tls: tls.then_some(Tls { ca, identity }),
        })
    }
}

fn parse_host(host: &str) -> Result<String, String> {
    if host.is_empty() || host.contains("://") || host.contains('/') || host.contains(char::is_whitespace) {
        return Err("give a host name or address alone, without scheme or port".to_owned());
    }
    Ok(host.to_owned())
}

fn parse_port(port: &str) -> Result<u16, String> {
    match port.parse() {
        Ok(0) | Err(_) if port.starts_with("tcp://") => Err("Kubernetes sets the variable MQTT_PORT to this where a \
             Service has the name mqtt: set it yourself, or set enableServiceLinks: false in the Pod"
            .to_owned()),
        Ok(0) | Err(_) => Err("give a number from 1 to 65535".to_owned()),
        Ok(port) => Ok(port),
    }
}
