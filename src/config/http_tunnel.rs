//! Options of the HTTP tunnel.

use std::path::PathBuf;

use clap::{ArgAction, Args, builder::BoolishValueParser};

use crate::tunnel::{
    AddressRanges,
    http::{HttpConfig, Tls},
};

/// How bases reach modulet over HTTP.
#[derive(Args, Debug)]
pub(super) struct HttpTunnelArgs {
    /// Connect to bases over HTTP: bases post their heartbeats to modulet, and modulet posts commands to them
    #[arg(long, env = "ENABLE_HTTP_TUNNEL", default_value_t = false, action = ArgAction::Set, value_parser = BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    enable_http_tunnel: bool,

    /// Port for heartbeats of bases over HTTP
    #[arg(long, env = "HTTP_TUNNEL_LISTEN_PORT", default_value_t = 7777, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    http_tunnel_listen_port: u16,

    /// File with the secret that a heartbeat must carry in its header Authorization (Bearer, or Basic with any user); several lines: one of them. Read again for each heartbeat
    #[arg(long, env = "HTTP_TUNNEL_SECRET_FILE", value_name = "FILE")]
    http_tunnel_secret_file: Option<PathBuf>,

    /// PEM file of modulet's certificate. Serves heartbeats with TLS
    #[arg(long, env = "HTTP_TUNNEL_CRT_PATH", value_name = "FILE", requires = "http_tunnel_key_path")]
    http_tunnel_crt_path: Option<PathBuf>,

    /// PEM file of its key
    #[arg(long, env = "HTTP_TUNNEL_KEY_PATH", value_name = "FILE", requires = "http_tunnel_crt_path")]
    http_tunnel_key_path: Option<PathBuf>,

    /// PEM file of the authority of bases' certificates. Only who has one may beat
    #[arg(long, env = "HTTP_TUNNEL_CLIENT_CA_PATH", value_name = "FILE", requires = "http_tunnel_crt_path")]
    http_tunnel_client_ca_path: Option<PathBuf>,
}

impl HttpTunnelArgs {
    /// None: it is not switched on.
    pub(super) fn config(self, ranges: &AddressRanges) -> Option<HttpConfig> {
        let files = self.http_tunnel_crt_path.zip(self.http_tunnel_key_path);
        let clients = self.http_tunnel_client_ca_path;
        self.enable_http_tunnel.then(|| HttpConfig {
            port: self.http_tunnel_listen_port,
            ranges: ranges.clone(),
            secret: self.http_tunnel_secret_file,
            tls: files.map(|(certificate, key)| Tls { certificate, key, clients }),
        })
    }
}
